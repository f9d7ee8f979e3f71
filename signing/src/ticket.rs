//! The one-use enrolment ticket: how a runner gets to its orchestrator for the first time.
//!
//! A ticket is a private key. Its text, `remitt1_` and base64url, is shown once and given to the runner on standard input;
//! the server keeps the public half, so neither its database nor a proxy's log can enrol anybody. The ticket also pins
//! the orchestrator: the digest of its CA certificate, where it has one of its own, and of the key that signs its answers.
//! The orchestrator's URL is printed beside the ticket and stands in `runner.toml`: it is no secret and may change.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use remit_protocol::{Digest, TicketId};
use zeroize::Zeroizing;

use crate::{SigningKey, key::KeyName, key::PublicKey};

const PREFIX: &str = "remitt1_";
/// Id, seed, CA digest, answer key's digest, flags, checksum.
const LENGTH: usize = 16 + 32 + 32 + 32 + 1 + 4;
const HAS_CA: u8 = 1;

/// A ticket as the runner holds it. It is wiped when dropped, and has neither `Debug` nor `Clone`.
pub struct Ticket {
    id: TicketId,
    seed: Zeroizing<[u8; 32]>,
    ca: Option<Digest>,
    answer_key: Digest,
}

/// Why a text is not a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTicket {
    /// Not a ticket at all.
    #[error("not a ticket: it begins with remitt1_ and is one line")]
    Form,
    /// Cut off or mistyped.
    #[error("the ticket is incomplete or mistyped: copy the whole line again")]
    Checksum,
    /// From a newer version.
    #[error("the ticket is of a form that this version does not know: update the runner")]
    Version,
}

impl Ticket {
    /// Makes a ticket from 32 random bytes. `ca` is the digest of the orchestrator's own CA certificate in DER, `answer_key`
    /// its answer key.
    pub fn new(id: TicketId, seed: &[u8; 32], ca: Option<Digest>, answer_key: &PublicKey) -> Self {
        Self { id, seed: Zeroizing::new(*seed), ca, answer_key: answer_key.fingerprint() }
    }

    /// The ticket's id.
    pub fn id(&self) -> TicketId {
        self.id
    }

    /// SHA-256 of the DER of the CA certificate that the orchestrator's own certificate has to lead to; absent: the
    /// certificate has to be good for the operating system.
    pub fn ca(&self) -> Option<Digest> {
        self.ca
    }

    /// The fingerprint of the key that signs the orchestrator's answers.
    pub fn answer_key(&self) -> Digest {
        self.answer_key
    }

    /// The public half: all that a server keeps.
    pub fn public(&self) -> PublicKey {
        self.key().public()
    }

    /// The ticket's key, under the name that enrolment notes carry.
    pub(crate) fn key(&self) -> SigningKey {
        SigningKey::from_seed(key_name(self.id), &self.seed)
    }

    /// The text to show, once.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        bytes.extend_from_slice(&self.id.to_u128().to_be_bytes());
        bytes.extend_from_slice(&self.seed[..]);
        bytes.extend_from_slice(&self.ca.map_or([0; 32], |ca| *ca.as_bytes()));
        bytes.extend_from_slice(self.answer_key.as_bytes());
        bytes.push(if self.ca.is_some() { HAS_CA } else { 0 });
        let sum = Digest::of(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..4]);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + LENGTH * 4 / 3 + 4));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&bytes[..], &mut text);
        text
    }

    /// Reads a ticket's text; spaces and newlines around it are passed over.
    ///
    /// # Errors
    /// What is wrong, in words for the person who pasted it.
    pub fn parse(text: &str) -> Result<Self, InvalidTicket> {
        let text = text.trim();
        let Some(coded) = text.strip_prefix(PREFIX) else {
            let newer = text.strip_prefix("remitt").is_some_and(|rest| rest.contains('_'));
            return Err(if newer { InvalidTicket::Version } else { InvalidTicket::Form });
        };
        if coded.len() > 2 * LENGTH {
            return Err(InvalidTicket::Form);
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(coded).map_err(|_| InvalidTicket::Checksum)?);
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(InvalidTicket::Checksum)?;
        if body.len() != LENGTH - 4 || Digest::of(body).as_bytes()[..4] != sum[..] {
            return Err(InvalidTicket::Checksum);
        }
        let mut rest = Reader(body);
        let id = TicketId::from_u128(u128::from_be_bytes(rest.take()?));
        let seed = Zeroizing::new(rest.take()?);
        let ca = Digest::from_bytes(rest.take()?);
        let answer_key = Digest::from_bytes(rest.take()?);
        let ca = match rest.take::<1>()? {
            [0] => None,
            [HAS_CA] => Some(ca),
            _ => return Err(InvalidTicket::Version),
        };
        Ok(Self { id, seed, ca, answer_key })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], InvalidTicket> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(InvalidTicket::Checksum)?;
        self.0 = rest;
        Ok(*bytes)
    }
}

/// The name under which a ticket's key signs.
pub(crate) fn key_name(id: TicketId) -> KeyName {
    KeyName::fixed(format!("ticket/{id}"))
}

#[cfg(test)]
mod tests {
    use remit_protocol::Timestamp;

    use super::*;

    fn ticket(ca: Option<Digest>) -> Ticket {
        let id = TicketId::from_parts(Timestamp::from_millis(1_795_000_000_000), 7);
        let answer = SigningKey::from_seed(KeyName::new("answer").unwrap(), &[9; 32]);
        Ticket::new(id, &[7; 32], ca, &answer.public())
    }

    #[test]
    fn a_ticket_reads_back() {
        for ca in [None, Some(Digest::of(b"certificate"))] {
            let own = ticket(ca);
            let text = own.to_text();
            let again = Ticket::parse(&format!(" {}\n", text.as_str())).ok().unwrap();
            assert_eq!((again.id(), again.ca(), again.answer_key()), (own.id(), ca, own.answer_key()));
            assert_eq!(again.public(), own.public());
        }
    }

    #[test]
    fn every_slip_of_the_pen_is_noticed() {
        let text = ticket(Some(Digest::of(b"certificate"))).to_text();
        for at in PREFIX.len()..text.len() {
            for other in ["A", "B", ""] {
                let slip = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                assert!(slip == text.as_str() || Ticket::parse(&slip).is_err(), "{at}");
            }
        }
        assert_eq!(Ticket::parse("").err(), Some(InvalidTicket::Form));
        assert_eq!(Ticket::parse(&text.replace("remitt1_", "remitt2_")).err(), Some(InvalidTicket::Version));
        assert_eq!(Ticket::parse(&format!("{}A", text.as_str())).err(), Some(InvalidTicket::Checksum));
    }
}
