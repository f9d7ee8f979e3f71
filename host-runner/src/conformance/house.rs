//! The rows about the runner's own rooms: what it writes down of secrets, what was not signed, its cache, its compile process,
//! upgrades, replay, a guest that broke out, and what another version left on disk.

use anyhow::Result;
use serde_json::json;

use super::{
    bench::{Damage, Setup, Tampering},
    deed::{Answered, Bomb, Deed, Fetched, Needle, Probe},
    table::{Table, Try},
};

impl Table<'_> {
    pub(super) fn house(&mut self) -> Result<()> {
        self.canaries()?;
        self.caches();
        self.upgrades()?;
        self.bombs();
        self.replays();
        self.taken_over();
        self.other_versions();
        Ok(())
    }

    /// Where a secret's value must not be.
    fn canaries(&mut self) -> Result<()> {
        let port = self.world.encrypted.port();
        let used = format!("GET https a.example:{port} /v1");
        let used = Try::new(self.encrypted(port)?, &used, "succeeded", "credential=true").on(1);
        let quiet = Try::done(Deed::Loudest, "succeeded", "the canary was seen: false");
        self.add(11, "looks for the credential in the runner's own log at TRACE", quiet, used);
        let absent = Try::done(Deed::Search(Needle::Secret), "succeeded", "");
        let there = Try::done(Deed::Search(Needle::Mark), "succeeded", "");
        self.add(11, "looks for the credential in its worker's memory and environment", absent, there);
        Ok(())
    }

    /// Only what was signed, by whom the owner trusts, in its time.
    pub(super) fn tampering(&mut self) {
        for (threat, name, tampering, code) in [
            (21, "is another component than the one that was signed", Tampering::Bytes, "E_DIGEST"),
            (21, "has another manifest than the one that was signed", Tampering::Manifest, "E_DIGEST"),
            (22, "has a note that was changed", Tampering::Note, "E_"),
            (22, "is signed by a stranger under a known name", Tampering::Stranger, "E_THRESHOLD"),
            (22, "is offered after its time", Tampering::Time, "E_WINDOW"),
        ] {
            let setup = Setup { tampering: Some(tampering), ..Setup::default() };
            let twin = Try::new(Setup::default(), "nothing", "succeeded", "");
            self.add(threat, name, Try::new(setup, "nothing", "not-loaded", code), twin);
        }
    }

    /// Native code is this host's own, whole, and of this engine.
    fn caches(&mut self) {
        let run = |damage, outcome, says| {
            let setup = Setup { tampering: Some(Tampering::Cache(damage)), ..Setup::default() };
            Try::new(setup, "nothing", outcome, says)
        };
        for (name, damage) in [
            ("forges native code with a key of its own", Damage::Forged),
            ("changes one bit of native code", Damage::Flipped),
            ("cuts native code off", Damage::Cut),
            ("puts another component's native code into its place", Damage::Swapped),
            ("puts a link in the place of native code", Damage::Linked),
        ] {
            let refused = run(damage, "not-loaded", "compiled anew");
            self.add(20, name, refused, run(Damage::None, "succeeded", ""));
        }
        let other = run(Damage::OtherEngine, "not-loaded", "E_COMPILE");
        self.add(20, "brings native code of another engine", other, run(Damage::None, "succeeded", ""));
        // It runs what was checked.
        let late = run(Damage::Late, "succeeded", "");
        self.add(20, "replaces native code after it was checked", late, run(Damage::None, "succeeded", ""));
    }

    /// A new version gets what the old one got.
    fn upgrades(&mut self) -> Result<()> {
        let asks = r#"{"exec":[{"program":"granted"}]}"#;
        let exec = |requests: &str, grant: &str| Setup {
            guest: "exec".to_owned(),
            requests: requests.to_owned(),
            grant: grant.to_owned(),
            ..Setup::default()
        };
        let wider = Try::new(exec(asks, "{}"), "run echo a", "refused(E_GRANT)", "grant:");
        self.add(23, "asks in its manifest for more than the job gives", wider, self.works()?);
        let grown = Try::new(exec("{}", "{}"), "run echo a", "not-loaded", "remit:exec");
        self.add(23, "imports in a new version what its manifest does not ask for", grown, self.works()?);
        let given = Setup { grant: r#"{"exec":[{"program":"echo"}]}"#.to_owned(), ..self.open()? };
        let given = Try::new(given, &self.get("/v1"), "not-loaded", "exec echo").on(0);
        self.add(23, "is given by the job what it never asked for", given, self.works()?);
        for host in ["${options.host}", "*", "a.example,b.example", "a.(example|evil)", "{{host}}"] {
            let rule = json!({"http": [{"host": host, "methods": ["GET"], "paths": ["/"]}]});
            let trick = Setup { grant: rule.to_string(), ..self.open()? };
            let trick = Try::new(trick, &self.get("/v1"), "not-loaded", "").on(0);
            self.add(23, &format!("is given a host as {host}"), trick, self.works()?);
        }
        Ok(())
    }

    /// A component that makes the compiler run wild takes only that process with it.
    fn bombs(&mut self) {
        for (name, bomb) in [
            ("is half a million functions", Bomb::Functions),
            ("is one function of thousands of variables", Bomb::Long),
        ] {
            let ended = Try::done(Deed::Compile(bomb), "refused", "the compiler ended with");
            let made = Try::done(Deed::Compile(Bomb::None), "succeeded", "native code");
            self.add(24, name, ended, made);
        }
    }

    /// What was right for another runner, another time or another component.
    fn replays(&mut self) {
        for (name, answered) in [
            ("gives the runner an answer that another runner got", Answered::Another),
            ("gives the runner an answer that nobody signed", Answered::Unsigned),
        ] {
            let refused = Try::done(Deed::Answer(answered), "refused", "an answer is not believed");
            let own = Try::done(Deed::Answer(Answered::Own), "succeeded", "taken");
            self.add(26, name, refused, own);
        }
        for (name, fetched) in [
            ("sends another component, rightly signed, for the one in the job", Fetched::Another),
            ("sends other bytes for the component in the job", Fetched::OtherBytes),
        ] {
            let refused = Try::done(Deed::Fetch(fetched), "refused", "E_DIGEST");
            let right = Try::done(Deed::Fetch(Fetched::Right), "succeeded", "loaded");
            self.add(26, name, refused, right);
        }
        let older = Try::done(Deed::Policy(4), "refused", "E_ROLLBACK");
        let newer = Try::done(Deed::Policy(6), "succeeded", "version 6");
        self.add(26, "brings back a trust policy that was replaced", older, newer);
    }

    /// A guest that has broken out has a worker's process, and that has nothing.
    fn taken_over(&mut self) {
        for (name, probe, connections) in [
            ("breaks out and calls a service", Probe::Connect, 1),
            ("breaks out and reads a secret's file", Probe::Secret, 0),
            ("breaks out and looks into the cache", Probe::Cache, 0),
            ("breaks out and plants something in the cache", Probe::Plant, 0),
            ("breaks out and reads the runner's environment", Probe::Environment, 0),
            ("breaks out and starts a program", Probe::Start, 0),
        ] {
            let barred = Try::done(Deed::Probe(true, probe), "refused", "refused").on(0);
            let free = Try::done(Deed::Probe(false, probe), "succeeded", "it was done").on(connections);
            self.add(27, name, barred, free);
        }
    }

    /// What another version left on disk is not half understood.
    fn other_versions(&mut self) {
        let other = Try::done(Deed::Memory(2), "refused", "its form is 2");
        let own = Try::done(Deed::Memory(1), "succeeded", "");
        self.add(30, "finds what another version remembers of its trust", other, own);
        let other = Try::done(Deed::Journal(9), "refused", "1 of 3 records");
        // The kind of a log entry.
        let own = Try::done(Deed::Journal(4), "succeeded", "3 of 3 records");
        self.add(30, "finds a journal with records of another version", other, own);
    }
}
