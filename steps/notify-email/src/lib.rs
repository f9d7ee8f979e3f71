#![doc = include_str!("../README.md")]

mod message;

use std::io::{Read as _, Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_sdk::{Context, Fail, JsonSchema, log, step, tcp};
use serde::{Deserialize, Serialize};

use self::message::{Address, Mail};

/// A mail, and who takes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The relay.
    pub relay: Relay,
    /// The sender: an address, or `Name <address>`.
    pub from: String,
    /// The receivers.
    #[schemars(length(min = 1, max = 100))]
    pub to: Vec<String>,
    /// One line.
    #[schemars(length(max = 500))]
    pub subject: String,
    /// The mail, plain text.
    #[schemars(length(max = 1_000_000))]
    pub text: String,
}

/// A relay.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// The host's name.
    pub host: String,
    /// The port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Whether the connection is encrypted by `STARTTLS`.
    #[serde(default)]
    pub start_tls: bool,
    /// Who logs in; left out: nobody, as the relay takes mail from this host without.
    #[schemars(length(min = 1, max = 200))]
    pub user: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The message's id.
    pub message_id: String,
    /// The relay's last line.
    pub answer: String,
}

/// The one login that shows the password to nobody.
const SCRAM: &str = "SCRAM-SHA-256";
/// Most bytes of one answer.
const MAX_ANSWER: usize = 16 << 10;

/// Sends it.
#[step]
pub fn notify_email(input: Input, context: &Context) -> Result<Output, Fail> {
    let address = |text: &String| {
        Address::parse(text).ok_or_else(|| Fail::new(format!("{text:?} is not a mail address")))
    };
    let from = address(&input.from)?;
    let to = input.to.iter().map(address).collect::<Result<Vec<_>, _>>()?;
    if to.is_empty() || to.len() > 100 {
        return Err(Fail::new("give 1 to 100 receivers in `to`"));
    }
    if input.subject.chars().any(char::is_control) {
        return Err(Fail::new("`subject` is more than one line"));
    }
    let domain = from.mail().rsplit('@').next().unwrap_or_default();
    let message_id = format!("{}@{domain}", context.idempotency_key());
    let mail = Mail {
        from: &from,
        to: &to,
        subject: &input.subject,
        text: &input.text,
        id: &message_id,
        now: context.now(),
    };
    let mut session = Session::open(&input.relay)?;
    session.expect("MAIL", &format!("MAIL FROM:<{}>", from.mail()), "2")?;
    for receiver in &to {
        session.expect("a receiver", &format!("RCPT TO:<{}>", receiver.mail()), "2")?;
    }
    session.expect("DATA", "DATA", "354")?;
    let answer = session.expect("the mail", &format!("{}.", mail.to_text()), "2")?;
    // It has taken the mail: how the goodbye goes is no matter.
    let _ = session.say("QUIT");
    log::info!("the relay has taken the mail", receivers = to.len());
    Ok(Output { message_id, answer })
}

/// A conversation after RFC 5321.
struct Session {
    connection: tcp::Connection,
    relay: String,
    /// What has come and was not looked at.
    rest: Vec<u8>,
}

impl Session {
    fn open(relay: &Relay) -> Result<Self, Fail> {
        let connection = tcp::connect(&relay.host, relay.port)?;
        let relay_name = format!("{}:{}", relay.host, relay.port);
        let mut session = Self { connection, relay: relay_name, rest: Vec::new() };
        session.answered("the greeting", "220")?;
        let mut features = session.expect("EHLO", "EHLO remit", "2")?;
        if relay.start_tls {
            if !features.to_ascii_uppercase().split_whitespace().any(|word| word == "STARTTLS") {
                return Err(Fail::new(format!("{}: the relay does not offer STARTTLS", session.relay)));
            }
            session.expect("STARTTLS", "STARTTLS", "220")?;
            if !session.rest.is_empty() {
                return Err(Fail::new(format!("{}: bytes came in the clear behind STARTTLS", session.relay)));
            }
            session.connection.start_tls()?;
            features = session.expect("EHLO", "EHLO remit", "2")?;
        }
        if let Some(user) = &relay.user {
            session.log_in(user, &features)?;
        }
        Ok(session)
    }

    /// Logs in after RFC 4954 and RFC 5802: the runner has the password, and what it makes of it proves it without showing it.
    fn log_in(&mut self, user: &str, features: &str) -> Result<(), Fail> {
        let named = |line: &str| {
            let mut words = line.split_whitespace();
            words.next().is_some_and(|first| first.eq_ignore_ascii_case("AUTH"))
                && words.any(|word| word == SCRAM)
        };
        if !features.lines().any(named) {
            return Err(Fail::new(format!(
                "{}: the relay does not offer {SCRAM}, the one login in which it is not shown the password",
                self.relay
            )));
        }
        if user.is_empty() || user.chars().any(char::is_control) {
            return Err(Fail::new("`relay.user` is no name"));
        }
        let mut random = [0; 18];
        getrandom::fill(&mut random).map_err(|_| Fail::new("there is no randomness"))?;
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={name},r={}", STANDARD.encode(random));
        let begun = format!("AUTH {SCRAM} {}", STANDARD.encode(format!("n,,{first}")));
        let asked = self.expect("the login", &begun, "334")?;
        let asked = self.decoded(&asked)?;
        let proof = self.connection.scram_sha_256(&first, &asked)?;
        let proved = self.expect("the login", &STANDARD.encode(&proof.answer), "334")?;
        if self.decoded(&proved)? != proof.expected {
            return Err(Fail::new(format!(
                "{}: the relay could not prove that it knows the password",
                self.relay
            )));
        }
        self.expect("the login", "", "235").map(drop)
    }

    fn decoded(&self, text: &str) -> Result<String, Fail> {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        bytes.ok_or_else(|| {
            Fail::new(format!("{}: what the relay says at the login is no text in base64", self.relay))
        })
    }

    fn say(&mut self, line: &str) -> Result<(), Fail> {
        let sent = self.connection.write_all(format!("{line}\r\n").as_bytes());
        sent.map_err(|error| Fail::new(format!("{}: {error}", self.relay)))
    }

    /// Says a line and waits for an answer whose code begins like this; gives the answer's text.
    fn expect(&mut self, what: &str, line: &str, code: &str) -> Result<String, Fail> {
        self.say(line)?;
        self.answered(what, code)
    }

    fn answered(&mut self, what: &str, code: &str) -> Result<String, Fail> {
        let mut text = String::new();
        loop {
            let line = self.line(what)?;
            let last = line.as_bytes().get(3) != Some(&b'-');
            text.push_str(line.get(4..).unwrap_or_default());
            if last && line.starts_with(code) {
                return Ok(text);
            }
            if last {
                return Err(Fail::new(format!("{}: the relay refused {what}: {line}", self.relay)));
            }
            text.push('\n');
            if text.len() > MAX_ANSWER {
                return Err(Fail::new(format!("{}: an answer without an end", self.relay)));
            }
        }
    }

    fn line(&mut self, what: &str) -> Result<String, Fail> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let mut piece = [0; 4096];
            let read = self.connection.read(&mut piece);
            let length = read.map_err(|error| Fail::new(format!("{}: {error}", self.relay)))?;
            if length == 0 || self.rest.len() > MAX_ANSWER {
                return Err(Fail::new(format!("{}: the relay broke off at {what}", self.relay)));
            }
            self.rest.extend(piece.iter().take(length));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use remit_sdk::fake::Fake;
    use serde_json::{Value, json};

    use super::*;

    /// A relay that answers each line by `answers`, and keeps what it heard.
    fn relay(answers: fn(&str) -> &'static str) -> (Fake, Rc<RefCell<String>>) {
        let heard = Rc::new(RefCell::new(String::new()));
        let kept = Rc::clone(&heard);
        let fake = Fake::new().tcp("mail.a.example", 25, move |bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            kept.borrow_mut().push_str(&text);
            match text.as_str() {
                "" => b"220-hello\r\n220 mail.a.example\r\n".to_vec(),
                line => answers(line).as_bytes().to_vec(),
            }
        });
        (fake, heard)
    }

    fn usual(line: &str) -> &'static str {
        match line.split([' ', '\r']).next().unwrap_or_default() {
            "EHLO" => "250-mail.a.example\r\n250-STARTTLS\r\n250 8BITMIME\r\n",
            "STARTTLS" => "220 go ahead\r\n",
            "DATA" => "354 go\r\n",
            _ => "250 ok\r\n",
        }
    }

    fn input(change: &str, value: Value) -> Value {
        let mut input = json!({
            "relay": {"host": "mail.a.example", "port": 25}, "from": "Remit <r@a.example>",
            "to": ["o@a.example", "p@a.example"], "subject": "hello", "text": "it's so",
        });
        input[change] = value;
        input
    }

    #[test]
    fn a_mail_is_handed_over_after_every_receiver_was_taken() {
        let (fake, heard) = relay(usual);
        let run = fake.call(notify_email, &input("text", json!("it's so")));
        assert_eq!(run.result.unwrap()["answer"], "ok");
        assert_eq!(run.encrypted, []);
        let heard = heard.borrow();
        let at = |part: &str| heard.find(part).unwrap_or_else(|| panic!("{part}: {heard}"));
        assert!(at("MAIL FROM:<r@a.example>") < at("RCPT TO:<o@a.example>"));
        assert!(at("RCPT TO:<p@a.example>") < at("DATA\r\n"));
        assert!(heard.ends_with("\r\n.\r\nQUIT\r\n"), "{heard}");
    }

    #[test]
    fn starttls_is_done_or_the_step_fails() {
        let (fake, heard) = relay(usual);
        let run = fake.call(
            notify_email,
            &input("relay", json!({"host": "mail.a.example", "port": 25, "start_tls": true})),
        );
        assert!(run.result.is_ok());
        assert_eq!(run.encrypted, [("mail.a.example".to_owned(), 25)]);
        assert_eq!(heard.borrow().matches("EHLO").count(), 2);
        let (fake, _) = relay(|_| "250 ok\r\n");
        let run = fake.call(
            notify_email,
            &input("relay", json!({"host": "mail.a.example", "port": 25, "start_tls": true})),
        );
        assert!(run.result.unwrap_err().message().contains("does not offer STARTTLS"));
        let (fake, _) =
            relay(|line| if line.starts_with("STARTTLS") { "220 go\r\n250 mine\r\n" } else { usual(line) });
        let run = fake.call(
            notify_email,
            &input("relay", json!({"host": "mail.a.example", "port": 25, "start_tls": true})),
        );
        assert!(run.result.unwrap_err().message().contains("in the clear"));
    }

    /// A relay that knows a password, of which the runner makes `proof`.
    fn guarded(line: &str) -> &'static str {
        match line {
            line if line.starts_with("EHLO") => {
                "250-mail.a.example\r\n250-STARTTLS\r\n250-AUTH PLAIN SCRAM-SHA-256\r\n250 8BITMIME\r\n"
            }
            // `r=server,s=c2FsdA==,i=4096`
            line if line.starts_with("AUTH SCRAM-SHA-256 ") => "334 cj1zZXJ2ZXIscz1jMkZzZEE9PSxpPTQwOTY=\r\n",
            // `proof`, and for it `v=known`
            "cHJvb2Y=\r\n" => "334 dj1rbm93bg==\r\n",
            "\r\n" => "235 welcome\r\n",
            line => usual(line),
        }
    }

    fn logs_in() -> Value {
        input("relay", json!({"host": "mail.a.example", "port": 25, "start_tls": true, "user": "re,mit"}))
    }

    fn proving(fake: Fake, expected: &'static str) -> Fake {
        fake.scram("mail.a.example", 25, move |first, asked| {
            assert!(first.starts_with("n=re=2Cmit,r="), "{first}");
            assert_eq!(asked, "r=server,s=c2FsdA==,i=4096");
            tcp::Proof { answer: "proof".to_owned(), expected: expected.to_owned() }
        })
    }

    #[test]
    fn a_login_proves_the_password_and_does_not_show_it() {
        let (fake, heard) = relay(guarded);
        let run = proving(fake, "v=known").call(notify_email, &logs_in());
        assert_eq!(run.result.unwrap()["answer"], "ok");
        let heard = heard.borrow();
        let begun = heard.lines().find_map(|line| line.strip_prefix("AUTH SCRAM-SHA-256 ")).unwrap();
        assert!(STANDARD.decode(begun).unwrap().starts_with(b"n,,n=re=2Cmit,r="));
        assert!(heard.find("cHJvb2Y=").unwrap() < heard.find("MAIL FROM").unwrap());
    }

    #[test]
    fn a_login_that_does_not_come_about_is_said_and_no_mail_is_sent() {
        fn check(answers: fn(&str) -> &'static str, expected: &'static str, part: &str) {
            let (fake, heard) = relay(answers);
            let fail = proving(fake, expected).call(notify_email, &logs_in()).result.unwrap_err();
            assert!(fail.message().contains(part), "{fail}");
            assert!(!heard.borrow().contains("MAIL FROM"), "{}", heard.borrow());
        }
        check(usual, "v=known", "does not offer SCRAM-SHA-256");
        check(guarded, "v=other", "could not prove that it knows the password");
        let closed = |line: &str| if line == "cHJvb2Y=\r\n" { "535 5.7.8 no\r\n" } else { guarded(line) };
        check(closed, "v=known", "refused the login: 535 5.7.8 no");
        let odd = |line: &str| if line.starts_with("AUTH") { "334 ***\r\n" } else { guarded(line) };
        check(odd, "v=known", "is no text in base64");
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        fn check(answers: fn(&str) -> &'static str, input: Value, part: &str) {
            let (fake, heard) = relay(answers);
            let fail = fake.call(notify_email, &input).result.unwrap_err();
            assert!(fail.message().contains(part), "{fail}");
            assert!(!heard.borrow().contains("DATA"), "{}", heard.borrow());
        }
        check(usual, input("to", json!(["o@a.example\r\nRCPT TO:<x@y>"])), "is not a mail address");
        check(usual, input("to", json!([])), "1 to 100 receivers");
        check(usual, input("subject", json!("a\nBcc: x@y")), "more than one line");
        check(usual, input("from", json!("nobody")), "is not a mail address");
        let picky = |line: &str| if line.contains("<p@") { "550 no such user\r\n" } else { usual(line) };
        check(picky, input("text", json!("x")), "refused a receiver: 550 no such user");
        check(|_| "", input("text", json!("x")), "broke off at EHLO");
    }
}
