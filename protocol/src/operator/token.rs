//! The text of an API token: `remit_<id>_<secret><checksum>`. The checksum lets a typo be refused before it is sent.

use std::fmt;

use data_encoding::{Encoding, Specification};

use super::ShownOnce;
use crate::{Digest, TokenId};

const PREFIX: &str = "remit_";
/// Characters of the secret: 32 bytes in base 32.
const SECRET: usize = 52;
/// Characters of the checksum: 5 bytes in base 32.
const CHECKSUM: usize = 8;

/// The text of a token that is complete and not mistyped; whether it is good for anything the orchestrator says.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    text: String,
    id: TokenId,
}

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Not a token at all.
    #[error("not a token: it begins with remit_ and is one line of 93 characters")]
    Form,
    /// Cut off or mistyped.
    #[error("the token is incomplete or mistyped: copy the whole line again")]
    Checksum,
}

fn base32() -> Option<Encoding> {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().ok()
}

fn checksum(text: &str) -> String {
    let digest = Digest::of(text.as_bytes());
    base32().map(|encoding| encoding.encode(&digest.as_bytes()[..5])).unwrap_or_default()
}

impl TokenText {
    /// Makes a token's text from its id and 32 random bytes.
    pub fn new(id: TokenId, secret: &[u8; 32]) -> Self {
        let secret = base32().map(|encoding| encoding.encode(secret)).unwrap_or_default();
        let mut text = format!("{PREFIX}{id}_{secret}");
        text.push_str(&checksum(&text));
        Self { text, id }
    }

    /// Reads a token's text; spaces and newlines around it are passed over.
    ///
    /// # Errors
    /// What is wrong, in words for the person who pasted it.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let (id, rest) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(InvalidToken::Form)?;
        let plain = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
        if rest.len() != SECRET + CHECKSUM || !rest.bytes().all(plain) {
            return Err(InvalidToken::Checksum);
        }
        let (body, sum) = text.split_at(text.len() - CHECKSUM);
        if checksum(body) != sum {
            return Err(InvalidToken::Checksum);
        }
        let id = id.parse().map_err(|_| InvalidToken::Checksum)?;
        Ok(Self { text: text.to_owned(), id })
    }

    /// The token's id.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// SHA-256 of the text: all that an orchestrator keeps. The secret has 256 random bits, so that no slow hash is needed.
    pub fn hash(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// The text, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The text, for the one answer that shows it.
    pub fn into_shown(self) -> ShownOnce {
        ShownOnce::new(self.text)
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_a_typo_is_noticed() {
        let id = TokenId::from_parts(crate::Timestamp::from_millis(1_795_000_000_000), 7);
        let token = TokenText::new(id, &[9; 32]);
        let text = token.reveal().to_owned();
        assert_eq!(text.len(), 93);
        let read = TokenText::parse(&format!(" {text}\n")).unwrap();
        assert_eq!((read.id(), read.hash()), (id, token.hash()));
        assert!(!format!("{read:?}").contains(&text[33..]));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            let other = String::from_utf8(other).unwrap();
            assert!(TokenText::parse(&other).is_err(), "{other}");
        }
        assert_eq!(TokenText::parse("secret"), Err(InvalidToken::Form));
        assert_eq!(TokenText::parse(&text[..80]), Err(InvalidToken::Checksum));
    }
}
