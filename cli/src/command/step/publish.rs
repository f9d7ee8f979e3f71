//! `remit step publish`.

use std::path::PathBuf;

use clap::Args;
use remit_protocol::{
    Digest, digest,
    operator::{ComponentView, VerdictView, path},
};

use serde::Serialize;

use super::verdict;
use crate::{
    command::log,
    connection::Connection,
    failure::{Failure, Result},
    output::{self, Output, harmless},
    package::Package,
};

#[derive(Serialize)]
struct Published {
    #[serde(flatten)]
    component: ComponentView,
    /// The verdicts that were in the package.
    #[serde(rename = "published_verdicts")]
    verdicts: Vec<VerdictView>,
}

#[derive(Args)]
pub(crate) struct Publish {
    /// The package, or the crate that it was built in.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Publish {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let package = Package::find(&self.folder)?;
        let view = publish(connection, &package).await?;
        // The receipt: whoever gets the package can check offline that its note is public.
        let proof = package.proof_path();
        if let Err(failure) = log::keep_proof(connection, view.note.as_bytes(), &proof).await {
            let again = format!("fetch it with: remit log proof {}", package.note_path().display());
            output::note(&format!("the log's proof was not kept: {}\n  {again}", failure.message));
        }
        let mut published = Published { component: view, verdicts: Vec::new() };
        for (_, note) in verdict::notes(&package)? {
            published.verdicts.push(verdict::publish(connection, note.as_bytes()).await?);
        }
        output.print(&published, text);
        Ok(())
    }
}

fn text(published: &Published) -> String {
    let summary = &published.component.summary;
    let mut lines = vec![format!("{}@{} is published  {}", summary.name, summary.version, summary.digest)];
    lines.extend(published.verdicts.iter().map(|verdict| {
        let opinion = if verdict.pass { "pass" } else { "fail" };
        format!("  with a verdict, {opinion} by {}: note {}", harmless(&verdict.criteria), verdict.note_id)
    }));
    lines.join("\n")
}

/// Uploads the wasm by its digest, then publishes note and manifest.
pub(crate) async fn publish(connection: &Connection, package: &Package) -> Result<ComponentView> {
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|_| Failure::input("note or manifest is not UTF-8"))
    };
    let Some(note) = package.note()? else {
        return Err(Failure::input(format_args!("{}: not signed", package.folder().display()))
            .with_remedy("sign it first: remit step sign --key FILE"));
    };
    let wasm = package.wasm()?;
    let component = Digest::of(&wasm);
    let publish = remit_protocol::operator::Publish {
        note: text(note)?,
        manifest: text(package.manifest_bytes()?)?,
        component,
    };
    let _: digest::Sized = connection.upload(&path::fill(path::BLOB, &[&component]), wasm).await?;
    connection.post(path::COMPONENTS, &publish).await
}
