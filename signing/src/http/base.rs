//! The signature base of RFC 9421 §2.5 and the small scanners of the profile.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_protocol::Digest;

use super::HttpFault;
use crate::key::{SigningKey, strict_base64};

/// Lines `"name": value`, and at the end the parameters.
pub(super) fn base(lines: &[(&str, &str)], parameters: &str) -> String {
    let size: usize = lines.iter().map(|(name, value)| name.len() + value.len() + 5).sum();
    let mut base = String::with_capacity(size + parameters.len() + 24);
    for (name, value) in lines {
        base.push_str(name);
        base.push_str(": ");
        base.push_str(value);
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(parameters);
    base
}

/// The value of `Content-Digest` for a body with this digest.
pub(super) fn content_digest(body: &Digest) -> String {
    format!("sha-256=:{}:", STANDARD.encode(body.as_bytes()))
}

/// Signs a base; the answer is the member's value, `:base64:`.
pub(super) fn sign(key: &SigningKey, base: &str) -> String {
    format!(":{}:", STANDARD.encode(key.sign(base.as_bytes())))
}

/// The bytes of `:base64:`.
pub(super) fn signature_bytes(value: &str) -> Option<Vec<u8>> {
    let inside = value.strip_prefix(':')?.strip_suffix(':')?;
    strict_base64(inside).filter(|bytes| bytes.len() == 64)
}

/// A number in its one spelling, at most 15 digits as RFC 8941 has them.
pub(super) fn number(text: &str) -> Option<u64> {
    let canonical = !text.is_empty()
        && text.len() <= 15
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// Visible ASCII, and inner spaces: what can stand in a base without starting another line.
pub(super) fn plain(what: &'static str, text: &str) -> Result<(), HttpFault> {
    let sound = text.bytes().all(|b| matches!(b, b' '..=b'~')) && text.trim_matches(' ') == text;
    if sound { Ok(()) } else { Err(HttpFault::Form(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyName;

    /// RFC 9421 appendix B.2.6, with the key of B.1.4.
    #[test]
    fn the_example_of_the_standard_comes_out() {
        let seed = "n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=";
        let seed: [u8; 32] = strict_base64(seed).unwrap().try_into().unwrap();
        let key = SigningKey::from_seed(KeyName::new("test-key-ed25519").unwrap(), &seed);
        assert_eq!(key.public().to_base64(), "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=");
        let base = base(
            &[
                ("\"date\"", "Tue, 20 Apr 2021 02:07:55 GMT"),
                ("\"@method\"", "POST"),
                ("\"@path\"", "/foo"),
                ("\"@authority\"", "example.com"),
                ("\"content-type\"", "application/json"),
                ("\"content-length\"", "18"),
            ],
            "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
             ;created=1618884473;keyid=\"test-key-ed25519\"",
        );
        let expect =
            ":wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:";
        assert_eq!(sign(&key, &base), expect);
        assert!(key.public().verifies(base.as_bytes(), &signature_bytes(expect).unwrap()));
    }

    /// RFC 9530 appendix B.1.
    #[test]
    fn the_digest_of_a_body_is_the_standards() {
        assert_eq!(
            content_digest(&Digest::of(b"{\"hello\": \"world\"}\n")),
            "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
        );
    }
}
