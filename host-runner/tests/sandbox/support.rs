//! Benches of the conformance suite, with the guests of `tests/guests`: what cannot go on fails the test.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    sync::LazyLock,
    time::Duration,
};

use remit_protocol::{Limits, capability::imports::Profile, limits::LimitsPart, manifest::Kind};
use remit_runner::conformance::bench::{self, Suite};
use remit_signing::VerifiedComponent;

pub(crate) use remit_runner::conformance::bench::SECRET;

/// How long a cancelled guest may go on in these tests.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// The guests, compiled once in this process for all tests.
pub(crate) static SUITE: LazyLock<Suite> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../guests");
    let suite = Suite::new(&folder, Path::new(env!("CARGO_BIN_EXE_remit-runner")));
    if crate::WORKERS { suite } else { suite.in_this_process() }
});

/// The bytes of a guest.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    SUITE.guest(name).unwrap()
}

/// A guest as a verified component that requests `requests` (JSON).
pub(crate) fn verified(name: &str, kind: Kind, requests: &str, limits: Limits) -> VerifiedComponent {
    SUITE.verified(name, kind, requests, limits).unwrap()
}

/// The same, under a profile.
pub(crate) fn verified_under(
    name: &str,
    kind: Kind,
    profile: Option<Profile>,
    requests: &str,
    limits: Limits,
) -> VerifiedComponent {
    SUITE.verified_under(name, kind, profile, requests, limits).unwrap()
}

/// What a bench is made of: JSON for requests and grant.
pub(crate) struct Setup<'a> {
    pub(crate) guest: &'a str,
    pub(crate) kind: Kind,
    pub(crate) profile: Option<Profile>,
    pub(crate) requests: &'a str,
    pub(crate) grant: &'a str,
    pub(crate) ceiling: remit_protocol::capability::Ceiling,
    pub(crate) limits: LimitsPart,
    pub(crate) slots: u32,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            guest: "pure",
            kind: Kind::Step,
            profile: None,
            requests: "{}",
            grant: "{}",
            ceiling: Default::default(),
            limits: LimitsPart::default(),
            slots: 4,
        }
    }
}

/// A sandbox with one component in it, and all that a run needs.
pub(crate) struct Bench(bench::Bench);

impl Deref for Bench {
    type Target = bench::Bench;
    fn deref(&self) -> &bench::Bench {
        &self.0
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut bench::Bench {
        &mut self.0
    }
}

impl Bench {
    pub(crate) fn new(setup: Setup<'_>) -> Self {
        let setup = bench::Setup {
            guest: setup.guest.to_owned(),
            kind: setup.kind,
            profile: setup.profile,
            requests: setup.requests.to_owned(),
            grant: setup.grant.to_owned(),
            ceiling: setup.ceiling,
            limits: setup.limits,
            slots: setup.slots,
            ..bench::Setup::default()
        };
        Self(bench::Bench::load(&SUITE, setup).unwrap())
    }

    pub(crate) fn pure(limits: LimitsPart) -> Self {
        Self::new(Setup { limits, ..Setup::default() })
    }

    /// The outcome in one word or two, and the message.
    pub(crate) async fn end(&self, act: &str) -> (String, String) {
        let ended = self.run(act).await;
        (ended.outcome.to_string(), ended.message)
    }

    /// The output of a run that succeeds.
    pub(crate) async fn output(&self, act: &str) -> serde_json::Value {
        let ended = self.run(act).await;
        assert_eq!(ended.outcome.to_string(), "succeeded", "{act}: {}", ended.message);
        ended.output.unwrap()
    }
}
