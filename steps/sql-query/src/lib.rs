#![doc = include_str!("../README.md")]

mod session;
mod value;

use remit_sdk::{Context, Fail, JsonSchema, log, step};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::session::{Bounds, Session};

/// One statement, and where it is run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The server.
    pub server: Server,
    /// The database.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// The user that is logged in as.
    #[schemars(length(min = 1, max = 63))]
    pub user: String,
    /// One statement; values stand in it as `$1`, `$2` and so on.
    #[schemars(length(min = 1, max = 100_000))]
    pub sql: String,
    /// The values, in order: texts, numbers, true, false, null; lists and objects for `json`.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub values: Vec<Value>,
    /// Whether the statement may change anything. Without it the server itself refuses a change.
    #[serde(default)]
    pub write: bool,
    /// Most rows; with one more the step fails.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_rows: u32,
    /// Most bytes of all rows, as the server sends them; with one more the step fails.
    #[serde(default = "quarter")]
    #[schemars(range(min = 1, max = 2_097_152))]
    pub max_bytes: u32,
}

/// A server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The host's name.
    pub host: String,
    /// The port.
    #[serde(default = "usual_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub tls: Tls,
}

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// It is, or the step fails.
    #[default]
    Required,
    /// It is not.
    Never,
}

/// What came of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The columns, in order; empty for a statement that gives none.
    pub columns: Vec<Column>,
    /// The rows: each an object of values by column.
    pub rows: Vec<Map<String, Value>>,
    /// What the server says that it did, such as `UPDATE 3`.
    pub command: String,
    /// How many rows that is, where the server says so.
    pub affected: Option<u64>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, by the name that PostgreSQL has for it; `other` for one that is not built in.
    #[serde(rename = "type")]
    pub kind: String,
}

fn usual_port() -> u16 {
    5432
}

fn thousand() -> u32 {
    1000
}

fn quarter() -> u32 {
    256 << 10
}

/// Runs the statement, in a transaction of its own.
#[step]
pub fn sql_query(input: Input, context: &Context) -> Result<Output, Fail> {
    let most = (1..=10_000, 1..=2 << 20);
    if !most.0.contains(&input.max_rows) || !most.1.contains(&input.max_bytes) {
        return Err(Fail::new("`max_rows` is 1 to 10000, `max_bytes` 1 to 2097152"));
    }
    let values = input.values.iter().map(value::bound).collect::<Result<Vec<_>, _>>()?;
    let mut session = Session::open(&input.server, &input.user, &input.database)?;
    session.begin(input.write, context.remaining())?;
    let bounds = Bounds { rows: input.max_rows, bytes: input.max_bytes };
    let found = session.run(&input.sql, &values, bounds)?;
    session.end(if input.write { "COMMIT" } else { "ROLLBACK" })?;
    let command = &found.command;
    log::info!("{command}", rows = found.rows.len());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use remit_sdk::{Refusal, fake::Fake, tcp::Proof};
    use serde_json::json;

    use super::*;

    const HOST: &str = "db.a.example";

    /// A message of the server.
    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn log_in(number: u32, rest: &[u8]) -> Vec<u8> {
        message(b'R', &[&number.to_be_bytes()[..], rest].concat())
    }

    fn done(tag: &str) -> Vec<u8> {
        message(b'C', format!("{tag}\0").as_bytes())
    }

    fn ready() -> Vec<u8> {
        message(b'Z', b"T")
    }

    /// The columns `n` (int4) and `t` (text).
    fn columns() -> Vec<u8> {
        let column =
            |name: &str, kind: u32| [name.as_bytes(), &[0; 7], &kind.to_be_bytes(), &[0; 8]].concat();
        message(b'T', &[&[0, 2][..], &column("n", 23), &column("t", 25)].concat())
    }

    fn row(number: &str, text: Option<&str>) -> Vec<u8> {
        let value =
            |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let text = text.map_or(vec![0xff; 4], value);
        message(b'D', &[&[0, 2][..], &value(number), &text].concat())
    }

    fn error(code: &str, text: &str) -> Vec<u8> {
        message(b'E', format!("SERROR\0C{code}\0M{text}\0P8\0\0").as_bytes())
    }

    /// What a server says to each thing that it is asked; nothing: as usual.
    type Says = fn(&[u8]) -> Option<Vec<u8>>;

    fn usual(asked: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(asked);
        match asked.first().copied().unwrap_or_default() {
            _ if asked.is_empty() => Vec::new(),
            0 if asked.len() == 8 => b"S".to_vec(),
            0 => log_in(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            b'p' if text.contains("n,,n=,r=") => log_in(11, b"r=both,s=c2FsdA==,i=4096"),
            b'p' => [log_in(12, b"v=proved"), log_in(0, b""), message(b'K', &[0; 8]), ready()].concat(),
            b'Q' if text.contains("BEGIN") => [done("BEGIN"), done("SET"), ready()].concat(),
            b'Q' => [done("COMMIT"), ready()].concat(),
            b'P' => [message(b'1', b""), message(b't', &[0, 1, 0, 0, 0, 25]), columns()].concat(),
            b'B' => [message(b'2', b""), row("1", Some("it's")), row("2", None), done("SELECT 2"), ready()]
                .concat(),
            _ => Vec::new(),
        }
    }

    /// Whether that is a client's first message.
    fn begins(asked: &[u8]) -> bool {
        asked.len() > 8 && asked.first() == Some(&0)
    }

    fn server(says: Says) -> (Fake, Rc<RefCell<Vec<Vec<u8>>>>) {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&heard);
        let fake = Fake::new().tcp(HOST, 5432, move |bytes| {
            kept.borrow_mut().push(bytes.to_vec());
            says(bytes).unwrap_or_else(|| usual(bytes))
        });
        let fake = fake.scram(HOST, 5432, |first, asked| {
            assert!(first.starts_with("n=,r=") && first.len() > 20, "{first}");
            assert_eq!(asked, "r=both,s=c2FsdA==,i=4096");
            Proof { answer: "c=biws,r=both,p=x".to_owned(), expected: "v=proved".to_owned() }
        });
        (fake, heard)
    }

    fn input(change: &str, value: Value) -> Value {
        let mut input = json!({
            "server": {"host": HOST}, "database": "shop", "user": "app",
            "sql": "SELECT n, t FROM x WHERE t = $1", "values": ["'; drop table x; --"],
        });
        input[change] = value;
        input
    }

    #[test]
    fn rows_come_back_typed_and_values_travel_beside_the_statement() {
        let (fake, heard) = server(|_| None);
        let run = fake.call(sql_query, &input("max_rows", json!(2)));
        let output = run.result.unwrap();
        assert_eq!(output["columns"], json!([{"name": "n", "type": "int4"}, {"name": "t", "type": "text"}]));
        assert_eq!(output["rows"], json!([{"n": 1, "t": "it's"}, {"n": 2, "t": null}]));
        assert_eq!((&output["command"], &output["affected"]), (&json!("SELECT 2"), &json!(2)));
        assert_eq!(run.encrypted, [(HOST.to_owned(), 5432)]);
        let heard = heard.borrow();
        let of = |tag: u8| heard.iter().find(|part| part.first() == Some(&tag)).unwrap();
        let holds = |part: &[u8], text: &str| String::from_utf8_lossy(part).contains(text);
        assert!(holds(of(b'Q'), "BEGIN READ ONLY; SET LOCAL statement_timeout = "));
        assert!(
            holds(of(b'P'), "t = $1") && !holds(of(b'P'), "drop") && holds(of(b'B'), "'; drop table x; --")
        );
        assert!(heard.iter().any(|part| holds(part, "ROLLBACK")));
        assert!(heard.iter().all(|part| !holds(part, "COMMIT")));
    }

    #[test]
    fn a_change_is_kept_only_where_the_job_says_write() {
        let (fake, heard) = server(|asked| match asked.first() {
            Some(b'P') => {
                Some([message(b'1', b""), message(b't', &[0, 1, 0, 0, 0, 25]), message(b'n', b"")].concat())
            }
            Some(b'B') => Some([message(b'2', b""), done("UPDATE 3"), ready()].concat()),
            _ => None,
        });
        let output = fake.call(sql_query, &input("write", json!(true))).result.unwrap();
        assert_eq!((&output["affected"], &output["rows"]), (&json!(3), &json!([])));
        let said: Vec<_> =
            heard.borrow().iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        assert!(said.iter().any(|part| part.contains("BEGIN READ WRITE")));
        assert!(said.iter().any(|part| part.contains("COMMIT")));
    }

    #[test]
    fn what_does_not_work_is_said() {
        fn check(says: Says, input: Value, part: &str) {
            let (fake, heard) = server(says);
            let fail = fake.call(sql_query, &input).result.unwrap_err();
            assert!(fail.to_string().contains(part), "{fail}");
            assert!(heard.borrow().iter().all(|part| !String::from_utf8_lossy(part).contains("COMMIT")));
        }
        let plain = || input("user", json!("app"));
        check(|asked| (asked.len() == 8).then(|| b"N".to_vec()), plain(), "the server offers no TLS");
        check(|asked| (asked.len() == 8).then(|| b"X".to_vec()), plain(), "no PostgreSQL server");
        check(|asked| begins(asked).then(|| log_in(5, &[0; 4])), plain(), "as MD5");
        check(|asked| begins(asked).then(|| log_in(3, b"")), plain(), "the password itself");
        check(|asked| begins(asked).then(|| log_in(7, b"")), plain(), "none by password");
        check(|asked| begins(asked).then(|| log_in(10, b"OTHER\0\0")), plain(), "does not offer SCRAM");
        let forged: Says =
            |asked| (asked.first() == Some(&b'p') && asked.ends_with(b"p=x")).then(|| log_in(12, b"v=other"));
        check(forged, plain(), "could not prove that it knows");
        let refused: Says =
            |asked| (asked.first() == Some(&b'P')).then(|| error("42P01", "relation \"x\" does not exist"));
        check(refused, plain(), "relation \"x\" does not exist (sqlstate = 42P01, position = 8)");
        check(|_| None, input("values", json!([])), "the statement has 1 places for values, and `values` 0");
        check(|_| None, input("values", json!(["a\0b"])), "U+0000");
        check(|_| None, input("max_rows", json!(1)), "more than 1 rows");
        check(|_| None, input("max_rows", json!(0)), "`max_rows` is 1 to 10000");
        check(|_| None, input("max_bytes", json!(20)), "more than 20 bytes");
        check(|asked| (asked.first() == Some(&b'B')).then(|| message(b'I', b"")), plain(), "no statement");
        check(
            |asked| (asked.first() == Some(&b'B')).then(|| message(b'G', &[0, 0, 0])),
            plain(),
            "COPY is not done",
        );
        check(
            |asked| (asked.first() == Some(&b'B')).then(|| b"D\x7f\xff\xff\xff".to_vec()),
            plain(),
            "longer than 8 MiB",
        );
        check(
            |asked| (asked.first() == Some(&b'B')).then(|| b"D\0\0\0\x01".to_vec()),
            plain(),
            "invalid message length",
        );
        check(|asked| (asked.first() == Some(&b'B')).then(Vec::new), plain(), "closed the connection");
    }

    #[test]
    fn without_tls_only_if_the_job_says_so() {
        let (fake, heard) = server(|asked| match asked.first() {
            Some(0) => Some([log_in(0, b""), ready()].concat()),
            _ => None,
        });
        let run = fake.call(sql_query, &input("server", json!({"host": HOST, "tls": "never"})));
        assert!(run.result.is_ok());
        assert_eq!(run.encrypted, []);
        assert!(heard.borrow().iter().all(|part| part.len() != 8));
        let fake = Fake::new().no_tcp(HOST, 5432, Refusal::Denied("tcp db.a.example:5432".to_owned()));
        let fail = fake.call(sql_query, &input("user", json!("app"))).result.unwrap_err();
        assert!(fail.message().contains("not allowed by this step's remit"), "{fail}");
    }
}
