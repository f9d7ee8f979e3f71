//! SCRAM-SHA-256 without channel binding: what proves a password without showing it (RFC 5802, RFC 7677). Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Fewest rounds, as RFC 7677 has them: with fewer, what is sent would be easier to try passwords on.
const MIN_ROUNDS: u32 = 4096;
/// Most rounds: about a second.
const MAX_ROUNDS: u32 = 1_000_000;
/// Longest message of either side.
pub(super) const MAX_MESSAGE: usize = 1 << 10;

/// What goes to the server, and what the server has to say then.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The client's last message.
    pub(crate) answer: String,
    /// The server's last message, if it knows the password.
    pub(crate) expected: String,
}

/// The proof for `password`, from the client's first message without its header, and the server's answer to it.
pub(super) fn prove(password: &[u8], first: &str, asked: &str) -> Result<Proof, &'static str> {
    // What is not ASCII would have to be prepared after RFC 4013, by the same tables on both sides.
    if !password.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Err("it holds other characters than those of ASCII");
    }
    if first.len() > MAX_MESSAGE || asked.len() > MAX_MESSAGE {
        return Err("a message is longer than 1 KiB");
    }
    let own = first.strip_prefix("n=").and_then(|rest| rest.split_once(",r=")).map(|(_, nonce)| nonce);
    let own = own.filter(|nonce| nonce.len() >= 16).ok_or("the first message is none of SCRAM")?;
    let (nonce, salt, rounds) = read(asked).ok_or("the server's message is none of SCRAM")?;
    if nonce.strip_prefix(own).is_none_or(str::is_empty) {
        return Err("the server's message does not answer the first one");
    }
    if !(MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds) {
        return Err("the server wants fewer than 4096 rounds, or more than 1000000");
    }
    let salted = stretched(password, &salt, rounds).ok_or("it cannot be a key")?;
    let last = format!("c=biws,r={nonce}");
    let whole = format!("{first},{asked},{last}");
    let sum = |key: &[u8], text: &[u8]| keyed(key).map(|mac| mac.chain_update(text).finalize().into_bytes());
    let made = || {
        let client = Zeroizing::new(sum(&*salted, b"Client Key")?.to_vec());
        let signature = sum(&Sha256::digest(&*client), whole.as_bytes())?;
        let proof: Vec<u8> = client.iter().zip(signature).map(|(key, signed)| key ^ signed).collect();
        let server = Zeroizing::new(sum(&*salted, b"Server Key")?.to_vec());
        Some((proof, sum(&server, whole.as_bytes())?))
    };
    let (proof, theirs) = made().ok_or("it cannot be a key")?;
    Ok(Proof {
        answer: format!("{last},p={}", STANDARD.encode(proof)),
        expected: format!("v={}", STANDARD.encode(theirs)),
    })
}

/// Nonce, salt and rounds of a server's first message; none of an extension, which a client that does not know it has to
/// refuse.
fn read(asked: &str) -> Option<(&str, Vec<u8>, u32)> {
    let mut parts = asked.split(',');
    let nonce = parts.next()?.strip_prefix("r=")?;
    let salt = STANDARD.decode(parts.next()?.strip_prefix("s=")?).ok()?;
    let rounds = parts.next()?.strip_prefix("i=")?.parse().ok()?;
    (!salt.is_empty() && parts.next().is_none()).then_some((nonce, salt, rounds))
}

fn keyed(key: &[u8]) -> Option<Hmac<Sha256>> {
    // A key of any length is a key.
    Hmac::new_from_slice(key).ok()
}

/// `Hi` of RFC 5802: PBKDF2 with HMAC-SHA-256, of one block.
fn stretched(password: &[u8], salt: &[u8], rounds: u32) -> Option<Zeroizing<[u8; 32]>> {
    let mac = keyed(password)?;
    let mut last = mac.clone().chain_update(salt).chain_update(1_u32.to_be_bytes()).finalize().into_bytes();
    let mut sum = Zeroizing::new([0; 32]);
    sum.copy_from_slice(&last);
    for _ in 1..rounds {
        last = mac.clone().chain_update(last).finalize().into_bytes();
        sum.iter_mut().zip(last).for_each(|(sum, byte)| *sum ^= byte);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::*;

    /// The first message of somebody else's client, without its header.
    fn first(other: &ScramSha256) -> String {
        let message = std::str::from_utf8(other.message()).unwrap().to_owned();
        message.strip_prefix("n,,").unwrap().to_owned()
    }

    #[test]
    fn it_is_what_another_client_says() {
        for (password, salt, rounds) in [("the-password", "c2FsdHNhbHQ=", 4096), ("a b~c,d=e!", "AA==", 5000)]
        {
            let mut other = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
            let first = first(&other);
            let nonce = first.strip_prefix("n=,r=").unwrap().to_owned();
            let asked = format!("r={nonce}more,s={salt},i={rounds}");
            let proof = prove(password.as_bytes(), &first, &asked).unwrap();
            other.update(asked.as_bytes()).unwrap();
            assert_eq!(proof.answer.as_bytes(), other.message());
            other.finish(proof.expected.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_would_weaken_it_is_refused() {
        fn check(password: &str, first: &str, asked: &str, expect: &str) {
            assert_eq!(prove(password.as_bytes(), first, asked), Err(expect), "{first} {asked}");
        }
        let (first, good) = ("n=,r=0123456789abcdef", "r=0123456789abcdefXY,s=c2FsdA==,i=4096");
        assert!(prove(b"the-password", first, good).is_ok());
        let none = "the server's message is none of SCRAM";
        check(
            "the-password",
            first,
            &good.replace("4096", "4095"),
            "the server wants fewer than 4096 rounds, or more than 1000000",
        );
        check(
            "the-password",
            first,
            &good.replace("4096", "4000000"),
            "the server wants fewer than 4096 rounds, or more than 1000000",
        );
        check(
            "the-password",
            first,
            &good.replace("XY", ""),
            "the server's message does not answer the first one",
        );
        check(
            "the-password",
            first,
            &good.replace("0123", "9123"),
            "the server's message does not answer the first one",
        );
        check("the-password", first, &good.replace("c2FsdA==", ""), none);
        check("the-password", first, &good.replace("c2FsdA==", "?"), none);
        check("the-password", first, &format!("{good},x=1"), none);
        check("the-password", first, "m=x,r=0,s=AA==,i=4096", none);
        check("the-password", "n=,r=short", good, "the first message is none of SCRAM");
        check("the-password", "r=0123456789abcdef", good, "the first message is none of SCRAM");
        check("the-passw\u{f6}rd", first, good, "it holds other characters than those of ASCII");
        check("the-password", first, &"r".repeat(2000), "a message is longer than 1 KiB");
    }
}
