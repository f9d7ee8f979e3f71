//! `remit step verdict`: a reviewer stands for, or against, a built component.

use std::path::{Path, PathBuf};

use clap::Args;
use remit_protocol::{
    Span, Timestamp,
    digest::Sized,
    manifest::Manifest,
    operator::{PublishVerdict, VerdictView, path},
};
use remit_signing::{
    note,
    verdict::{Criteria, MAX_VALIDITY, Opinion, Reviewed, Scope, VerdictNote},
    verify,
};
use serde::Serialize;

use crate::{
    command::{key, note as note_command},
    connection::{Connection, Target},
    failure::{Failure, Result},
    files,
    output::{Output, harmless},
    package::Package,
};

/// Largest report whose digest is taken.
const MAX_REPORT: u64 = 64 << 20;

#[derive(Args)]
pub(crate) struct Verdict {
    /// The package that was reviewed, as of `remit component fetch` or of the author.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The reviewer's private key: of kind `verdict` in the trust policies that are to count it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What was looked for: what `[[review]]` of the trust policies calls it.
    #[arg(long, value_name = "NAME")]
    criteria: Criteria,
    /// Only what changed since this package was looked at; it counts for as much as what stands behind that one.
    #[arg(long, value_name = "PACKAGE")]
    since: Option<PathBuf>,
    /// It does not meet the criteria: it runs nowhere where this reviewer counts, until the note is revoked there.
    #[arg(long)]
    fail: bool,
    /// A report, whose digest enters the note; it is kept elsewhere.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How long it counts, at most 400 days. `--fail` counts until it is revoked.
    #[arg(long, default_value = "365d")]
    valid_for: Span,
    /// Publish it to the registry at once; else `remit step publish` does, with the package.
    #[arg(long)]
    publish: bool,
}

#[derive(Serialize)]
struct Given {
    component: String,
    criteria: String,
    opinion: &'static str,
    scope: &'static str,
    note: String,
    key: String,
    expires: Timestamp,
    file: PathBuf,
    published: bool,
}

impl Verdict {
    pub(crate) async fn run(self, target: &Target, output: Output) -> Result<()> {
        let package = Package::find(&self.folder)?;
        let key = key::load(&self.key)?;
        let (manifest, component, manifest_bytes) = read(&package, !self.fail)?;
        if self.valid_for.duration() > MAX_VALIDITY {
            return Err(Failure::input("a verdict counts for at most 400 days"));
        }
        let scope = match &self.since {
            None => Scope::Full,
            Some(base) => {
                let (_, component, manifest) = read(&Package::find(base)?, false)?;
                Scope::Delta(Reviewed { component: component.digest, manifest: manifest.digest })
            }
        };
        let report = self.report.as_deref().map(|report| files::read(report, MAX_REPORT)).transpose()?;
        let second = Timestamp::from_millis(note_command::now().as_secs() * 1000);
        let says = VerdictNote {
            name: manifest.name,
            version: manifest.version,
            component,
            manifest: manifest_bytes,
            criteria: self.criteria,
            scope,
            opinion: if self.fail { Opinion::Fail } else { Opinion::Pass },
            report: report.as_deref().map(Sized::of),
            issued: second,
            expires: second.plus(self.valid_for.duration()),
        };
        let text = says.to_text();
        let bytes = note::sign(&text, &[&key]).map_err(|refusal| note_command::refused(&refusal))?;
        let identity = remit_protocol::Digest::of(text.as_bytes());
        let file = package.verdict_path(&identity);
        files::write(&file, &bytes, false)?;
        if self.publish {
            publish(&Connection::open(target)?, &bytes).await?;
        }
        let given = Given {
            component: format!("{}@{}", says.name, says.version),
            criteria: says.criteria.to_string(),
            opinion: says.opinion.as_str(),
            scope: if says.scope == Scope::Full { "full" } else { "delta" },
            note: identity.to_string(),
            key: key.name().to_string(),
            expires: says.expires,
            file,
            published: self.publish,
        };
        output.print(&given, text_of);
        Ok(())
    }
}

fn text_of(given: &Given) -> String {
    let mut lines = vec![
        format!(
            "{} {} {} ({}) by {}",
            given.component, given.opinion, given.criteria, given.scope, given.key
        ),
        format!("note {}", given.note),
        format!("counts until {}", given.expires),
    ];
    if given.published {
        lines.push("published beside the component".to_owned());
    } else {
        lines.push(format!("kept in {}; next: remit step publish", given.file.display()));
    }
    lines.join("\n")
}

/// A package's manifest, and what its wasm and manifest are. What nobody could run, nobody stands for.
fn read(package: &Package, runnable: bool) -> Result<(Manifest, Sized, Sized)> {
    let (wasm, manifest) = (package.wasm()?, package.manifest()?);
    if runnable {
        verify::check_wasm(&wasm, &manifest).map_err(|refusal| note_command::refused(&refusal))?;
    }
    Ok((manifest, Sized::of(&wasm), Sized::of(&package.manifest_bytes()?)))
}

/// Publishes a verdict note beside the component that it names.
pub(crate) async fn publish(connection: &Connection, note: &[u8]) -> Result<VerdictView> {
    let refused = |refusal: remit_signing::Refusal| note_command::refused(&refusal);
    let unverified = note::UnverifiedNote::parse(note).map_err(refused)?;
    let says = VerdictNote::parse(&unverified).map_err(refused)?;
    let place =
        path::fill(path::COMPONENT_VERDICTS, &[&says.name.namespace(), &says.name.name(), &says.version]);
    let note = String::from_utf8_lossy(note).into_owned();
    connection.post(&place, &PublishVerdict { note }).await
}

/// The verdict notes in a package's folder.
pub(crate) fn notes(package: &Package) -> Result<Vec<(PathBuf, String)>> {
    let mut notes = Vec::new();
    for file in package.verdict_paths()? {
        let bytes = files::read(&file, remit_signing::verdict::MAX_NOTE as u64)?;
        let text = String::from_utf8(bytes).map_err(|_| not_text(&file))?;
        notes.push((file, text));
    }
    Ok(notes)
}

fn not_text(file: &Path) -> Failure {
    Failure::input(format_args!("{}: not a note", harmless(&file.display().to_string())))
}
