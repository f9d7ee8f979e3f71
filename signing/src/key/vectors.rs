//! Published Ed25519 vectors: what is accepted here is what they say, and stays so when the library changes.

use data::{Cctv, Wycheproof};
use ed25519_dalek::{Signature, VerifyingKey};

use super::PublicKey;

mod data {
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Wycheproof {
        pub(super) number_of_tests: usize,
        pub(super) test_groups: Vec<Group>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Group {
        pub(super) public_key: Key,
        pub(super) tests: Vec<Test>,
    }

    #[derive(Deserialize)]
    pub(super) struct Key {
        pub(super) pk: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Test {
        pub(super) tc_id: u32,
        pub(super) msg: String,
        pub(super) sig: String,
        pub(super) result: String,
    }

    #[derive(Deserialize)]
    pub(super) struct Cctv {
        pub(super) number: u32,
        pub(super) key: String,
        pub(super) sig: String,
        pub(super) msg: String,
        pub(super) flags: Option<Vec<String>>,
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn accepts(key: &str, message: &[u8], signature: &str) -> bool {
    let key: [u8; 32] = hex(key).try_into().unwrap();
    PublicKey::from_bytes(&key).is_ok_and(|key| key.verifies(message, &hex(signature)))
}

#[test]
fn wycheproof_is_agreed_with() {
    let suite: Wycheproof =
        serde_json::from_str(include_str!("../../tests/vectors/wycheproof/ed25519_test.json")).unwrap();
    let mut seen = 0;
    for group in &suite.test_groups {
        for test in &group.tests {
            let accepted = accepts(&group.public_key.pk, &hex(&test.msg), &test.sig);
            assert_eq!(accepted, test.result == "valid", "case {}", test.tc_id);
            seen += 1;
        }
    }
    assert_eq!((seen, suite.number_of_tests), (151, 151));
}

fn cctv() -> Vec<Cctv> {
    let cases: Vec<Cctv> =
        serde_json::from_str(include_str!("../../tests/vectors/cctv/ed25519vectors.json")).unwrap();
    assert_eq!(cases.len(), 914);
    cases
}

#[test]
fn of_the_edge_cases_only_the_plain_one_is_accepted() {
    let accepted: Vec<_> = cctv()
        .into_iter()
        .filter(|case| accepts(&case.key, case.msg.as_bytes(), &case.sig))
        .map(|case| (case.number, case.flags))
        .collect();
    assert_eq!(accepted, [(305, None)]);
}

/// What the library's strict check alone would accept: 42 more, all with a key that has a low-order component.
#[test]
fn the_library_is_as_strict_as_it_was() {
    let strict = |case: &Cctv| {
        let key: [u8; 32] = hex(&case.key).try_into().unwrap();
        let signature = Signature::from_slice(&hex(&case.sig)).unwrap();
        VerifyingKey::from_bytes(&key)
            .is_ok_and(|key| key.verify_strict(case.msg.as_bytes(), &signature).is_ok())
    };
    let accepted: Vec<_> = cctv().into_iter().filter(strict).collect();
    assert_eq!(accepted.len(), 43);
    for case in accepted {
        let flags = case.flags.unwrap_or_default();
        let component = flags.iter().any(|flag| flag == "low_order_component_A");
        assert!(component || flags.is_empty(), "case {}", case.number);
    }
}
