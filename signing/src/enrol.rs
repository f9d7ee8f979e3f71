//! Enrolment: a ticket and a new key become a runner.
//!
//! The runner's `remit/enrol/v1` note carries two signatures over one text, by the ticket's key and by its own new key: no
//! middlebox can put another key in. The orchestrator's `remit/enrolled/v1` note binds itself to that text and is signed by
//! the answer key that the ticket pins, so the runner never takes its trust from the wire. That a ticket is used once is
//! the store's to see to; `issued` is told for the record, since a new host's clock may be wrong.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_protocol::{Digest, RunnerId, RunnerName, Session, TicketId, Timestamp};

use crate::{
    Refusal, SigningKey,
    http::Audience,
    key::{KeyName, PublicKey, strict_base64},
    note::{self, Fields, NoteKind, TextWriter, UnverifiedNote},
    ticket::{self, Ticket},
};

/// The name under which a runner's key signs its enrolment.
const NEW_RUNNER: &str = "runner/new";
/// The name under which an orchestrator's answer key signs notes.
const ANSWER_KEY: &str = "orchestrator/answer";

/// Why an enrolment note, or the answer to one, is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolFault {
    /// Not of the exact form.
    #[error("the enrolment note is malformed: {0}")]
    Malformed(String),
    /// Not signed by the ticket.
    #[error("the enrolment is not signed by this ticket")]
    Ticket,
    /// Not signed by the key that it names.
    #[error("the enrolment is not signed by the new runner's key")]
    Identity,
    /// Not by the orchestrator that the ticket names.
    #[error(
        "the answer is not signed by the orchestrator that made the ticket: something between them answered instead"
    )]
    AnswerKey,
    /// To somebody else's request.
    #[error("the answer belongs to another enrolment")]
    OtherRequest,
}

fn malformed(refusal: Refusal) -> EnrolFault {
    EnrolFault::Malformed(refusal.detail)
}

/// A runner's request, ready to send, and what its answer has to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolRequest {
    note: Vec<u8>,
    identity: Digest,
    runner_key: PublicKey,
    answer_key: Digest,
}

impl EnrolRequest {
    /// Asks for enrolment of `key` with `ticket`. `nonce` is 16 random bytes; of `hostname`, what is not a letter, digit,
    /// dot or dash is left out.
    ///
    /// # Errors
    /// [`EnrolFault::Malformed`] if nothing of the hostname is left.
    pub fn new(
        ticket: &Ticket,
        key: &SigningKey,
        hostname: &str,
        nonce: [u8; 16],
        now: Timestamp,
    ) -> Result<Self, EnrolFault> {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let hostname: String = hostname.chars().filter(plain).take(253).collect();
        let text = TextWriter::new(NoteKind::Enrol)
            .line("ticket", ticket.id())
            .line("identity", key.public().to_base64())
            .line("hostname", hostname)
            .line("nonce", STANDARD.encode(nonce))
            .time("issued", now)
            .finish();
        let own = key.renamed(KeyName::fixed(NEW_RUNNER.to_owned()));
        let note = note::sign(&text, &[&ticket.key(), &own]).map_err(malformed)?;
        let identity = Digest::of(text.as_bytes());
        Ok(Self { note, identity, runner_key: key.public(), answer_key: ticket.answer_key() })
    }

    /// The note's bytes.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// Reads the orchestrator's answer to this request.
    ///
    /// # Errors
    /// An [`EnrolFault`] if it is not signed by the key that the ticket pins, or answers something else.
    pub fn read_answer(&self, answer: &[u8]) -> Result<Enrolled, EnrolFault> {
        let note = UnverifiedNote::parse_as(NoteKind::Enrolled, answer).map_err(malformed)?;
        let enrolled = Enrolled::parse(&note).map_err(malformed)?;
        if enrolled.answer_key.fingerprint() != self.answer_key {
            return Err(EnrolFault::AnswerKey);
        }
        let key = enrolled.answer_key.named(KeyName::fixed(ANSWER_KEY.to_owned()));
        match note.signed_by([&key]) {
            Ok(signed) if signed.len() == 1 => {}
            _ => return Err(EnrolFault::AnswerKey),
        }
        if enrolled.request != self.identity || enrolled.identity != self.runner_key {
            return Err(EnrolFault::OtherRequest);
        }
        Ok(enrolled)
    }
}

/// An enrolment as it came in; only its form is known to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedEnrolment {
    note: UnverifiedNote,
    ticket: TicketId,
    identity: PublicKey,
    hostname: String,
    issued: Timestamp,
}

impl UnverifiedEnrolment {
    /// Reads the note's bytes.
    ///
    /// # Errors
    /// [`EnrolFault::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EnrolFault> {
        let note = UnverifiedNote::parse_as(NoteKind::Enrol, bytes).map_err(malformed)?;
        let mut fields = Fields::of(&note);
        let mut read = || {
            let ticket = fields.parsed("ticket")?;
            let identity = public_key(&mut fields, "identity")?;
            let hostname = fields.text("hostname")?.to_owned();
            let nonce = strict_base64(fields.text("nonce")?);
            if nonce.is_none_or(|nonce| nonce.len() != 16) || hostname.len() > 253 {
                return Err(Refusal::syntax("The nonce or the hostname is not of its form."));
            }
            Ok((ticket, identity, hostname, fields.time("issued")?))
        };
        let (ticket, identity, hostname, issued) = read().map_err(malformed)?;
        fields.finish().map_err(malformed)?;
        Ok(Self { note, ticket, identity, hostname, issued })
    }

    /// The ticket that it says it has: look up the public half of this one.
    pub fn ticket(&self) -> TicketId {
        self.ticket
    }

    /// Verifies both signatures. The caller has seen to it that the ticket is unused and not expired, and marks it used
    /// in the same transaction that makes the runner.
    ///
    /// # Errors
    /// [`EnrolFault::Ticket`] or [`EnrolFault::Identity`].
    pub fn verify(self, ticket: &PublicKey) -> Result<VerifiedEnrolment, EnrolFault> {
        let signed = |key: &PublicKey, name: KeyName| {
            let key = key.named(name);
            self.note.signed_by([&key]).is_ok_and(|signed| signed.len() == 1)
        };
        if !signed(ticket, ticket::key_name(self.ticket)) {
            return Err(EnrolFault::Ticket);
        }
        if !signed(&self.identity, KeyName::fixed(NEW_RUNNER.to_owned())) || self.identity == *ticket {
            return Err(EnrolFault::Identity);
        }
        let request = self.note.identity();
        let Self { ticket, identity, hostname, issued, .. } = self;
        Ok(VerifiedEnrolment { ticket, identity, hostname, issued, request })
    }
}

/// An enrolment that the ticket's holder made for a key of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedEnrolment {
    ticket: TicketId,
    identity: PublicKey,
    hostname: String,
    issued: Timestamp,
    request: Digest,
}

impl VerifiedEnrolment {
    /// The ticket.
    pub fn ticket(&self) -> TicketId {
        self.ticket
    }

    /// The runner's key.
    pub fn identity(&self) -> &PublicKey {
        &self.identity
    }

    /// The host's own name, for people.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The runner's clock when it asked.
    pub fn issued(&self) -> Timestamp {
        self.issued
    }

    /// The answer's bytes, signed with the orchestrator's answer key.
    ///
    /// # Errors
    /// [`EnrolFault::Malformed`] if one of the values cannot stand in a note; none of the parsed types can be so.
    pub fn answer(
        &self,
        answer_key: &SigningKey,
        runner: RunnerId,
        name: &RunnerName,
        audience: &Audience,
        now: Timestamp,
    ) -> Result<Vec<u8>, EnrolFault> {
        let text = TextWriter::new(NoteKind::Enrolled)
            .line("request", self.request)
            .line("identity", self.identity.to_base64())
            .line("runner", runner)
            .line("name", name)
            .line("audience", audience)
            .line("answer-key", answer_key.public().to_base64())
            .line("session", Session::default())
            .time("issued", now)
            .finish();
        let key = answer_key.renamed(KeyName::fixed(ANSWER_KEY.to_owned()));
        note::sign(&text, &[&key]).map_err(malformed)
    }
}

/// What the orchestrator made of the runner: kept in the runner's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The runner's id.
    pub runner: RunnerId,
    /// The name under which people know it.
    pub name: RunnerName,
    /// What the orchestrator calls itself: each request names it.
    pub audience: Audience,
    /// The key of every answer.
    pub answer_key: PublicKey,
    /// The session to tell when the first one is opened.
    pub session: Session,
    /// The orchestrator's clock.
    pub issued: Timestamp,
    request: Digest,
    identity: PublicKey,
}

impl Enrolled {
    fn parse(note: &UnverifiedNote) -> Result<Self, Refusal> {
        let mut fields = Fields::of(note);
        let request = fields.parsed("request")?;
        let identity = public_key(&mut fields, "identity")?;
        let enrolled = Self {
            request,
            identity,
            runner: fields.parsed("runner")?,
            name: fields.parsed("name")?,
            audience: fields.parsed("audience")?,
            answer_key: public_key(&mut fields, "answer-key")?,
            session: Session(fields.number("session")?),
            issued: fields.time("issued")?,
        };
        fields.finish()?;
        Ok(enrolled)
    }
}

fn public_key(fields: &mut Fields<'_>, name: &str) -> Result<PublicKey, Refusal> {
    let text = fields.text(name)?;
    PublicKey::from_base64(text).map_err(|e| Refusal::syntax(format_args!("The line '{name}': {e}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(KeyName::new(name).unwrap(), Digest::of(name.as_bytes()).as_bytes())
    }

    fn now() -> Timestamp {
        "2026-11-21T00:00:00Z".parse().unwrap()
    }

    fn ticket(seed: u8) -> Ticket {
        Ticket::new(TicketId::from_parts(now(), 7), &[seed; 32], None, &key("answer").public())
    }

    fn request(ticket: &Ticket) -> EnrolRequest {
        EnrolRequest::new(ticket, &key("runner"), "web 1.example\n", [5; 16], now()).unwrap()
    }

    fn answer(request: &EnrolRequest, ticket: &Ticket, answer_key: &SigningKey) -> Vec<u8> {
        let enrolment = UnverifiedEnrolment::parse(request.note()).unwrap();
        assert_eq!(enrolment.ticket(), ticket.id());
        let enrolment = enrolment.verify(&ticket.public()).unwrap();
        assert_eq!(enrolment.identity(), &key("runner").public());
        assert_eq!(enrolment.hostname(), "web1.example");
        let (id, name) = (RunnerId::from_parts(now(), 3), "web-1".parse().unwrap());
        let audience = "remit.corp.example".parse().unwrap();
        enrolment.answer(answer_key, id, &name, &audience, now()).unwrap()
    }

    #[test]
    fn a_ticket_and_a_key_become_a_runner() {
        let ticket = ticket(1);
        let request = request(&ticket);
        let enrolled = request.read_answer(&answer(&request, &ticket, &key("answer"))).unwrap();
        assert_eq!(enrolled.name.as_str(), "web-1");
        assert_eq!(enrolled.answer_key, key("answer").public());
        assert_eq!(enrolled.session, Session(0));
    }

    #[test]
    fn an_enrolment_needs_both_signatures() {
        let ticket = ticket(1);
        let request = request(&ticket);
        let parse = |text: &str| UnverifiedEnrolment::parse(text.as_bytes());
        let note = String::from_utf8(request.note().to_vec()).unwrap();
        let lines: Vec<&str> = note.lines().collect();
        let without = |at: usize| {
            let mut lines = lines.clone();
            lines.remove(at);
            format!("{}\n", lines.join("\n"))
        };
        let verify = |text: String| parse(&text).unwrap().verify(&ticket.public()).map(|_| ());
        assert_eq!(verify(note.clone()), Ok(()));
        assert_eq!(verify(without(lines.len() - 1)), Err(EnrolFault::Identity));
        assert_eq!(verify(without(lines.len() - 2)), Err(EnrolFault::Ticket));
        // Another key in the text fits neither signature.
        let other = note.replace(&key("runner").public().to_base64(), &key("thief").public().to_base64());
        assert_eq!(verify(other), Err(EnrolFault::Ticket));
        let stranger = Ticket::new(ticket.id(), &[2; 32], None, &key("answer").public());
        assert_eq!(parse(&note).unwrap().verify(&stranger.public()), Err(EnrolFault::Ticket));
        // The ticket's key is no identity.
        let own = EnrolRequest::new(&ticket, &ticket.key(), "web", [5; 16], now()).unwrap();
        let own = UnverifiedEnrolment::parse(own.note()).unwrap().verify(&ticket.public());
        assert_eq!(own, Err(EnrolFault::Identity));
    }

    #[test]
    fn an_answer_is_the_right_orchestrators_to_this_request() {
        let ticket = ticket(1);
        let first = request(&ticket);
        let forged = answer(&first, &ticket, &key("thief"));
        assert_eq!(first.read_answer(&forged), Err(EnrolFault::AnswerKey));
        let thief = key("thief").public().to_base64();
        let claimed = String::from_utf8(forged).unwrap().replace(&thief, &key("answer").public().to_base64());
        assert_eq!(first.read_answer(claimed.as_bytes()), Err(EnrolFault::AnswerKey));
        let second = EnrolRequest::new(&ticket, &key("runner"), "web1.example", [6; 16], now()).unwrap();
        let good = answer(&first, &ticket, &key("answer"));
        assert_eq!(second.read_answer(&good), Err(EnrolFault::OtherRequest));
        assert!(matches!(first.read_answer(first.note()), Err(EnrolFault::Malformed(_))));
        // The right orchestrator, the right request, and another key for the runner.
        let text = UnverifiedNote::parse(&good).unwrap().text().to_owned();
        let other = text.replace(&key("runner").public().to_base64(), &key("thief").public().to_base64());
        let other =
            note::sign(&other, &[&key("answer").renamed(KeyName::fixed(ANSWER_KEY.to_owned()))]).unwrap();
        assert_eq!(first.read_answer(&other), Err(EnrolFault::OtherRequest));
    }

    #[test]
    fn every_byte_of_an_enrolment_counts() {
        let ticket = ticket(1);
        let note = request(&ticket).note().to_vec();
        for at in 0..note.len() {
            let mut other = note.clone();
            other[at] ^= 1;
            let verified = UnverifiedEnrolment::parse(&other).and_then(|e| e.verify(&ticket.public()));
            assert!(verified.is_err(), "byte {at}");
        }
    }
}
