//! Where the policy requires it, a component is refused without the proof that these very bytes were logged.

use remit_signing::{
    TrustPolicy,
    log::{Checkpoint, InvalidProof, Tree, leaf_hash, proof_bytes, sign_checkpoint, verify_proof},
    note, verify,
    verify::Published,
};

use crate::support::{Release, key, now, policy_and};

fn required() -> TrustPolicy {
    policy_and(&format!("[log]\nrequire = \"required\"\nkeys = [\"{}\"]", key("log.example").vkey()))
}

/// A log of five notes with `note` at place 3, and the note's proof, signed by the log of this name.
fn proof(note: &[u8], log: &str) -> Vec<u8> {
    let mut tree = Tree::default();
    for number in 0..5_u8 {
        tree.append(leaf_hash(if number == 3 { note } else { std::slice::from_ref(&number) }));
    }
    let checkpoint = sign_checkpoint(&key(log), tree.size(), &tree.root()).unwrap();
    proof_bytes(3, &tree.prove_inclusion(3, 5).unwrap(), &checkpoint)
}

fn check(note: &[u8], proof: Option<&[u8]>, expect: Result<u64, &str>) {
    let found = verify::release(Published { note, proof, verdicts: &[] }, &required(), now());
    let found = found.map(|release| release.logged().unwrap().index).map_err(|refusal| refusal.code.code());
    assert_eq!(found, expect);
}

#[test]
fn a_required_proof_is_of_these_very_bytes() {
    let release = Release::new();
    let note = release.good();
    let good = proof(&note, "log.example");
    check(&note, Some(&good), Ok(3));
    check(&note, None, Err("E_LOG_PROOF"));
    check(&note, Some(b""), Err("E_LOG_PROOF"));
    check(&note, Some(&proof(&note, "other.example")), Err("E_LOG_PROOF"));
    check(&note, Some(&proof(b"another note", "log.example")), Err("E_LOG_PROOF"));
    // The same text under another signature line is the same note, and another leaf.
    let more = note::add_signature(&note, &key("stranger")).unwrap();
    check(&more, Some(&good), Err("E_LOG_PROOF"));
    check(&more, Some(&proof(&more, "log.example")), Ok(3));
    let revoked = format!(
        "[log]\nrequire = \"required\"\nkeys = [\"{log}\"]\n[revoked]\nkeys = [\"{log}\"]",
        log = key("log.example").vkey()
    );
    let found = verify::release(
        Published { note: &note, proof: Some(&good), verdicts: &[] },
        &policy_and(&revoked),
        now(),
    );
    assert_eq!(found.unwrap_err().code.code(), "E_LOG_PROOF");
    // A witness's line on the checkpoint is passed over; a log's key signs no components.
    let witnessed = [&good[..], "\u{2014} witness.example AAAAAAAA\n".as_bytes()].concat();
    check(&note, Some(&witnessed), Ok(3));
}

#[test]
fn a_proof_has_one_form() {
    let note = Release::new().good();
    let (good, logs) = (proof(&note, "log.example"), [key("log.example").vkey()]);
    let text = String::from_utf8(good.clone()).unwrap();
    let verify = |text: &str| verify_proof(text.as_bytes(), &note, &logs).map(|leaf| leaf.index);
    assert_eq!(verify(&text), Ok(3));
    for at in 0..good.len() {
        for bit in [0, 1, 4, 7] {
            let mut other = good.clone();
            other[at] ^= 1 << bit;
            assert!(verify_proof(&other, &note, &logs).is_err(), "byte {at} bit {bit}");
        }
    }
    let change = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        verify(&text.replacen(from, to, 1)).unwrap_err()
    };
    assert_eq!(change("index 3", "index 03"), InvalidProof::Form);
    assert_eq!(change("index 3", "index 4"), InvalidProof::Inclusion);
    assert_eq!(change("index 3\n", "extra AAAA\nindex 3\n"), InvalidProof::Form);
    assert_eq!(
        change("index 3\n", &format!("index 3\n{}", format!("{}=\n", "A".repeat(43)).repeat(62))),
        InvalidProof::Form
    );
    assert_eq!(change("@v1", "@v2"), InvalidProof::Form);
    assert!(matches!(change("\n5\n", "\n6\n"), InvalidProof::Note(_)));
    assert_eq!(change("\n5\n", "\n05\n"), InvalidProof::Checkpoint);
    assert_eq!(change("\n5\n", "\n5\nmore\n"), InvalidProof::Checkpoint);
}

#[test]
fn a_checkpoint_is_its_logs_own() {
    let root = leaf_hash(b"x");
    let bytes = sign_checkpoint(&key("log.example"), 1, &root).unwrap();
    let head = Checkpoint::verify(&bytes, &[key("log.example").vkey()]).unwrap();
    assert_eq!((head.origin(), head.size(), head.root()), ("log.example", 1, root));
    // Another key of the policy's logs does not sign for this origin.
    let other = String::from_utf8(bytes).unwrap().replacen("log.example\n", "other.example\n", 1);
    let logs = [key("log.example").vkey(), key("other.example").vkey()];
    assert_eq!(Checkpoint::verify(other.as_bytes(), &logs), Err(InvalidProof::UnknownLog));
}
