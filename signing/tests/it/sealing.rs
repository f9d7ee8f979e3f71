//! What is sealed opens at one place, for a time; and what says to which key, is believed by a pinned one only.

use proptest::prelude::*;
use remit_protocol::{
    AttemptId, ExecutionId, OptionName, RunnerId, RunnerName, SecretPath, SectionNumber, Timestamp,
    digest::Sized,
    sealed::{Sealed, SealedBytes},
};
use remit_signing::{
    Refusal, note,
    policy::{TrustMemory, TypedRun, Wanted},
    run::Order,
    sealing::{CannotSeal, NotSealable, Purpose, SealingKey, SealingNote, check, open},
};

use crate::support::{at, key, now};

fn order() -> Order {
    Order {
        run: ExecutionId::from_u128(7),
        job: "ops/restart_web".parse().unwrap(),
        definition: Sized::of(b"document"),
        options: Sized::of(b"{}"),
        nodes: Some(Sized::of(b"nodes")),
    }
}

fn runner() -> RunnerId {
    RunnerId::from_u128(5)
}

fn own() -> SealingKey {
    SealingKey::from_seed(&[9; 32])
}

fn option() -> OptionName {
    "password".parse().unwrap()
}

fn path() -> SecretPath {
    SecretPath::new("keys/typed/db").unwrap()
}

fn sealed_with(value: &[u8], issued: &str, expires: &str) -> Result<Sealed, CannotSeal> {
    let (order, option, path) = (order(), option(), path());
    let purpose = Purpose {
        order: &order,
        option: &option,
        path: &path,
        runner: runner(),
        issued: at(issued),
        expires: at(expires),
    };
    purpose.seal(&own().public(), value, [3; 32])
}

fn sealed() -> Sealed {
    sealed_with(b"correct horse", "2026-11-20T23:30:00Z", "2026-11-21T00:30:00Z").unwrap()
}

fn opened(sealed: &Sealed, order: &Order, runner: RunnerId, key: &SealingKey) -> Result<Vec<u8>, Refusal> {
    open(sealed, order, (runner, key), now()).map(|value| value.to_vec())
}

/// Refused, with these words.
fn refused(found: Result<Vec<u8>, Refusal>, words: &str) {
    let refusal = found.unwrap_err();
    assert_eq!(refusal.code.code(), "E_SEALED");
    assert!(refusal.detail.contains(words), "{refusal}");
    assert!(!refusal.to_string().contains("horse"), "{refusal}");
}

#[test]
fn what_is_sealed_opens_where_it_was_sealed_for() {
    assert_eq!(opened(&sealed(), &order(), runner(), &own()).unwrap(), b"correct horse");
    let text = String::from(sealed().value);
    assert!(!text.contains("horse"));
    // Other randomness, another ciphertext.
    let (order, option, path) = (order(), option(), path());
    let first = sealed();
    let purpose = Purpose { order: &order, option: &option, path: &path, ..Purpose::of(&order, &first) };
    assert_ne!(purpose.seal(&own().public(), b"correct horse", [4; 32]).unwrap().value, first.value);
}

#[test]
fn nothing_that_is_bound_can_be_another() {
    fn of_order(change: impl FnOnce(&mut Order)) {
        let mut order = order();
        change(&mut order);
        refused(opened(&sealed(), &order, runner(), &own()), "does not open");
    }
    of_order(|order| order.run = ExecutionId::from_u128(8));
    of_order(|order| order.job = "ops/other".parse().unwrap());
    of_order(|order| order.job = "web/restart_web".parse().unwrap());
    of_order(|order| order.definition = Sized::of(b"documenT"));
    of_order(|order| order.options = Sized::of(b"{ }"));
    of_order(|order| order.nodes = None);
    of_order(|order| order.nodes = Some(Sized::of(b"nodeS")));

    fn of_itself(words: &str, change: impl FnOnce(&mut Sealed)) {
        let mut sealed = sealed();
        change(&mut sealed);
        refused(opened(&sealed, &order(), runner(), &own()), words);
    }
    of_itself("does not open", |sealed| sealed.option = "other".parse().unwrap());
    of_itself("does not open", |sealed| sealed.path = SecretPath::new("keys/typed/other").unwrap());
    of_itself("for the runner", |sealed| sealed.runner = RunnerId::from_u128(6));
    of_itself("does not open", |sealed| sealed.issued = at("2026-11-20T23:30:01Z"));
    of_itself("does not open", |sealed| sealed.expires = at("2026-11-21T00:30:01Z"));
    of_itself("which cannot be", |sealed| sealed.expires = at("2026-11-21T23:30:01Z"));
    of_itself("which cannot be", |sealed| sealed.expires = sealed.issued);
    of_itself("which cannot be", |sealed| {
        sealed.expires = Timestamp::from_millis(sealed.expires.as_millis() + 1);
    });
    // Another runner that says it is this one, and this one's ciphertext under its name.
    let other = SealingKey::from_seed(&[8; 32]);
    refused(opened(&sealed(), &order(), runner(), &other), "does not open");
    let renamed = Sealed { runner: RunnerId::from_u128(6), ..sealed() };
    refused(opened(&renamed, &order(), RunnerId::from_u128(6), &own()), "does not open");
}

#[test]
fn its_time_is_over_to_the_second() {
    let over = |now: &str| check(&sealed(), runner(), at(now)).is_err();
    assert!(!over("2026-11-21T00:29:59Z"));
    assert!(over("2026-11-21T00:30:00Z"));
    let late = open(&sealed(), &order(), (runner(), &own()), at("2026-11-21T00:30:00Z"));
    refused(late.map(|value| value.to_vec()), "was good until 2026-11-21T00:30:00Z");
}

#[test]
fn a_seal_has_bounds() {
    fn bad(length: usize, issued: &str, expires: &str, expect: CannotSeal) {
        assert_eq!(sealed_with(&vec![7; length], issued, expires), Err(expect));
    }
    bad(9, "2026-11-20T00:00:00Z", "2026-11-21T00:00:01Z", CannotSeal::Validity);
    bad(9, "2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z", CannotSeal::Validity);
    bad(65_537, "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z", CannotSeal::Long);
    assert!(sealed_with(&[7; 65_536], "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z").is_ok());
    // A key that leads every sender to the same shared secret.
    let (order, option, path) = (order(), option(), path());
    let first = sealed();
    let purpose = Purpose { order: &order, option: &option, path: &path, ..Purpose::of(&order, &first) };
    let weak = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".parse().unwrap();
    assert_eq!(purpose.seal(&weak, b"correct horse", [3; 32]), Err(CannotSeal::Key));
}

#[test]
fn every_byte_of_a_sealed_value_counts() {
    let good = sealed();
    for place in 0..good.value.as_bytes().len() {
        for bit in 0..8 {
            let mut bytes = good.value.as_bytes().to_vec();
            bytes[place] ^= 1 << bit;
            // The highest bit of an X25519 key is not a part of it: RFC 7748, section 5. It is of the context, all the same.
            let other = Sealed { value: SealedBytes::new(bytes).unwrap(), ..good.clone() };
            refused(opened(&other, &order(), runner(), &own()), "does not open");
        }
    }
    for end in 48..good.value.as_bytes().len() {
        let cut = SealedBytes::new(good.value.as_bytes()[..end].to_vec()).unwrap();
        refused(opened(&Sealed { value: cut, ..good.clone() }, &order(), runner(), &own()), "does not open");
    }
}

proptest! {
    #[test]
    fn any_value_comes_back_and_to_nobody_else(value in proptest::collection::vec(any::<u8>(), 0..200), seed: [u8; 32], key: [u8; 32]) {
        let (order, option, path) = (order(), option(), path());
        let own = SealingKey::from_seed(&key);
        let template = sealed();
        let purpose = Purpose { order: &order, option: &option, path: &path, ..Purpose::of(&order, &template) };
        let sealed = purpose.seal(&own.public(), &value, seed).unwrap();
        prop_assert_eq!(opened(&sealed, &order, runner(), &own).unwrap(), value);
        prop_assert!(opened(&sealed, &order, runner(), &SealingKey::from_seed(&[1; 32])).is_err());
    }

    #[test]
    fn no_bytes_open(value in proptest::collection::vec(any::<u8>(), 48..200)) {
        let sealed = Sealed { value: SealedBytes::new(value).unwrap(), ..sealed() };
        prop_assert!(opened(&sealed, &order(), runner(), &own()).is_err());
    }
}

fn name() -> RunnerName {
    RunnerName::new("build-1").unwrap()
}

fn sealing_note() -> Vec<u8> {
    let issued = at("2026-11-20T00:00:00Z");
    SealingNote::sign(&key("runner"), (runner(), &name()), &own().public(), issued).unwrap()
}

#[test]
fn a_sealing_note_is_believed_by_the_pinned_key_alone() {
    let pinned = key("runner").public().fingerprint();
    let read = SealingNote::believe(&sealing_note(), (runner(), &name()), pinned).unwrap();
    assert_eq!((read.key, read.runner), (own().public(), runner()));

    let believe = |bytes: &[u8], runner: RunnerId, name: &str| {
        SealingNote::believe(bytes, (runner, &RunnerName::new(name).unwrap()), pinned).unwrap_err()
    };
    // Somebody who serves the note of a key of his own, under the runner's name and id.
    let forged = SealingNote::sign(&key("stranger"), (runner(), &name()), &own().public(), now()).unwrap();
    let found = key("stranger").public().fingerprint();
    assert_eq!(believe(&forged, runner(), "build-1"), NotSealable::Identity { found, pinned });
    // The pinned key's own name over a signature by another one.
    let text = String::from_utf8(forged).unwrap();
    let claimed = text.replace(&key("stranger").public().to_base64(), &key("runner").public().to_base64());
    assert!(matches!(believe(claimed.as_bytes(), runner(), "build-1"), NotSealable::Note(_)));
    // A rightly signed note of another runner whose key is pinned, too.
    assert!(matches!(believe(&sealing_note(), RunnerId::from_u128(6), "build-1"), NotSealable::Other(..)));
    assert!(matches!(believe(&sealing_note(), runner(), "build-2"), NotSealable::Other(..)));
    // The same text signed for another purpose: under the name that runners sign results with.
    let text = String::from_utf8(sealing_note()).unwrap();
    let text = &text[..text.find("\n\n").unwrap() + 1];
    let other = note::sign(text, &[&key("runner")]).unwrap();
    assert!(matches!(believe(&other, runner(), "build-1"), NotSealable::Note(_)));
}

#[test]
fn every_byte_of_a_sealing_note_counts() {
    let good = sealing_note();
    let pinned = key("runner").public().fingerprint();
    for place in 0..good.len() {
        for value in [b'a', b'0', b'\n', b' ', 0, good[place] ^ 1] {
            let mut other = good.clone();
            other[place] = value;
            let found = SealingNote::believe(&other, (runner(), &name()), pinned);
            assert!(other == good || found.is_err(), "byte {place} as {value:#04x}");
        }
        let without = [&good[..place], &good[place + 1..]].concat();
        assert!(SealingNote::believe(&without, (runner(), &name()), pinned).is_err(), "no byte {place}");
    }
    assert!(SealingNote::believe(&[&good[..], &good[..]].concat(), (runner(), &name()), pinned).is_err());
}

#[test]
fn a_typed_run_is_one_order_and_begins_once() {
    let mut memory = TrustMemory::default();
    let (one, two) = (AttemptId::from_u128(1), AttemptId::from_u128(2));
    let mut begin = |order: &Order, attempt, once, now: &str| {
        let run = TypedRun { order: order.clone(), expires: at("2026-11-21T00:30:00Z") };
        let begun = memory.begin(&Wanted::Typed(run), SectionNumber(0), attempt, once, at(now));
        begun.map_err(|refusal| refusal.code.code())
    };
    let noon = "2026-11-21T00:00:00Z";
    assert_eq!(begin(&order(), one, false, noon), Ok(()));
    assert_eq!(begin(&order(), two, false, noon), Ok(()), "what may be repeated");
    assert_eq!(begin(&order(), one, true, noon), Ok(()));
    assert_eq!(begin(&order(), two, true, noon), Err("E_REPLAY"));
    let other = Order { nodes: None, ..order() };
    assert_eq!(begin(&other, two, false, noon), Err("E_RUN_FORK"));
}
