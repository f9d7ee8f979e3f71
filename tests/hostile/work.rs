//! Honest work: a release by a publisher whom the runner's owner trusts, and a job that uses it.

use std::{collections::BTreeMap, sync::LazyLock};

use remit_job::{
    compile::{ResolvedComponent, compile},
    document::Document,
    source::JobSource,
};
use remit_protocol::{
    ComponentSelector, Digest, OptionName, ProjectName, RunnerId, SecretPath, Timestamp, digest::Sized,
    manifest::Manifest, sealed::Sealed,
};
use remit_signing::{
    KeyName, SigningKey,
    component::ComponentNote,
    job::{JobNote, JobPath},
    note,
    run::Order,
    sealing::{Purpose, SealingNote, SealingPublic},
};
use serde_json::{Value, json};

use super::{
    log::Shown,
    orchestrator::{Orchestrator, Twist, digest},
};

/// The publisher, the author, a reviewer, and somebody whom nobody trusts.
pub(crate) fn key(name: &str) -> SigningKey {
    let seed = match name {
        "acme.example/release" => 1,
        "acme.example/author" => 2,
        "acme.example/initiator" => 4,
        "acme.example/approver" => 5,
        "runner" => 6,
        "sec.example/ann" => 7,
        _ => 3,
    };
    SigningKey::from_seed(KeyName::new(name).unwrap(), &[seed; 32])
}

/// The policy of the runner's owner.
pub(crate) fn trust() -> String {
    format!(
        "version = 5\n\n[[key]]\nvkey = \"{}\"\nholder = \"release\"\nkinds = [\"component\"]\n\n\
         [[key]]\nvkey = \"{}\"\nholder = \"author\"\nkinds = [\"job\"]\n\n\
         [[publisher]]\nnamespace = \"acme\"\nkeys = [\"acme.example/release\"]\nthreshold = 1\n\n\
         [[author]]\nprojects = [\"demo\"]\nkeys = [\"acme.example/author\"]\nthreshold = 1\n\n\
         {}[minimum]\n\"acme/one\" = \"1.0.10\"\n",
        key("acme.example/release").vkey(),
        key("acme.example/author").vkey(),
        super::runs::trust(),
    )
}

/// The lines that make the owner want a reviewer's word.
pub(crate) fn review() -> String {
    format!(
        "\n[[key]]\nvkey = \"{}\"\nholder = \"ann\"\nkinds = [\"verdict\"]\n\n\
         [[review]]\ncriteria = \"safe-to-run\"\nkeys = [\"sec.example/ann\"]\nthreshold = 1\n",
        key("sec.example/ann").vkey()
    )
}

/// When the test began, less a minute: one time for all notes, so that the same words make the same note.
#[expect(clippy::disallowed_methods, reason = "notes are valid from now on")]
pub(crate) fn today() -> Timestamp {
    static TODAY: LazyLock<Timestamp> = LazyLock::new(|| {
        let now = Timestamp::from_system(std::time::SystemTime::now());
        Timestamp::from_millis((now.as_secs() - 60) * 1000)
    });
    *TODAY
}

/// A built-in component under the publisher's name.
#[derive(Clone)]
pub(crate) struct Release {
    pub(crate) manifest: Vec<u8>,
    pub(crate) wasm: Vec<u8>,
    pub(crate) says: ComponentNote,
}

impl Release {
    /// `transform` or another built-in component as `acme/one` in this version.
    pub(crate) fn of(component: &str, version: u32) -> Self {
        let folder = harness::components().join(component);
        let wasm = std::fs::read(folder.join("component.wasm")).unwrap();
        let mut manifest: Value =
            serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        manifest["name"] = "acme/one".into();
        manifest["version"] = format!("1.0.{version}").into();
        Self::new(manifest.to_string().into_bytes(), wasm)
    }

    pub(crate) fn new(manifest: Vec<u8>, wasm: Vec<u8>) -> Self {
        let read: Manifest = serde_json::from_slice(&manifest).unwrap();
        let says = ComponentNote {
            name: read.name,
            version: read.version,
            component: Sized::of(&wasm),
            manifest: Sized::of(&manifest),
            source: None,
            not_before: today(),
            expires: today().plus(std::time::Duration::from_secs(86_400)),
        };
        Self { manifest, wasm, says }
    }

    pub(crate) fn note(&self, by: &str) -> String {
        String::from_utf8(note::sign(&self.says.to_text(), &[&key(by)]).unwrap()).unwrap()
    }
}

/// What is sealed wrongly, and what is done to the work afterwards.
type Misdeed = (fn(&mut Seal), fn(&mut Work));

/// An attempt as it is handed out, with everything that it leads to; each part can be changed before.
pub(crate) struct Work {
    pub(crate) assignment: Value,
    pub(crate) document: Vec<u8>,
    pub(crate) bundle: Value,
    pub(crate) place: String,
    /// Bytes by the digest under which they are served.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) twist: Twist,
    /// How the answer below a path is twisted.
    pub(crate) answers: Vec<(&'static str, Twist)>,
    /// What the log shows of its release.
    pub(crate) shown: Shown,
    /// What is typed for it is sealed so, as soon as the runner has told its key; and what is done to the work then.
    pub(crate) seals: Option<Misdeed>,
    /// The size that the log had when the release was put into it, if that was before its turn.
    early: Option<u64>,
}

impl Work {
    /// A job of one step that runs `release`. `with` and what follows is the step's, in YAML.
    pub(crate) fn new(number: u32, release: &Release, step: &str) -> Self {
        let (name, version) = (release.says.name.clone(), release.says.version.clone());
        let nodes = if step.contains("per: node") { "nodes: { filter: \".*\" }\n" } else { "" };
        let yaml = format!("job: hostile\n{nodes}steps:\n  - name: one\n    uses: {name}@{version}\n{step}");
        let document = document(&yaml, release);
        let bytes = document.to_vec();
        let place = format!("{}/{}/{version}", name.namespace(), name.name());
        let bundle = json!({
            "digest": digest(&release.wasm), "length": release.wasm.len(),
            "manifest": String::from_utf8(release.manifest.clone()).unwrap(),
            "note": release.note("acme.example/release"),
        });
        let blobs =
            BTreeMap::from([(digest(&release.wasm), release.wasm.clone()), (digest(&bytes), bytes.clone())]);
        let assignment = json!({
            "attempt": id(number), "epoch": 1, "execution": id(number), "project": "demo", "job": "hostile",
            "revision": 1, "document": Sized::of(&bytes), "section": 0, "first_step": 0, "steps": 1, "start": "fast",
            "effect": document.steps[0].effect(), "started_by": "attacker",
        });
        let answers = Vec::new();
        Self {
            assignment,
            document: bytes,
            bundle,
            place,
            blobs,
            twist: Twist::Honest,
            answers,
            shown: Shown::Nothing,
            seals: None,
            early: None,
        }
    }

    /// Puts another document in the place of the compiled one, rightly named by its digest.
    pub(crate) fn redocument(&mut self, change: impl FnOnce(&mut Value)) {
        let mut document: Value = serde_json::from_slice(&self.document).unwrap();
        change(&mut document);
        self.document = document.to_string().into_bytes();
        self.assignment["document"] = serde_json::to_value(Sized::of(&self.document)).unwrap();
        self.blobs.insert(digest(&self.document), self.document.clone());
    }

    /// Adds the author's note with this version.
    pub(crate) fn sign(&mut self, by: &str, version: u64) {
        let note = job_note(&self.document, by, version, "hostile");
        self.assignment["job_note"] = note.into();
    }

    /// The attempt's id.
    pub(crate) fn attempt(&self) -> String {
        self.assignment["attempt"].as_str().unwrap_or_default().to_owned()
    }

    /// Seals what is typed for it, and puts the release into the log before its turn, where that is what the row wants.
    pub(crate) fn prepare(&mut self, orchestrator: &Orchestrator) {
        if let Some((change, after)) = self.seals {
            let mut seal = Seal::of(self, &orchestrator.sealing());
            change(&mut seal);
            self.assignment["sealed"] = json!([seal.sealed()]);
            after(self);
        }
        if matches!(self.shown, Shown::Older | Shown::OlderWithheld) {
            let note = self.bundle["note"].as_str().unwrap();
            self.early = Some(orchestrator.log(|log| log.early(note.as_bytes())));
        }
    }

    /// Serves everything and hands it out.
    pub(crate) fn hand_out(mut self, orchestrator: &Orchestrator) {
        let note = self.bundle["note"].as_str().unwrap_or_default().to_owned();
        let (shown, early) = (self.shown, self.early);
        if let Some(proof) = orchestrator.log(|log| log.show(note.as_bytes(), shown, early)) {
            self.bundle["proof"] = proof.into();
        }
        for (digest, bytes) in self.blobs {
            orchestrator.serve_blob(&digest, bytes);
        }
        orchestrator.serve_bundle(self.place, self.bundle);
        for (path, twist) in self.answers {
            orchestrator.twist(path, twist);
        }
        orchestrator.hand_out(json!({ "run": self.assignment }), self.twist);
    }
}

/// For what something is sealed.
pub(crate) struct Seal {
    pub(crate) order: Order,
    pub(crate) option: OptionName,
    pub(crate) path: SecretPath,
    pub(crate) runner: RunnerId,
    pub(crate) key: SealingPublic,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
}

impl Seal {
    /// As an honest command line seals it.
    fn of(work: &Work, runner: &SealingNote) -> Self {
        Self {
            order: super::runs::order(work),
            option: "password".parse().unwrap(),
            path: "keys/typed/db".parse().unwrap(),
            runner: runner.runner,
            key: runner.key.clone(),
            issued: today(),
            expires: today().plus(std::time::Duration::from_secs(3600)),
        }
    }

    fn sealed(&self) -> Sealed {
        let Self { order, option, path, runner, key, issued, expires } = self;
        let purpose = Purpose { order, option, path, runner: *runner, issued: *issued, expires: *expires };
        purpose.seal(key, b"what-was-typed-must-not-leave", [3; 32]).unwrap()
    }
}

/// A note on a job document.
pub(crate) fn job_note(document: &[u8], by: &str, version: u64, job: &str) -> String {
    let says = JobNote {
        name: JobPath { project: "demo".parse().unwrap(), job: job.parse().unwrap() },
        version,
        definition: Sized::of(document),
        not_before: today(),
        expires: today().plus(std::time::Duration::from_secs(86_400)),
    };
    String::from_utf8(note::sign(&says.to_text(), &[&key(by)]).unwrap()).unwrap()
}

pub(crate) fn document(yaml: &str, release: &Release) -> Document {
    let source = JobSource::from_slice(yaml.as_bytes()).unwrap();
    let project = ProjectName::new("demo").unwrap();
    let component = ResolvedComponent {
        version: release.says.version.clone(),
        digest: Digest::of(&release.wasm),
        manifest: serde_json::from_slice(&release.manifest).unwrap(),
    };
    compile(&source, &project, &|_: &ComponentSelector| Some(component.clone())).unwrap()
}

/// An id that sorts by its number.
pub(crate) fn id(number: u32) -> String {
    remit_protocol::AttemptId::from_u128(u128::from(number)).to_string()
}
