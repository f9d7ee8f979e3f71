//! `remit execution artifacts` and `artifact get`: files that steps kept.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use remit_protocol::{
    ArtifactName, Digest, ExecutionId, NodeName, StepName,
    operator::{ArtifactView, Page, path},
};

use super::{execution::word, nodes::query};
use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    files,
    output::{Output, harmless, table},
};

#[derive(Subcommand)]
pub(crate) enum Artifact {
    /// Download one; its bytes are checked against their digest.
    Get(Get),
}

#[derive(Args)]
pub(crate) struct Get {
    /// The execution's id.
    id: ExecutionId,
    /// The artifact's name.
    name: ArtifactName,
    /// The file that it is written to, or `-` for standard output; absent: its name, here.
    #[arg(long, short = 'o', value_name = "FILE")]
    to: Option<PathBuf>,
    /// The step that kept it, where several have.
    #[arg(long)]
    step: Option<StepName>,
    /// The node on which it was kept, where there are several.
    #[arg(long)]
    node: Option<NodeName>,
}

pub(crate) async fn list(connection: &Connection, id: ExecutionId, output: Output) -> Result<()> {
    let page: Page<ArtifactView> = connection.all(&path::fill(path::EXECUTION_ARTIFACTS, &[&id])).await?;
    output.print(&page, |page| {
        let row = |view: &ArtifactView| {
            vec![
                view.name.to_string(),
                view.step_name.to_string(),
                view.node_name.as_ref().map(ToString::to_string).unwrap_or_default(),
                word(&view.form),
                view.length.to_string(),
                view.digest.to_string(),
            ]
        };
        let columns = ["ARTIFACT", "STEP", "NODE", "FORM", "BYTES", "DIGEST"];
        table(&columns, &page.items.iter().map(row).collect::<Vec<_>>())
    });
    Ok(())
}

impl Artifact {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let Self::Get(get) = self;
        get.run(connection, output).await
    }
}

impl Get {
    async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let asked = query(&[("name", Some(self.name.as_str()))]);
        let address = format!("{}{asked}", path::fill(path::EXECUTION_ARTIFACTS, &[&self.id]));
        let page: Page<ArtifactView> = connection.all(&address).await?;
        let view = self.one(page.items)?;
        let node = view.node.map(|node| node.0.to_string());
        let address = path::fill(path::EXECUTION_ARTIFACT, &[&self.id, &view.step, &view.name]);
        let address = format!("{address}{}", query(&[("node", node.as_deref())]));
        let to = self.to.unwrap_or_else(|| PathBuf::from(view.name.as_str()));
        if to == Path::new("-") {
            let bytes = connection.bytes(&address, view.length).await?;
            check(&view, Digest::of(&bytes))?;
            return std::io::stdout().write_all(&bytes).map_err(|error| Failure::file(&to, &error));
        }
        let mut file = files::Arriving::begin(&to)?;
        let digest = connection.download(&address, view.length, &mut file).await?;
        check(&view, digest)?;
        file.finish()?;
        output.print(&view, |view| {
            format!("{}: {} bytes, {}", harmless(&to.display().to_string()), view.length, view.digest)
        });
        Ok(())
    }

    /// The one that is meant.
    fn one(&self, mut found: Vec<ArtifactView>) -> Result<ArtifactView> {
        found.retain(|view| {
            self.step.as_ref().is_none_or(|step| *step == view.step_name)
                && (self.node.is_none() || self.node == view.node_name)
        });
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Failure::new(
                Code::NotFound,
                format!("execution {} has no such artifact {}", self.id, self.name),
                format!("what there is: remit execution artifacts {}", self.id),
            )),
            count => {
                let place = |view: &ArtifactView| match &view.node_name {
                    Some(node) => format!("--step {} --node {node}", view.step_name),
                    None => format!("--step {}", view.step_name),
                };
                let places: Vec<_> = found.iter().take(3).map(place).collect();
                let message = format!("{count} artifacts of execution {} are called {}", self.id, self.name);
                Err(Failure::new(Code::Input, message, format!("say whose: {} …", places.join(", or "))))
            }
        }
    }
}

fn check(view: &ArtifactView, digest: Digest) -> Result<()> {
    if digest == view.digest {
        return Ok(());
    }
    let message = format!("{}: the bytes hash to {digest}, not to {}", view.name, view.digest);
    Err(Failure::new(
        Code::Unreachable,
        message,
        "try again; if it persists, something on the way alters them",
    ))
}
