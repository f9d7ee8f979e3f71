//! Signed jobs, and what is remembered of them.

use remit_protocol::{digest::Sized, limits::MAX_JOB};
use remit_signing::{VerifiedJob, job::JobNote, note, policy::TrustMemory, verify};
use serde_json::json;

use crate::support::{at, key, now, policy, policy_and};

const DOCUMENT: &[u8] = b"{\"v\":1}\n";

fn job(version: u64, document: &[u8]) -> JobNote {
    JobNote {
        name: "ops/restart_web".parse().unwrap(),
        version,
        definition: Sized::of(document),
        not_before: at("2026-11-20T00:00:00Z"),
        expires: at("2027-02-20T00:00:00Z"),
    }
}

fn signed(job: &JobNote, name: &str) -> Vec<u8> {
    note::sign(&job.to_text(), &[&key(name)]).unwrap()
}

fn verified(version: u64, document: &[u8]) -> VerifiedJob {
    verify::job(&signed(&job(version, document), "ops/dave"), document, &policy(), now()).unwrap()
}

#[test]
fn an_authors_job_is_believed() {
    let verified = verified(7, DOCUMENT);
    assert_eq!(verified.document()[..], *DOCUMENT);
    assert_eq!(verified.note().name.to_string(), "ops/restart_web");
}

#[test]
fn a_job_is_refused_for_its_reason() {
    fn check(change: impl FnOnce(&mut JobNote), signer: &str, lines: &str, expect: &str) {
        let mut job = job(7, DOCUMENT);
        change(&mut job);
        let found = verify::job(&signed(&job, signer), DOCUMENT, &policy_and(lines), now());
        assert_eq!(found.unwrap_err().code.code(), expect);
    }
    check(|_| {}, "acme/alice", "", "E_SCOPE");
    check(|_| {}, "stranger", "", "E_THRESHOLD");
    check(|j| j.name.project = "web".parse().unwrap(), "ops/dave", "", "E_SCOPE");
    check(|j| j.definition.length += 1, "ops/dave", "", "E_LENGTH");
    check(|j| j.definition.length = 1 << 40, "ops/dave", "", "E_LENGTH");
    check(|j| j.definition.digest = Sized::of(b"x").digest, "ops/dave", "", "E_DIGEST");
    check(|j| j.expires = at("2026-11-20T23:59:59Z"), "ops/dave", "", "E_WINDOW");
    check(|j| j.expires = at("2027-11-20T00:00:00Z"), "ops/dave", "", "E_SYNTAX");
    let revoked = format!("[revoked]\nkeys = [\"{}\"]", key("ops/dave").vkey());
    check(|_| {}, "ops/dave", &revoked, "E_REVOKED_KEY");
    let identity = verified(7, DOCUMENT).identity();
    check(|_| {}, "ops/dave", &format!("[revoked]\nnotes = [\"{identity}\"]"), "E_REVOKED_NOTE");
    // The document of a component note's kind is none of a job's.
    let component = crate::support::Release::new().good();
    let refused = verify::job(&component, DOCUMENT, &policy(), now()).unwrap_err();
    assert_eq!(refused.code.code(), "E_SYNTAX");
}

/// A length at its bound: what is longer is refused before anybody asks for the bytes.
#[test]
fn a_job_note_names_no_more_than_can_be_read() {
    let check = |length: usize, expect: Result<(), &str>| {
        let mut job = job(7, DOCUMENT);
        job.definition.length = length as u64;
        let found = verify::job_note(&signed(&job, "ops/dave"), &policy(), now());
        assert_eq!(found.map(|_| ()).map_err(|refusal| refusal.code.code()), expect, "{length}");
    };
    check(MAX_JOB, Ok(()));
    check(MAX_JOB + 1, Err("E_LENGTH"));
    check(MAX_JOB + 2, Err("E_LENGTH"));
}

#[test]
fn jobs_do_not_go_back() {
    let mut memory = TrustMemory::default();
    let mut check = |version: u64, document: &[u8], expect: Option<&str>| {
        let found = memory.accept_job(&verified(version, document));
        assert_eq!(found.err().map(|r| r.code.code()), expect, "{version}");
    };
    check(7, DOCUMENT, None);
    check(7, DOCUMENT, None);
    check(7, b"{}", Some("E_ROLLBACK"));
    check(6, DOCUMENT, Some("E_ROLLBACK"));
    check(8, b"{}", None);
    check(7, DOCUMENT, Some("E_ROLLBACK"));
    let kept = serde_json::to_string(&memory).unwrap();
    assert_eq!(serde_json::from_str::<TrustMemory>(&kept).unwrap(), memory);
}

/// A memory that is full takes no further job, and goes on with those that it knows.
#[test]
fn jobs_that_cannot_be_remembered_do_not_run() {
    let known = |count: usize| -> TrustMemory {
        let note = verified(7, DOCUMENT).identity();
        let jobs: serde_json::Map<_, _> =
            (0..count).map(|at| (format!("ops/job-{at}"), json!({"version": 1, "note": note}))).collect();
        let mut memory = serde_json::to_value(TrustMemory::default()).unwrap();
        memory["jobs"] = jobs.into();
        serde_json::from_value(memory).unwrap()
    };
    let mut almost = known(99_999);
    assert!(almost.accept_job(&verified(7, DOCUMENT)).is_ok());
    assert!(almost.accept_job(&verified(8, DOCUMENT)).is_ok(), "one that it knows");
    let found = known(100_000).accept_job(&verified(7, DOCUMENT)).unwrap_err();
    assert_eq!(found.code.code(), "E_ROLLBACK");
    assert!(found.detail.contains("100000 signed jobs"), "{}", found.detail);
}

#[test]
fn revocations_outlive_the_file() {
    let mut memory = TrustMemory::default();
    let alice = key("acme/alice");
    let (one, two) = (Sized::of(b"1").digest, Sized::of(b"2").digest);
    let before = policy_and(&format!(
        "[revoked]\nkeys = [\"{}\"]\ncomponents = [\"{one}\"]\nnotes = [\"{two}\"]",
        alice.vkey()
    ));
    assert!(memory.admit(before).unwrap().revokes(&alice.public()));
    // The next version has forgotten it; the runner has not.
    let after = memory.admit(policy()).unwrap();
    assert!(after.revokes(&alice.public()));
    assert!(after.revoked().components.contains(&one) && after.revoked().notes.contains(&two));
    let older = crate::support::policy_text().replace("version = 7", "version = 6");
    let older = remit_signing::TrustPolicy::from_toml(&older).unwrap();
    assert_eq!(memory.admit(older).unwrap_err().code.code(), "E_ROLLBACK");
}
