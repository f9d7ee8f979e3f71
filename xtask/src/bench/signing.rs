//! What belief costs: verifying a component and a request, and keeping the transparency log.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::{Signer as _, SigningKey as RawKey};
use harness::programs;
use remit_protocol::{Digest, Limits, RunnerId, Session, Timestamp, digest::Sized};
use remit_signing::{
    KeyName, SigningKey, TrustPolicy,
    component::ComponentNote,
    http::{Content, RequestParts, RequestSigner, SignedHeaders, UnverifiedRequest},
    log::{Tree, leaf_hash, proof_bytes, sign_checkpoint, verify_proof},
    note,
    verify::{self, Published},
};

use super::{
    Row,
    baseline::{self, timed},
    median,
};
use crate::shell::{program, read};

/// Runs of each measurement; the median counts.
const RUNS: usize = 300;
/// Leaves of the log under which proofs are made.
const LEAVES: u64 = 1_000_000;
/// Bytes of the large component.
const LARGE: usize = 16 << 20;

/// When all of this happens.
fn now() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000)
}

fn key(name: &str) -> Result<SigningKey> {
    Ok(SigningKey::from_seed(KeyName::new(name)?, Digest::of(name.as_bytes()).as_bytes()))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Microseconds that `work` takes, at the median.
fn each(runs: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        times.push(micros(timed(&mut work)?.1));
    }
    Ok(median(times))
}

/// Microseconds of one bare `verify_strict` over a message of a note's length.
fn raw_signature() -> Result<f64> {
    let key = RawKey::from_bytes(&[7; 32]);
    let (message, public) = ([7; 512], key.verifying_key());
    let signature = key.sign(&message);
    each(RUNS, || Ok(public.verify_strict(&message, &signature)?))
}

/// A component with two signatures and a proof, as a runner gets it.
struct Release {
    wasm: Arc<[u8]>,
    manifest: String,
    note: Vec<u8>,
    proof: Vec<u8>,
    policy: TrustPolicy,
}

/// A component that exports what a step has to, padded by a custom section to about `length` bytes.
fn wasm(length: usize) -> Result<Vec<u8>> {
    let name = b"remit:step/main@0.1.0";
    let mut section = vec![1, 0, u8::try_from(name.len())?];
    section.extend_from_slice(name);
    section.extend_from_slice(&[5, 0, 0]);
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.extend([11, u8::try_from(section.len())?]);
    bytes.extend(section);
    // A number of five groups of seven bits, low ones first.
    let number = u32::try_from(length + 4)?;
    bytes.push(0);
    for group in 0..5 {
        let more = if group == 4 { 0 } else { 0x80 };
        bytes.push(u8::try_from((number >> (7 * group)) & 0x7f)? | more);
    }
    bytes.extend_from_slice(b"\x03pad");
    bytes.resize(bytes.len() + length, 7);
    Ok(bytes)
}

impl Release {
    fn new(length: usize, tree: &Tree) -> Result<Self> {
        let wasm = wasm(length)?;
        let manifest = serde_json::json!({
            "v": 1, "name": "acme/hello", "version": "1.0.0", "kind": "step", "description": "Says hello.",
            "effect": "pure", "imports": [], "requests": {}, "limits": Limits::default(), "input": {}, "output": {}
        })
        .to_string();
        let text = ComponentNote {
            name: "acme/hello".parse()?,
            version: "1.0.0".parse()?,
            component: Sized::of(&wasm),
            manifest: Sized::of(manifest.as_bytes()),
            source: None,
            not_before: now(),
            expires: now().plus(Duration::from_secs(86_400)),
        }
        .to_text();
        let (one, two, log) = (key("acme/one")?, key("acme/two")?, key("log.example")?);
        let note = note::sign(&text, &[&one, &two])?;
        let (proof, _) = proof(tree, &note, &log)?;
        let policy = format!(
            "version = 1\n[[key]]\nvkey = \"{}\"\nholder = \"one\"\nkinds = [\"component\"]\n\
             [[key]]\nvkey = \"{}\"\nholder = \"two\"\nkinds = [\"component\"]\n\
             [[publisher]]\nnamespace = \"acme\"\nkeys = [\"acme/one\", \"acme/two\"]\nthreshold = 2\n\
             [log]\nrequire = \"required\"\nkeys = [\"{}\"]\n",
            one.vkey(),
            two.vkey(),
            log.vkey()
        );
        let policy = TrustPolicy::from_toml(&policy)
            .map_err(|faults| anyhow::anyhow!("the policy: {}", faults.len()))?;
        Ok(Self { wasm: wasm.into(), manifest, note, proof, policy })
    }

    /// Microseconds of one verification.
    fn verify(&self, runs: usize) -> Result<f64> {
        each(runs, || {
            let published = Published { note: &self.note, proof: Some(&self.proof), verdicts: &[] };
            let wasm = Arc::clone(&self.wasm);
            let verified = verify::component(published, self.manifest.as_bytes(), wasm, &self.policy, now())?;
            ensure!(verified.release().signers().len() == 2 && verified.release().logged().is_some());
            Ok(())
        })
    }
}

/// A log of a million leaves.
fn million() -> Tree {
    let mut tree = Tree::default();
    for number in 0..LEAVES - 1 {
        tree.append(leaf_hash(&number.to_be_bytes()));
    }
    tree
}

/// The proof of `note` as the last but one leaf of `tree` with it.
fn proof(tree: &Tree, note: &[u8], log: &SigningKey) -> Result<(Vec<u8>, u64)> {
    let mut tree = tree.clone();
    let place = tree.append(leaf_hash(note));
    let size = tree.size();
    let head = sign_checkpoint(log, size, &tree.root())?;
    let hashes = tree.prove_inclusion(place, size).context("no proof")?;
    let proof = proof_bytes(place, &hashes, &head);
    let _ = verify_proof(&proof, note, &[log.vkey()])?;
    Ok((proof, size))
}

/// Verifying a component of the smallest size and of a large one.
pub(crate) fn component() -> Result<Vec<Row>> {
    let tree = million();
    let (small, large) = (Release::new(0, &tree)?, Release::new(LARGE, &tree)?);
    let (value, raw) = (small.verify(RUNS)?, raw_signature()?);
    let whole = large.verify(20)?;
    let pass = each(20, || {
        ensure!(Digest::of(&large.wasm) != Digest::of(b""));
        Ok(())
    })?;
    #[expect(clippy::cast_precision_loss, reason = "gigabytes a second")]
    let speed = |micros: f64| LARGE as f64 / micros / 1e3;
    let (hashing, bare) = (speed(whole - value), speed(pass));
    Ok(vec![
        Row {
            id: "verify-component",
            value,
            unit: "us",
            baseline: raw,
            ratio: value / raw,
            note: "two signatures and a log proof; baseline one verify_strict; goal ≤ 1000 us".into(),
        },
        Row {
            id: "verify-hashing",
            value: hashing,
            unit: "GB/s",
            baseline: bare,
            ratio: hashing / bare,
            note: "what each further byte of a component costs; baseline one SHA-256 pass; goal ≥ 1 GB/s"
                .into(),
        },
    ])
}

/// Verifying a runner's request.
pub(crate) fn request() -> Result<Row> {
    let own = key("runner")?;
    let public = own.public();
    let audience = "remit.example".parse()?;
    let signer = RequestSigner::new(own, RunnerId::from_u128(5), "remit.example".parse()?);
    let body = vec![b' '; 1024];
    let content = Content { content_type: "application/json", body: &body };
    let parts = RequestParts { method: "POST", path: "/r/v1/report", query: None, content };
    let signed = signer.sign(&parts, Session(1), 1, now(), [7; 16])?;
    let value = each(RUNS, || {
        let content_type = [("content-type", &b"application/json"[..])];
        let headers =
            signed.headers.iter().map(|(name, value)| (*name, value.as_bytes())).chain(content_type);
        let request = UnverifiedRequest::read(SignedHeaders::collect(headers)?)?;
        ensure!(request.verify(&parts, &public, &audience, now())?.sequence() == 1);
        Ok(())
    })?;
    let raw = raw_signature()?;
    Ok(Row {
        id: "signed-request",
        value,
        unit: "us",
        baseline: raw,
        ratio: value / raw,
        note:
            "headers read, body of 1 KiB hashed, signature verified; baseline one verify_strict; goal ≤ 50 us"
                .into(),
    })
}

/// Notes that the orchestrator's log takes in a second, each committed before its caller hears of it.
pub(crate) fn append() -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let mut bench = program(programs().join("remit-orchestrator"));
    bench.args(["bench", "log-append", "--notes", "20000", "--callers", "256", "--data"]).arg(folder.path());
    let printed = read(&mut bench)?;
    let printed: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap_or_default())?;
    let value = printed["notes_per_second"].as_f64().context("no notes_per_second was printed")?;
    let baseline = 1000.0 / baseline::fsync()?;
    Ok(Row {
        id: "log-append",
        value,
        unit: "notes/s",
        baseline,
        ratio: value / baseline,
        note: "256 callers, one note each; baseline one fsync a note; goal ≥ 1,000".into(),
    })
}

/// The size of a proof in a log of a million leaves.
pub(crate) fn proof_size() -> Result<Row> {
    let note = b"a note";
    let (proof, size) = proof(&million(), note, &key("remit.corp.example/log")?)?;
    ensure!(size == LEAVES);
    #[expect(clippy::cast_precision_loss, reason = "bytes of a small file")]
    let value = proof.len() as f64;
    Ok(Row {
        id: "log-proof",
        value,
        unit: "B",
        baseline: 2048.0,
        ratio: value / 2048.0,
        note: "tlog-proof with its checkpoint at 1,000,000 leaves; goal ≤ 2 KB".into(),
    })
}
