//! Signatures of webhooks, those that come in and those that go out, as `standardwebhooks.com` describes them: HMAC-SHA256
//! over `<id>.<time>.<body>` in base64, each with its version in front; a secret is `whsec_` and base64.
//!
//! The id is what makes a delivery one delivery; the time keeps an old one from being sent again. Neither is checked here:
//! the caller has the clock and the memory.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use remit_protocol::DeliveryId;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The header with the delivery's id.
pub const ID: &str = "webhook-id";
/// The header with the time of the delivery, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";

/// Shortest and longest key, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
const PREFIX: &str = "whsec_";
const VERSION: &str = "v1,";
/// Most signatures of one header that are looked at.
const MOST_SIGNATURES: usize = 8;

/// What two sides know who believe each other's webhooks. Never printed.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

/// A text that is no secret of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a webhook's secret: whsec_ and the base64 of {} to {} bytes", LENGTHS.start(), LENGTHS.end())]
pub struct InvalidSecret;

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

impl WebhookSecret {
    /// A secret of these random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Reads `whsec_…`.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| InvalidSecret)?);
        if LENGTHS.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(InvalidSecret) }
    }

    /// The text, for the one place that shows or seals it.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(&*self.0)))
    }

    /// The value of [`SIGNATURE`] for a delivery.
    pub fn sign(&self, id: &DeliveryId, seconds: u64, body: &[u8]) -> String {
        let tag = self.mac(id, seconds, body).finalize().into_bytes();
        format!("{VERSION}{}", STANDARD.encode(tag))
    }

    /// True if one of the signatures in `header` is of this secret over this delivery. Takes as long whether it is or not.
    pub fn verify(&self, id: &DeliveryId, seconds: u64, body: &[u8], header: &str) -> bool {
        let tags = header.split(' ').filter_map(|one| one.strip_prefix(VERSION)).take(MOST_SIGNATURES);
        let mut good = false;
        for tag in tags.filter_map(|tag| STANDARD.decode(tag).ok()) {
            good |= self.mac(id, seconds, body).verify_slice(&tag).is_ok();
        }
        good
    }

    fn mac(&self, id: &DeliveryId, seconds: u64, body: &[u8]) -> Hmac<Sha256> {
        // HMAC takes a key of any length, so this cannot fail; an empty key would be refused by nobody's signature.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        mac.update(id.as_str().as_bytes());
        mac.update(format!(".{seconds}.").as_bytes());
        mac.update(body);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DeliveryId {
        text.parse().unwrap()
    }

    /// Computed with OpenSSL:
    /// `printf 'msg_1.1700000000.{}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707… -binary | base64`.
    #[test]
    fn a_signature_is_what_another_program_computes() {
        let secret = WebhookSecret::from_random([7; 32]);
        let signed = secret.sign(&id("msg_1"), 1_700_000_000, b"{}");
        assert_eq!(signed, "v1,nuLLyheCKcS2N8JNOFt5stk98R+umYWr26/ZTfdtGM8=");
        assert_eq!(&*secret.to_text(), "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    }

    #[test]
    fn only_the_very_delivery_verifies() {
        let secret = WebhookSecret::from_random([7; 32]);
        let other = WebhookSecret::from_random([8; 32]);
        let good = secret.sign(&id("a"), 5, b"{}");
        let check = |secret: &WebhookSecret, name: &str, seconds, body: &[u8], header: &str, expect| {
            assert_eq!(secret.verify(&id(name), seconds, body, header), expect, "{name} {seconds} {header}");
        };
        check(&secret, "a", 5, b"{}", &good, true);
        check(&secret, "a", 5, b"{}", &format!("v1a,xx {} {good}", other.sign(&id("a"), 5, b"{}")), true);
        check(&secret, "b", 5, b"{}", &good, false);
        check(&secret, "a", 6, b"{}", &good, false);
        check(&secret, "a", 5, b"{ }", &good, false);
        check(&other, "a", 5, b"{}", &good, false);
        for header in
            ["", "v1,", "v1", "v2,AAAA", &good.replace("v1,", "V1,"), &good[..20], &"v1,AAAA ".repeat(20)]
        {
            check(&secret, "a", 5, b"{}", header, false);
        }
        let late = format!("{}{good}", "v1,AAAA ".repeat(8));
        check(&secret, "a", 5, b"{}", &late, false);
    }

    #[test]
    fn a_secret_reads_back_and_is_never_printed() {
        let secret = WebhookSecret::from_random([9; 32]);
        let again = WebhookSecret::parse(&format!("{}\n", &*secret.to_text())).unwrap();
        assert_eq!(again.sign(&id("a"), 1, b""), secret.sign(&id("a"), 1, b""));
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
        for bad in ["", "whsec_", "whsec_AAAA", "whsec_!", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="] {
            assert!(WebhookSecret::parse(bad).is_err(), "{bad}");
        }
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        assert!(WebhookSecret::parse(&long).is_err());
    }
}
