//! Whatever comes in, the readers answer: good input that was damaged anywhere, cut anywhere, or repeated.

use proptest::prelude::*;
use remit_protocol::TicketId;
use remit_signing::{
    enrol::UnverifiedEnrolment,
    http::{SignedHeaders, UnverifiedRequest},
    log::verify_proof,
    note::UnverifiedNote,
    ticket::Ticket,
    wasm,
};

use crate::support::{LOG, MAIN, Release, key, now};

/// Damages `good`: bytes set at places, a cut, and some of it again behind the end.
fn damaged(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let places = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (places, any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(
        move |(places, cut, again)| {
            let mut bytes = good.clone();
            for (at, to) in places {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            bytes.truncate(cut.index(good.len() + 1));
            bytes.extend_from_slice(&good[again.index(good.len())..]);
            bytes
        },
    )
}

fn ticket() -> Vec<u8> {
    let id = TicketId::from_parts(now(), 1);
    Ticket::new(id, &[1; 32], None, &key("answer").public()).to_text().as_bytes().to_vec()
}

proptest! {
    #[test]
    fn notes(bytes in damaged(Release::new().good())) {
        if let Ok(note) = UnverifiedNote::parse(&bytes) {
            // What is well formed is printable: nothing that it holds can play with a terminal.
            prop_assert!(note.text().bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
        }
        let _ = UnverifiedEnrolment::parse(&bytes);
        let _ = verify_proof(&bytes, b"", &[]);
    }

    #[test]
    fn components(bytes in damaged(crate::support::wasm(&[LOG, "wasi:io/poll@0.2.6"], &[MAIN]))) {
        let _ = wasm::interfaces(&bytes);
    }

    #[test]
    fn tickets(bytes in damaged(ticket())) {
        let _ = Ticket::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn headers(input in "remit=\\(\"@method\"[ -~é]{0,60}", signature in "remit=:[A-Za-z0-9+/=:]{0,100}", number in "[0-9]{0,20}") {
        let headers = [
            ("content-digest", "x"), ("content-type", "x"), ("remit-audience", "x"), ("remit-session", &number),
            ("remit-seq", &number), ("signature-input", &input), ("signature", &signature),
        ];
        let headers = headers.map(|(name, value)| (name, value.as_bytes()));
        prop_assert!(SignedHeaders::collect(headers).and_then(UnverifiedRequest::read).is_err());
    }
}
