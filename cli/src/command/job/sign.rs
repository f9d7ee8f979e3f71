//! `remit job sign`: an author stands for a compiled job.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use remit_job::{
    compile::{ResolvedComponent, compile},
    document::{Action, Document},
    source::{JobSource, StepSource},
};
use remit_protocol::{
    ComponentSelector, Span, Timestamp,
    digest::Sized,
    endpoint::Fault,
    limits::{MAX_JOB, MAX_NOTE},
    manifest::Manifest,
    operator::{ComponentSummary, ComponentView, Page, SignedJob, path},
};
use remit_signing::{
    TrustPolicy,
    job::{JobNote, JobPath, MAX_VALIDITY},
    note::{self, UnverifiedNote},
    verify,
};
use serde::Serialize;

use crate::{
    command::{key, note as note_command},
    connection::Connection,
    failure::{Failure, Result},
    files,
    output::{Output, harmless, note as say},
};

#[derive(Args)]
pub(crate) struct SignJob {
    /// The job file. What is signed is written beside it: `NAME.job.json` and `NAME.job.note`.
    file: PathBuf,
    /// The author's private key. A second author signs the same note with another one.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Whose components the job may use: only what this policy believes is looked at.
    #[arg(long, value_name = "TRUST.TOML")]
    trust: PathBuf,
    /// The job's version; it has to rise. Left out: the time in seconds.
    #[arg(long)]
    version: Option<u64>,
    /// How long the note is valid, at most 180 days.
    #[arg(long, default_value = "90d")]
    valid_for: Span,
}

#[derive(Serialize)]
struct Signed {
    job: String,
    version: u64,
    document: Sized,
    note: String,
    key: String,
    expires: Timestamp,
    files: [PathBuf; 2],
    steps: Vec<SignedStep>,
}

#[derive(Serialize)]
struct SignedStep {
    step: String,
    does: String,
    digest: Option<String>,
    grant: serde_json::Value,
}

/// The signed document of a job file, if there is one beside it.
pub(crate) fn signed_beside(file: &Path) -> Result<Option<SignedJob>> {
    let [document, note] = places(file);
    if !note.exists() {
        return Ok(None);
    }
    let text = |path: &Path, most: usize| {
        let bytes = files::read(path, most as u64)?;
        String::from_utf8(bytes).map_err(|error| Failure::input(format_args!("{}: {error}", path.display())))
    };
    Ok(Some(SignedJob { document: text(&document, MAX_JOB)?, note: text(&note, MAX_NOTE)? }))
}

fn places(file: &Path) -> [PathBuf; 2] {
    [file.with_extension("job.json"), file.with_extension("job.note")]
}

impl SignJob {
    pub(super) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let key = key::load(&self.key)?;
        let trust = note_command::trust(&self.trust)?;
        let source = files::read_text(&self.file)?;
        let source = JobSource::from_slice(source.as_bytes()).map_err(|faults| self.faults(faults))?;
        let components = resolve(connection, &source, &trust).await?;
        let project = connection.project()?;
        let find = |selector: &ComponentSelector| components.get(&selector.to_string()).cloned();
        let document = compile(&source, &project, &find).map_err(|faults| self.faults(faults))?;
        let bytes = document.to_vec();
        let [document_file, note_file] = places(&self.file);
        let name = JobPath { project, job: document.job.clone() };
        let (signed, says) = match existing(&note_file, &name, &bytes, self.version)? {
            Some((old, says)) => {
                (note::add_signature(&old, &key).map_err(|refusal| note_command::refused(&refusal))?, says)
            }
            None => self.sign(&key, name, &bytes)?,
        };
        files::write(&document_file, &bytes, false)?;
        files::write(&note_file, &signed, false)?;
        let identity =
            UnverifiedNote::parse(&signed).map_err(|refusal| note_command::refused(&refusal))?.identity();
        let signed = Signed {
            job: says.name.to_string(),
            version: says.version,
            document: says.definition,
            note: identity.to_string(),
            key: key.name().to_string(),
            expires: says.expires,
            files: [document_file, note_file],
            steps: steps(&document),
        };
        output.print(&signed, text);
        Ok(())
    }

    fn faults(&self, faults: Vec<Fault>) -> Failure {
        Failure::input(format_args!("{}: the job cannot be signed", self.file.display())).with_faults(faults)
    }

    fn sign(
        &self,
        key: &remit_signing::SigningKey,
        name: JobPath,
        bytes: &[u8],
    ) -> Result<(Vec<u8>, JobNote)> {
        if self.valid_for.duration() > MAX_VALIDITY {
            return Err(Failure::input("a job note is valid for at most 180 days"));
        }
        let second = Timestamp::from_millis(note_command::now().as_secs() * 1000);
        let says = JobNote {
            name,
            version: self.version.unwrap_or(second.as_secs()),
            definition: Sized::of(bytes),
            not_before: second,
            expires: second.plus(self.valid_for.duration()),
        };
        let signed =
            note::sign(&says.to_text(), &[key]).map_err(|refusal| note_command::refused(&refusal))?;
        Ok((signed, says))
    }
}

/// The note that another author has made of the very same document, if it may be signed as well.
fn existing(
    file: &Path,
    name: &JobPath,
    document: &[u8],
    version: Option<u64>,
) -> Result<Option<(Vec<u8>, JobNote)>> {
    if !file.exists() {
        return Ok(None);
    }
    let bytes = files::read(file, MAX_NOTE as u64)?;
    let says = UnverifiedNote::parse(&bytes).and_then(|note| JobNote::parse(&note)).ok();
    let same = |says: &JobNote| {
        says.name == *name
            && says.definition.is(document)
            && says.expires > note_command::now()
            && version.is_none_or(|version| version == says.version)
    };
    Ok(says.filter(same).map(|says| (bytes, says)))
}

/// What each `uses` of the job stands for: the newest version whose note the author's policy believes. The orchestrator
/// only says what there is.
async fn resolve(
    connection: &Connection,
    source: &JobSource,
    trust: &TrustPolicy,
) -> Result<BTreeMap<String, ResolvedComponent>> {
    let listed: Page<ComponentSummary> = connection.all(path::COMPONENTS).await?;
    let mut found = BTreeMap::new();
    for (_, own) in source.steps.iter().flat_map(StepSource::components) {
        let called = own.uses.to_string();
        if found.contains_key(&called) {
            continue;
        }
        let mut candidates: Vec<&ComponentSummary> = listed
            .items
            .iter()
            .filter(|summary| summary.name == *own.uses.name() && own.uses.selects(&summary.version))
            .collect();
        candidates.sort_by(|a, b| b.version.cmp(&a.version));
        for candidate in candidates {
            let name = format!("{}@{}", candidate.name, candidate.version);
            let view: ComponentView = connection
                .get(&path::fill(
                    path::COMPONENT,
                    &[&candidate.name.namespace(), &candidate.name.name(), &candidate.version],
                ))
                .await?;
            match believed(&view, trust) {
                Ok(component) => {
                    found.insert(called, component);
                    break;
                }
                Err(why) => say(&format!("{name} is passed over: {why}")),
            }
        }
    }
    Ok(found)
}

/// The component that a view shows, if its note is believed and is about just this.
fn believed(view: &ComponentView, trust: &TrustPolicy) -> std::result::Result<ResolvedComponent, String> {
    let verdicts: Vec<String> = view.verdicts.iter().map(|verdict| verdict.note.clone()).collect();
    let published = verify::Published { note: view.note.as_bytes(), proof: None, verdicts: &verdicts };
    let release = verify::release(published, trust, note_command::now())
        .map_err(|refusal| harmless(&refusal.to_string()))?;
    let says = release.note();
    if !says.manifest.is(view.manifest_json.as_bytes()) {
        return Err("its manifest is not the one that was signed".to_owned());
    }
    let manifest = Manifest::from_slice(view.manifest_json.as_bytes()).map_err(|error| error.to_string())?;
    if manifest.name != says.name || manifest.version != says.version {
        return Err("its manifest is about another component".to_owned());
    }
    Ok(ResolvedComponent { version: says.version.clone(), digest: says.component.digest, manifest })
}

fn steps(document: &Document) -> Vec<SignedStep> {
    let mut signed = Vec::new();
    for step in &document.steps {
        let what = match &step.action {
            Action::Component(_) => None,
            Action::Gate(gate) => Some(format!("waits until {} agree", gate.needed)),
            Action::Halt(_) => Some("ends the execution".to_owned()),
            Action::Job(job) => Some(format!("runs the job {}", job.job)),
        };
        signed.extend(what.map(|does| SignedStep {
            step: step.name.to_string(),
            does,
            digest: None,
            grant: serde_json::Value::Null,
        }));
        signed.extend(step.components().map(|action| SignedStep {
            step: step.name.to_string(),
            does: format!("{}@{}", action.name, action.version),
            digest: Some(action.digest.to_string()),
            grant: serde_json::to_value(&action.grant).unwrap_or_default(),
        }));
    }
    signed
}

/// What the author stands for from here on: each step's component and all that it is given.
fn text(signed: &Signed) -> String {
    let mut lines = vec![format!("{} version {} signed by {}", signed.job, signed.version, signed.key)];
    for step in &signed.steps {
        let digest = step.digest.as_deref().map(|digest| format!(" {digest}")).unwrap_or_default();
        lines.push(format!("  {}: {}{digest}", step.step, step.does));
        if step.grant.as_object().is_some_and(|grant| !grant.is_empty()) {
            lines.push(format!("    may {}", step.grant));
        }
    }
    lines.push(format!("note {}", signed.note));
    lines.push(format!("valid until {}", signed.expires));
    lines.push("next: remit job apply, with the same file".to_owned());
    lines.join("\n")
}
