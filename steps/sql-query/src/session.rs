//! A conversation with a PostgreSQL server: version 3 of its protocol, see "Frontend/Backend Protocol" in its manual.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    IsNull,
    message::{
        backend::{CommandCompleteBody, DataRowBody, ErrorFields, Header, Message, RowDescriptionBody},
        frontend,
    },
};
use remit_sdk::{Fail, log, tcp};
use serde_json::{Map, Value};

use crate::{Column, Output, Server, Tls, value};

/// Longest message of the server.
const MAX_MESSAGE: usize = 8 << 20;
/// The one way to prove a password.
const SCRAM: &str = "SCRAM-SHA-256";

/// How much is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) rows: u32,
    pub(crate) bytes: u32,
}

pub(crate) struct Session {
    connection: tcp::Connection,
    /// Host and port, for people.
    place: String,
    /// What has come and was not looked at.
    rest: BytesMut,
    /// What was asked and not sent.
    waiting: BytesMut,
}

impl Session {
    /// Connects, encrypts, logs in.
    pub(crate) fn open(server: &Server, user: &str, database: &str) -> Result<Self, Fail> {
        let connection = tcp::connect(&server.host, server.port)?;
        let place = format!("{}:{}", server.host, server.port);
        let mut session = Self { connection, place, rest: BytesMut::new(), waiting: BytesMut::new() };
        if server.tls == Tls::Required {
            session.encrypt()?;
        }
        let parameters = [
            ("user", user),
            ("database", database),
            ("client_encoding", "UTF8"),
            ("application_name", "remit"),
        ];
        let written = frontend::startup_message(parameters, &mut session.waiting);
        session.sound(written)?;
        session.send()?;
        session.log_in()?;
        session.ready()?;
        Ok(session)
    }

    fn fail(&self, why: impl std::fmt::Display) -> Fail {
        Fail::new(format!("{}: {why}", self.place))
    }

    fn sound<T>(&self, written: std::io::Result<T>) -> Result<T, Fail> {
        written.map_err(|error| self.fail(error))
    }

    fn encrypt(&mut self) -> Result<(), Fail> {
        frontend::ssl_request(&mut self.waiting);
        self.send()?;
        // One byte and no more: what comes after it is TLS.
        let mut answer = [0];
        let read = self.connection.read(&mut answer);
        match (self.sound(read)?, answer) {
            (1, [b'S']) => Ok(self.connection.start_tls()?),
            (1, [b'N']) => Err(self.fail(
                "the server offers no TLS: let it (`ssl = on`), or write `tls: never` in `server` and in the grant",
            )),
            _ => Err(self.fail("the other side is no PostgreSQL server")),
        }
    }

    fn send(&mut self) -> Result<(), Fail> {
        let waiting = self.waiting.split();
        let sent = self.connection.write_all(&waiting);
        self.sound(sent)
    }

    /// The next message that is an answer; what the server tells beside is logged or dropped.
    fn next(&mut self) -> Result<Message, Fail> {
        loop {
            // Its length is looked at first, so that nobody waits, or makes room, for a message without an end.
            let head = Header::parse(&self.rest);
            let length =
                self.sound(head)?.map_or(0, |head| usize::try_from(head.len()).unwrap_or(usize::MAX));
            if length > MAX_MESSAGE {
                return Err(self.fail("a message of the server is longer than 8 MiB"));
            }
            let parsed = Message::parse(&mut self.rest);
            match self.sound(parsed)? {
                Some(Message::NoticeResponse(notice)) => {
                    let text = words(notice.fields()).message;
                    log::info!("the server says: {text}");
                }
                Some(
                    Message::ParameterStatus(_)
                    | Message::NotificationResponse(_)
                    | Message::BackendKeyData(_),
                ) => {}
                Some(Message::ErrorResponse(error)) => return Err(self.refused(error.fields())),
                Some(message) => return Ok(message),
                None => {
                    let mut piece = vec![0; 64 << 10];
                    let read = self.connection.read(&mut piece);
                    let length = self.sound(read)?;
                    if length == 0 {
                        return Err(self.fail("the server closed the connection"));
                    }
                    self.rest.extend_from_slice(piece.get(..length).unwrap_or_default());
                }
            }
        }
    }

    fn refused(&self, fields: ErrorFields<'_>) -> Fail {
        let Words { message, named } = words(fields);
        let fail = self.fail(message);
        named.into_iter().fold(fail, |fail, (name, text)| fail.with(name, text))
    }

    fn log_in(&mut self) -> Result<(), Fail> {
        match self.next()? {
            Message::AuthenticationOk => Ok(()),
            Message::AuthenticationSasl(body) => {
                let offered: Result<Vec<String>, _> = body.mechanisms().map(|name| Ok(name.to_owned())).collect();
                if !self.sound(offered)?.iter().any(|name| name == SCRAM) {
                    return Err(self.fail("the server does not offer SCRAM-SHA-256"));
                }
                self.prove()
            }
            Message::AuthenticationMd5Password(_) => Err(self.fail(
                "the server wants the password as MD5, which is not done: set `password_encryption = 'scram-sha-256'` there and the password anew",
            )),
            Message::AuthenticationCleartextPassword => Err(self.fail(
                "the server wants the password itself, which is not done: write `scram-sha-256` for this user in pg_hba.conf",
            )),
            _ => Err(self.fail("the server wants a log-in that is none by password: write `scram-sha-256` for this user in pg_hba.conf")),
        }
    }

    /// SCRAM: the runner has the password, and what it makes of it proves it without showing it.
    fn prove(&mut self) -> Result<(), Fail> {
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(|_| self.fail("there is no randomness"))?;
        // The name is the one of the first message; the server does not read another one.
        let first = format!("n=,r={}", STANDARD.encode(random));
        let written =
            frontend::sasl_initial_response(SCRAM, format!("n,,{first}").as_bytes(), &mut self.waiting);
        self.sound(written)?;
        self.send()?;
        let Message::AuthenticationSaslContinue(body) = self.next()? else { return Err(self.unexpected()) };
        let asked = String::from_utf8_lossy(body.data()).into_owned();
        let proof = self.connection.scram_sha_256(&first, &asked)?;
        let written = frontend::sasl_response(proof.answer.as_bytes(), &mut self.waiting);
        self.sound(written)?;
        self.send()?;
        let Message::AuthenticationSaslFinal(body) = self.next()? else { return Err(self.unexpected()) };
        if body.data() != proof.expected.as_bytes() {
            return Err(self.fail("the server could not prove that it knows the password"));
        }
        match self.next()? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    fn unexpected(&self) -> Fail {
        self.fail("the server's answer is none to what was asked")
    }

    fn ready(&mut self) -> Result<(), Fail> {
        loop {
            if let Message::ReadyForQuery(_) = self.next()? {
                return Ok(());
            }
        }
    }

    /// A statement of this file, without values.
    fn simple(&mut self, sql: &str) -> Result<(), Fail> {
        let written = frontend::query(sql, &mut self.waiting);
        self.sound(written)?;
        self.send()?;
        self.ready()
    }

    /// Begins a transaction. What the server does for it ends with the time that is left.
    pub(crate) fn begin(&mut self, write: bool, left: Duration) -> Result<(), Fail> {
        let how = if write { "READ WRITE" } else { "READ ONLY" };
        let left = left.as_millis().clamp(1, 86_400_000);
        self.simple(&format!(
            "BEGIN {how}; SET LOCAL statement_timeout = {left}; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres'"
        ))
    }

    /// Ends the transaction, and says goodbye.
    pub(crate) fn end(mut self, how: &str) -> Result<(), Fail> {
        self.simple(how)?;
        frontend::terminate(&mut self.waiting);
        // It is done: how the goodbye goes is no matter.
        let _ = self.send();
        Ok(())
    }

    /// Runs one statement. Its values travel beside it.
    pub(crate) fn run(
        &mut self,
        sql: &str,
        values: &[Option<String>],
        bounds: Bounds,
    ) -> Result<Output, Fail> {
        if sql.contains('\0') {
            return Err(Fail::new("`sql` holds the character U+0000"));
        }
        let most = i32::try_from(bounds.rows).unwrap_or(i32::MAX).saturating_add(1);
        let buffer = &mut self.waiting;
        let written =
            frontend::parse("", sql, [], buffer).and_then(|()| frontend::describe(b'S', "", buffer));
        frontend::flush(&mut self.waiting);
        self.sound(written)?;
        self.send()?;
        let (wanted, columns) = self.described()?;
        if wanted != values.len() {
            let given = values.len();
            return Err(
                self.fail(format_args!("the statement has {wanted} places for values, and `values` {given}"))
            );
        }
        let text = |value: &Option<String>, buffer: &mut BytesMut| {
            Ok(match value {
                None => IsNull::Yes,
                Some(text) => {
                    buffer.extend_from_slice(text.as_bytes());
                    IsNull::No
                }
            })
        };
        let bound = frontend::bind("", "", [], values, text, [], &mut self.waiting);
        bound.map_err(|_| self.fail("the values are too long"))?;
        let written = frontend::execute("", most, &mut self.waiting);
        frontend::sync(&mut self.waiting);
        self.sound(written)?;
        self.send()?;
        self.rows(columns, bounds)
    }

    /// How many values a statement wants, and what it gives.
    fn described(&mut self) -> Result<(usize, Vec<Column>), Fail> {
        let mut wanted = 0;
        loop {
            match self.next()? {
                Message::ParseComplete => {}
                Message::ParameterDescription(body) => {
                    let count = body.parameters().count();
                    wanted = self.sound(count)?;
                }
                Message::NoData => return Ok((wanted, Vec::new())),
                Message::RowDescription(body) => return Ok((wanted, self.columns(&body)?)),
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn columns(&self, body: &RowDescriptionBody) -> Result<Vec<Column>, Fail> {
        let columns = body.fields().map(|field| {
            Ok(Column { name: field.name().to_owned(), kind: value::kind(field.type_oid()).to_owned() })
        });
        let columns: Vec<Column> = self.sound(columns.collect())?;
        for (at, column) in columns.iter().enumerate() {
            if columns.iter().take(at).any(|before| before.name == column.name) {
                let name = &column.name;
                return Err(
                    self.fail(format_args!("two columns are called {name:?}: give one another name with AS"))
                );
            }
        }
        Ok(columns)
    }

    fn rows(&mut self, columns: Vec<Column>, bounds: Bounds) -> Result<Output, Fail> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let most = usize::try_from(bounds.rows).unwrap_or(usize::MAX);
        let many = |session: &Self| {
            session.fail(format_args!(
                "there are more than {} rows: ask for less with LIMIT, or raise `max_rows`",
                bounds.rows
            ))
        };
        let command = loop {
            match self.next()? {
                Message::BindComplete => {}
                Message::DataRow(body) => {
                    bytes += body.buffer().len();
                    if bytes > usize::try_from(bounds.bytes).unwrap_or(usize::MAX) {
                        return Err(self.fail(format_args!(
                            "the rows have more than {} bytes: ask for less, or raise `max_bytes`",
                            bounds.bytes
                        )));
                    }
                    if rows.len() == most {
                        return Err(many(self));
                    }
                    rows.push(self.row(&columns, &body)?);
                }
                Message::PortalSuspended => return Err(many(self)),
                Message::EmptyQueryResponse => return Err(self.fail("`sql` holds no statement")),
                Message::CommandComplete(body) => break self.command(&body)?,
                Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                    return Err(self.fail("COPY is not done by this step"));
                }
                _ => return Err(self.unexpected()),
            }
        };
        self.ready()?;
        let affected = command.rsplit(' ').next().and_then(|word| word.parse().ok());
        Ok(Output { columns, rows, command, affected })
    }

    fn command(&self, body: &CommandCompleteBody) -> Result<String, Fail> {
        self.sound(body.tag()).map(str::to_owned)
    }

    fn row(&self, columns: &[Column], body: &DataRowBody) -> Result<Map<String, Value>, Fail> {
        let ranges = body.ranges().collect::<Vec<_>>();
        let ranges = self.sound(ranges)?;
        if ranges.len() != columns.len() {
            return Err(self.unexpected());
        }
        let mut row = Map::new();
        for (column, range) in columns.iter().zip(ranges) {
            let found = match range.and_then(|range| body.buffer().get(range)) {
                None => Value::Null,
                Some(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => value::read(&column.kind, text.to_owned()),
                    Err(_) => return Err(self.fail(format_args!("the column {:?} is not text", column.name))),
                },
            };
            row.insert(column.name.clone(), found);
        }
        Ok(row)
    }
}

/// What a server says of an error or a notice.
struct Words {
    message: String,
    named: Vec<(&'static str, String)>,
}

fn words(mut fields: ErrorFields<'_>) -> Words {
    let mut words = Words { message: "the server gives no reason".to_owned(), named: Vec::new() };
    while let Ok(Some(field)) = fields.next() {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        let name = match field.type_() {
            b'M' => {
                words.message = text;
                continue;
            }
            b'C' => "sqlstate",
            b'D' => "detail",
            b'H' => "hint",
            b'P' => "position",
            _ => continue,
        };
        words.named.push((name, text));
    }
    words
}
