//! `remit step inspect`: what the bytes show, what the trust policy verifies, what an owner's ceiling permits, and what is only
//! claimed. The four never mix.

mod text;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use clap::Args;
use remit_protocol::{
    Digest, Timestamp,
    capability::{
        Requests,
        imports::{ImportClass, accounts, classify, is_inert},
        secrets::SecretUse,
    },
    manifest::Manifest,
    weigh::Scales,
};
use remit_signing::{
    Refusal, TrustPolicy,
    note::UnverifiedNote,
    sections::Producer,
    verify::{self, Published, VerifiedComponent},
};
use serde::Serialize;

use super::{bill, verdict};
use crate::{
    command::note as note_command,
    failure::{Code, Failure, Result},
    files,
    output::{self, Output, one_line},
    package::Package,
    programs,
};

/// Largest proof that is read.
const MAX_PROOF: u64 = 64 << 10;

/// Exit code 0: what was asked passed; 3: it cannot be read; 4: a check failed; 8: there is nothing to check.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The package, or the crate that it was built in.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Whose signatures count; absent: nothing is called verified.
    #[arg(long, value_name = "TRUST.TOML")]
    trust: Option<PathBuf>,
    /// A runner's `runner.toml`: each request is held against its ceiling.
    #[arg(long, value_name = "RUNNER.TOML")]
    ceiling: Option<PathBuf>,
    /// Print what the component was made of, by its own word, as CycloneDX 1.6 in JSON, and nothing else.
    #[arg(long)]
    sbom: bool,
}

/// Schema 2 of `--output json`.
#[derive(Serialize)]
struct Inspection {
    schema: u32,
    computed: Computed,
    /// Absent where it was not asked for, or is refused.
    verified: Option<Verified>,
    refused: Option<Refused>,
    /// What the owner's ceiling says.
    ceiling: Option<Scales>,
    claimed: Claimed,
}

/// Computed from the bytes at hand.
#[derive(Serialize)]
struct Computed {
    digest: Digest,
    bytes: usize,
    imports: Vec<Import>,
    exports: Vec<String>,
    /// Imports that nothing in the manifest accounts for: no runner takes the component.
    imports_without_request: Vec<String>,
    /// Capabilities that the manifest asks for and the component cannot use.
    requests_without_import: Vec<&'static str>,
}

#[derive(Serialize)]
struct Import {
    interface: String,
    class: &'static str,
}

/// By the trust policy that was named, at the time of the look.
#[derive(Serialize)]
struct Verified {
    policy: u64,
    at: Timestamp,
    note: Digest,
    /// First instant at which it has to be verified again.
    valid_until: Timestamp,
    signers: Vec<Signer>,
    quorum: Quorum,
    logged: Option<Logged>,
    /// The reviewers' notes that counted.
    verdicts: Vec<Digest>,
    /// What it would be refused for if the owner had not made an exemption.
    exemptions: Vec<Exemption>,
}

#[derive(Serialize)]
struct Signer {
    holder: String,
    key: String,
}

#[derive(Serialize)]
struct Quorum {
    /// Holders that have to sign.
    needed: u32,
    /// Holders that could.
    of: usize,
}

#[derive(Serialize)]
struct Logged {
    origin: String,
    index: u64,
    size: u64,
}

#[derive(Serialize)]
struct Exemption {
    criteria: String,
    reason: String,
    until: Timestamp,
}

#[derive(Serialize)]
struct Refused {
    /// Absent if it is not signed at all.
    code: Option<&'static str>,
    message: String,
    /// Known keys whose signatures are good; they were not enough.
    known_signers: Vec<Signer>,
}

/// By the word of whoever built and signed it.
#[derive(Serialize)]
struct Claimed {
    manifest: Manifest,
    /// Ways of using a secret that work and should not be needed.
    discouraged: Vec<String>,
    /// Names of keys in the signature lines, whoever wrote them.
    signature_lines: Vec<String>,
    produced_by: Vec<Tool>,
    /// How many packages it says it was made of; `--sbom` lists them.
    packages: Option<usize>,
}

#[derive(Serialize)]
struct Tool {
    field: String,
    name: String,
    version: String,
}

impl From<Producer> for Tool {
    fn from(Producer { field, name, version }: Producer) -> Self {
        Self { field, name, version }
    }
}

impl From<&verify::Signer> for Signer {
    fn from(signer: &verify::Signer) -> Self {
        Self { holder: signer.holder.to_string(), key: signer.key.to_string() }
    }
}

fn class(interface: &str) -> &'static str {
    match classify(interface) {
        ImportClass::Baseline => "baseline",
        ImportClass::Unknown => "unknown",
        ImportClass::Http
        | ImportClass::Exec
        | ImportClass::Ssh
        | ImportClass::Tcp
        | ImportClass::Scratch
        | ImportClass::NamedFiles
        | ImportClass::Artifacts
        | ImportClass::Reveal => "effectful",
    }
}

impl Inspect {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let package = self.package()?;
        let wasm = package.wasm()?;
        let manifest = package.manifest()?;
        if self.sbom {
            return sbom(&wasm, &manifest);
        }
        let policy = self.trust.as_deref().map(note_command::trust).transpose()?;
        let now = note_command::now();
        let looked = policy.as_ref().map(|policy| look(&package, &wasm, policy, now)).transpose()?;
        let (verified, refused) = match looked {
            None => (None, None),
            Some(Ok(verified)) => (Some(verified), None),
            Some(Err(refused)) => (None, Some(refused)),
        };
        let ceiling = self.ceiling.as_deref().map(|ceiling| weigh(ceiling, &package)).transpose()?;
        let computed = compute(&wasm, &manifest)?;
        let failed = failure(&computed, refused.as_ref(), ceiling.as_ref());
        let signature_lines = match package.note()? {
            None => Vec::new(),
            Some(note) => lines_of(&note),
        };
        let claimed = Claimed {
            discouraged: discouraged(&manifest.requests),
            manifest,
            signature_lines,
            produced_by: bill::producers(&wasm)?.into_iter().map(Tool::from).collect(),
            packages: bill::packages(&wasm)?.map(|packages| packages.len()),
        };
        let inspection = Inspection { schema: 2, computed, verified, refused, ceiling, claimed };
        output.print(&inspection, text::of);
        failed
    }

    fn package(&self) -> Result<Package> {
        if self.folder.is_dir() {
            return Package::find(&self.folder)
                .map_err(|none| Failure::new(Code::Nothing, none.message, none.remedy));
        }
        Package::find(&self.folder)
    }
}

/// The ways of using a secret that work and should not be needed.
fn discouraged(requests: &Requests) -> Vec<String> {
    let http = requests.http.iter().filter_map(|rule| rule.secret.as_ref());
    let http = http.map(|secret| (&secret.name, secret.placement.kind()));
    let all = http.chain(requests.reveal.iter().map(|secret| (&secret.name, SecretUse::Reveal)));
    all.filter_map(|(name, usage)| {
        Some(format!("the secret {name} as {}: {}", usage.as_str(), usage.discouraged()?))
    })
    .collect()
}

fn sbom(wasm: &[u8], manifest: &Manifest) -> Result<()> {
    let Some(document) = bill::cyclonedx(wasm, manifest)? else {
        return Err(Failure::new(
            Code::Nothing,
            "the component does not say what it was made of",
            "components that `remit step build` or `cargo auditable` built in Rust do",
        ));
    };
    output::line(&serde_json::to_string_pretty(&document).unwrap_or_default());
    Ok(())
}

/// Why the command fails, if so: the worst first.
fn failure(computed: &Computed, refused: Option<&Refused>, ceiling: Option<&Scales>) -> Result<()> {
    use remit_protocol::weigh::Answer;
    let fail = |why: String, remedy: &str| Err(Failure::new(Code::Refused, why, remedy));
    if let Some(refused) = refused {
        return fail(one_line(&refused.message), "");
    }
    if let Some(import) = computed.imports_without_request.first() {
        return fail(format!("no request accounts for the import {}", one_line(import)), "");
    }
    let denied = ceiling.iter().flat_map(|scales| &scales.requests);
    let denied = denied.filter(|weighed| weighed.answer == Answer::Refused).count();
    if denied > 0 {
        return fail(
            format!("the ceiling refuses {denied} requests"),
            "its owner adds the lines above, or not",
        );
    }
    Ok(())
}

fn compute(wasm: &[u8], manifest: &Manifest) -> Result<Computed> {
    let interfaces = remit_signing::wasm::interfaces(wasm).map_err(Failure::input)?;
    let names = interfaces.import_names();
    let inert = |name: &str| is_inert(name, &manifest.requests, manifest.profile);
    let class = |name: &str| if inert(name) { "inert" } else { class(name) };
    let accounts = accounts(names.iter().map(String::as_str), &manifest.requests, manifest.profile);
    Ok(Computed {
        digest: Digest::of(wasm),
        bytes: wasm.len(),
        imports: names.iter().map(|name| Import { interface: name.clone(), class: class(name) }).collect(),
        exports: interfaces.exports.iter().map(|item| item.name.clone()).collect(),
        imports_without_request: accounts.without_request,
        requests_without_import: accounts.without_import,
    })
}

/// What the trust policy says of the package.
fn look(
    package: &Package,
    wasm: &[u8],
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<std::result::Result<Verified, Refused>> {
    let Some(note) = package.note()? else {
        let message = "it is not signed".to_owned();
        return Ok(Err(Refused { code: None, message, known_signers: Vec::new() }));
    };
    let proof = match package.proof_path() {
        path if path.is_file() => Some(files::read(&path, MAX_PROOF)?),
        _ => None,
    };
    let verdicts: Vec<String> = verdict::notes(package)?.into_iter().map(|(_, note)| note).collect();
    let published = Published { note: &note, proof: proof.as_deref(), verdicts: &verdicts };
    let manifest = package.manifest_bytes()?;
    let refused = |refusal: Refusal| {
        let known = UnverifiedNote::parse(&note).ok();
        let known = known.and_then(|note| verify::known_signers(&note, policy).ok()).unwrap_or_default();
        Refused {
            code: Some(refusal.code.code()),
            message: refusal.to_string(),
            known_signers: known.iter().map(Signer::from).collect(),
        }
    };
    let component = match verify::component(published, &manifest, wasm.to_vec(), policy, now) {
        Ok(component) => component,
        Err(refusal) => return Ok(Err(refused(refusal))),
    };
    // A proof that is there is looked at where the policy knows a log, required or not.
    let logged = match (&proof, policy.log().keys.is_empty()) {
        (Some(_), false) => match verify::proven(&published, policy) {
            Ok(proven) => Some(Logged {
                origin: proven.checkpoint.origin().to_owned(),
                index: proven.index,
                size: proven.checkpoint.size(),
            }),
            Err(refusal) => return Ok(Err(refused(refusal))),
        },
        _ => None,
    };
    Ok(Ok(verified(&component, policy, now, logged)))
}

fn verified(
    component: &VerifiedComponent,
    policy: &TrustPolicy,
    now: Timestamp,
    logged: Option<Logged>,
) -> Verified {
    let release = component.release();
    let quorum = policy.publisher(release.note().name.namespace());
    let holders = quorum.map(|quorum| {
        let keys = quorum.keys.iter().filter_map(|name| policy.key(name));
        keys.map(|key| &key.holder).collect::<std::collections::BTreeSet<_>>().len()
    });
    let standing = release.standing();
    let exemption = |found: &remit_signing::policy::Exemption| Exemption {
        criteria: found.criteria.to_string(),
        reason: found.reason.clone(),
        until: found.until,
    };
    Verified {
        policy: policy.version(),
        at: now,
        note: release.identity(),
        valid_until: release.valid_until(),
        signers: release.signers().iter().map(Signer::from).collect(),
        quorum: Quorum {
            needed: quorum.map_or(0, |quorum| quorum.threshold.get()),
            of: holders.unwrap_or_default(),
        },
        logged,
        verdicts: standing.verdicts.keys().copied().collect(),
        exemptions: standing.exemptions.iter().map(exemption).collect(),
    }
}

/// The names in a note's signature lines; none if it is no note.
fn lines_of(note: &[u8]) -> Vec<String> {
    let note = UnverifiedNote::parse(note);
    note.map(|note| note.signatures().iter().map(|line| line.name().to_string()).collect())
        .unwrap_or_default()
}

/// What the owner of a runner says to each request: asked of the runner's own program, so that there is one answer.
fn weigh(config: &Path, package: &Package) -> Result<Scales> {
    let failed =
        |error: std::io::Error| Failure::new(Code::Unreachable, format!("remit-runner explain: {error}"), "");
    let manifest = package.manifest_bytes()?;
    let mut command = programs::sister("remit-runner")?;
    command.args(["explain", "--requests", "--config"]).arg(config);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&manifest).map_err(failed)?;
    }
    let answered = child.wait_with_output().map_err(failed)?;
    if !answered.status.success() {
        return Err(Failure::input(format_args!("{} cannot be used", config.display()))
            .with_remedy("the message of remit-runner stands above"));
    }
    serde_json::from_slice(&answered.stdout).map_err(Failure::input)
}
