//! Notes, proofs and trust policies: what is accepted is canonical, and what was signed is refused when a byte changes.

use std::sync::LazyLock;

use remit_protocol::{Digest, Timestamp, digest::Sized};
use remit_signing::{
    KeyName, SigningKey, TrustPolicy,
    component::ComponentNote,
    job::JobNote,
    log::{Tree, leaf_hash, proof_bytes, sign_checkpoint, verify_proof},
    note::{NoteKind, UnverifiedNote, sign},
    verify,
};

use super::{Broken, Target, Verdict};
use crate::mutate::Form;

pub(super) const TARGET: Target = Target {
    name: "note",
    form: Form::Lines,
    words: &[
        "remit/component/v1",
        "remit/job/v1",
        "remit/enrol/v1",
        "remit/trail/v1",
        "name",
        "version",
        "component",
        "manifest",
        "definition",
        "source",
        "not-before",
        "expires",
        "\u{2014} ",
        "sha256:",
        "acme/hello",
        "ops/restart",
        "1.4.2",
        "2026-11-20T00:00:00Z",
        "2027-11-20T00:00:00Z",
        "c2sp.org/tlog-proof@v1",
        "index 0",
        "[[key]]",
        "vkey =",
        "holder =",
        "kinds = [\"component\"]",
        "[[publisher]]",
        "namespace =",
        "threshold = 1",
        "version = 1",
        "[minimum]",
        "[revoked]",
        "[log]",
        "require = \"required\"",
    ],
    seeds: || match &*WORLD {
        Some(world) => {
            let policy = world.policy_text.clone().into_bytes();
            super::seeds(
                vec![world.component.clone(), world.job.clone(), world.proof.clone(), policy],
                "note",
            )
        }
        None => Vec::new(),
    },
    check,
};

/// Two keys, a policy that believes them, and what they signed.
struct World {
    policy: TrustPolicy,
    policy_text: String,
    component: Vec<u8>,
    job: Vec<u8>,
    proof: Vec<u8>,
    log: SigningKey,
}

const DOCUMENT: &[u8] = b"the job document";

static WORLD: LazyLock<Option<World>> = LazyLock::new(|| {
    let key = |name: &str| {
        let seed = Digest::of(name.as_bytes());
        Some(SigningKey::from_seed(KeyName::new(name).ok()?, seed.as_bytes()))
    };
    let (alice, bob, dave, log) =
        (key("acme/alice")?, key("acme/bob")?, key("ops/dave")?, key("log.example")?);
    let mut policy_text = "version = 7\n".to_owned();
    for (key, kind) in [(&alice, "component"), (&bob, "component"), (&dave, "job")] {
        let holder = key.name().as_str().replace('/', "-");
        policy_text +=
            &format!("[[key]]\nvkey = \"{}\"\nholder = \"{holder}\"\nkinds = [\"{kind}\"]\n", key.vkey());
    }
    policy_text += "[[publisher]]\nnamespace = \"acme\"\nkeys = [\"acme/alice\", \"acme/bob\"]\nthreshold = 2\n\
                    [[author]]\nprojects = [\"ops\"]\nkeys = [\"ops/dave\"]\nthreshold = 1\n";
    let release = ComponentNote {
        name: "acme/hello".parse().ok()?,
        version: "1.4.2".parse().ok()?,
        component: Sized::of(b"the component"),
        manifest: Sized::of(b"the manifest"),
        source: None,
        not_before: time("2026-11-20T00:00:00Z")?,
        expires: time("2027-11-20T00:00:00Z")?,
    };
    let job = JobNote {
        name: "ops/restart".parse().ok()?,
        version: 3,
        definition: Sized::of(DOCUMENT),
        not_before: time("2026-11-20T00:00:00Z")?,
        expires: time("2027-03-20T00:00:00Z")?,
    };
    let component = sign(&release.to_text(), &[&alice, &bob]).ok()?;
    let mut tree = Tree::default();
    for leaf in [b"another leaf".as_slice(), &component, b"a third"] {
        tree.append(leaf_hash(leaf));
    }
    let checkpoint = sign_checkpoint(&log, tree.size(), &tree.root()).ok()?;
    let proof = proof_bytes(1, &tree.prove_inclusion(1, tree.size())?, &checkpoint);
    Some(World {
        policy: TrustPolicy::from_toml(&policy_text).ok()?,
        policy_text,
        job: sign(&job.to_text(), &[&dave]).ok()?,
        component,
        proof,
        log,
    })
});

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn check(input: &[u8]) -> Result<Verdict, Broken> {
    let world = WORLD.as_ref().ok_or_else(|| Broken("the world of this target cannot be made".to_owned()))?;
    let now = time("2026-11-21T00:00:00Z").unwrap_or_default();
    let mut words = String::new();
    let mut accepted = false;
    match UnverifiedNote::parse(input) {
        Ok(note) => {
            accepted = true;
            words.push_str(note.kind().type_line());
            canonical(&note)?;
        }
        Err(refusal) => words.push_str(&refusal.detail),
    }
    // The same text and the same valid signatures in another order are the same note; anything else is refused.
    match verify::release(&input.to_vec(), &world.policy, now) {
        Ok(release) => {
            let same = release.identity() == Digest::of(text_of(&world.component));
            Broken::unless(same, || "a component note is believed that nobody signed".to_owned())?;
            words.push_str(" believed");
        }
        Err(refusal) => words.push_str(&format!(" {}", refusal.code)),
    }
    match verify::job(input, DOCUMENT.to_vec(), &world.policy, now) {
        Ok(job) => {
            let same = job.identity() == Digest::of(text_of(&world.job));
            Broken::unless(same, || "a job note is believed that nobody signed".to_owned())?;
            words.push_str(" believed");
        }
        Err(refusal) => words.push_str(&format!(" {}", refusal.code)),
    }
    match verify_proof(input, &world.component, &[world.log.vkey()]) {
        Ok(leaf) => {
            accepted = true;
            let same = leaf.index == 1 && leaf.checkpoint.size() == 3;
            Broken::unless(same, || format!("a proof is believed for leaf {}", leaf.index))?;
            words.push_str(" proven");
        }
        Err(error) => words.push_str(&error.to_string()),
    }
    if let Ok(text) = std::str::from_utf8(input) {
        match TrustPolicy::from_toml(text) {
            Ok(policy) => {
                accepted = true;
                words.push_str(&format!(" policy of {} keys", policy.keys().count().min(4)));
            }
            Err(faults) => {
                Broken::unless(!faults.is_empty(), || "a policy is refused without a fault".to_owned())?;
                words.push_str(faults.first().map(|fault| fault.what.as_str()).unwrap_or_default());
            }
        }
    }
    Ok(Verdict { accepted, words })
}

/// The signed text of a note's bytes.
fn text_of(note: &[u8]) -> &[u8] {
    let end = note.windows(2).position(|two| two == b"\n\n").map_or(note.len(), |at| at + 1);
    &note[..end]
}

/// What a note says is written in exactly one way.
fn canonical(note: &UnverifiedNote) -> Result<(), Broken> {
    let written = match note.kind() {
        NoteKind::Component => ComponentNote::parse(note).ok().map(|parsed| parsed.to_text()),
        NoteKind::Job => JobNote::parse(note).ok().map(|parsed| parsed.to_text()),
        _ => None,
    };
    match written {
        Some(written) => Broken::unless(written == note.text(), || format!("it is written as {written:?}")),
        None => Ok(()),
    }
}
