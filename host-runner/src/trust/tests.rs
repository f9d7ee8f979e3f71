use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use remit_signing::{KeyName, SigningKey};

use super::*;
use crate::state;

/// A key of publishers, and the policy of this version that revokes nothing, or the key.
fn policy(version: u64, revoked: bool) -> String {
    let key = SigningKey::from_seed(KeyName::new("acme.example/one").unwrap(), &[7; 32]);
    let revoked = if revoked { format!("\n[revoked]\nkeys = [\"{}\"]\n", key.vkey()) } else { String::new() };
    format!(
        "version = {version}\n[[key]]\nvkey = \"{}\"\nholder = \"ann\"\nkinds = [\"component\"]\n\n\
         [[publisher]]\nnamespace = \"acme\"\nkeys = [\"acme.example/one\"]\nthreshold = 1\n{revoked}",
        key.vkey()
    )
}

/// Replaces the file as an editor does, by renaming another one into its place.
fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(text: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        write(&bench.file(), text);
        state::make_private(&bench.state()).unwrap();
        bench
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("trust.toml")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn open(&self, clock: Clock) -> Trust {
        Trust::open(&self.file(), &self.state(), clock).unwrap()
    }
}

fn noon() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000)
}

/// The code of what is refused; empty if it is not.
fn code<T>(found: Result<T, NotBelieved>) -> &'static str {
    match found {
        Ok(_) => "",
        Err(NotBelieved::Refused(refusal)) => refusal.code.code(),
        Err(NotBelieved::State(error)) => panic!("{error}"),
    }
}

#[test]
fn a_change_of_the_file_holds_at_once() {
    let bench = Bench::new(&policy(3, false));
    let trust = bench.open(noon);
    let first = trust.belief().unwrap();
    assert_eq!((first.policy.version(), first.edition), (3, trust.belief().unwrap().edition));
    write(&bench.file(), &policy(4, true));
    let second = trust.belief().unwrap();
    assert_eq!(second.policy.version(), 4);
    assert_eq!(second.policy.revoked().keys.len(), 1);
    assert_ne!(second.edition, first.edition);
}

#[test]
fn what_cannot_be_used_is_believed_in_no_point() {
    let bench = Bench::new(&policy(3, false));
    let trust = bench.open(noon);
    let check = |text: Option<&str>, expect: &str| {
        match text {
            Some(text) => write(&bench.file(), text),
            None => fs::remove_file(bench.file()).unwrap(),
        }
        assert_eq!(code(trust.belief()), expect, "{text:?}");
        assert_eq!(code(trust.belief()), expect, "and still: {text:?}");
    };
    check(Some("version = \"three\""), "E_POLICY");
    check(None, "E_POLICY");
    check(Some(&policy(2, false)), "E_ROLLBACK");
    check(Some(""), "E_POLICY");
    check(Some(&policy(3, false)), "");
}

#[test]
fn nothing_goes_back_across_a_restart() {
    let bench = Bench::new(&policy(5, true));
    assert_eq!(bench.open(noon).belief().unwrap().policy.revoked().keys.len(), 1);
    // The same version without the revocation: it is remembered all the same.
    write(&bench.file(), &policy(5, false));
    assert_eq!(bench.open(noon).belief().unwrap().policy.revoked().keys.len(), 1);
    // An older one is refused, and the runner still starts, so that its refusals are seen where jobs are run.
    write(&bench.file(), &policy(4, false));
    assert_eq!(code(bench.open(noon).belief()), "E_ROLLBACK");
}

#[test]
fn time_does_not_go_back() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    const HOUR: u64 = 3_600_000;
    let clock: Clock = || Timestamp::from_millis(NOW.load(Ordering::Relaxed));
    let set = |hours: u64| NOW.store(noon().as_millis() + hours * HOUR, Ordering::Relaxed);
    let at = |hours: u64| Timestamp::from_millis(noon().as_millis() + hours * HOUR);
    let bench = Bench::new(&policy(1, false));
    set(48);
    assert_eq!(bench.open(clock).belief().unwrap().now, at(48));
    // A clock that was put right, and a restart: what was seen counts.
    set(47);
    assert_eq!(bench.open(clock).belief().unwrap().now, at(48));
    set(24);
    assert_eq!(bench.open(clock).belief().unwrap().now, at(48));
    set(23);
    assert_eq!(code(bench.open(clock).belief()), "E_CLOCK");
    set(49);
    assert_eq!(bench.open(clock).belief().unwrap().now, at(49));
}

#[test]
fn a_damaged_memory_is_named_and_not_overwritten() {
    let bench = Bench::new(&policy(1, false));
    bench.open(noon).belief().unwrap();
    let kept = bench.state().join("trust.json");
    for (text, part) in [("{", "damaged"), ("{\"v\":2,\"time\":0,\"trust\":{}}", "damaged")] {
        state::write_private(&kept, text.as_bytes()).unwrap();
        let error = Trust::open(&bench.file(), &bench.state(), noon).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(fs::read_to_string(&kept).unwrap(), text);
    }
}
