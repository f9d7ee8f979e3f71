//! `remit import`: what another product exports becomes files here, and a report of what differs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use remit_import::{Access, Format, Imported, Kind, Notice, Role};
use remit_protocol::SecretPath;
use serde::Serialize;

use super::nodes::read_nodes;
use crate::{
    failure::{Code, Failure, Result},
    files,
    output::{Output, harmless},
};

#[derive(Subcommand)]
pub(crate) enum Import {
    /// From Rundeck.
    #[command(subcommand)]
    Rundeck(Rundeck),
}

#[derive(Subcommand)]
pub(crate) enum Rundeck {
    /// Write a job file for each job of an export in YAML, JSON or XML, and tell where the meaning differs.
    ///
    /// Nothing is sent: look at the files, then save them with `remit job apply FOLDER`. Exit code 0: every job was
    /// imported; 3: some were not, or with --strict, some only with steps that fail when they are run.
    Jobs {
        /// The export; the name ends in .json, .xml, or it is YAML.
        file: PathBuf,
        #[command(flatten)]
        made: Made,
    },
    /// Tell what the attributes of a resource model (YAML, JSON or XML) no longer mean, and write it without secrets.
    Nodes {
        /// The resource model.
        file: PathBuf,
        /// The file for the nodes, for `remit nodes load`; without it there is only the report.
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
    /// Tell which roles come closest to ACL policies, and which rules have no counterpart.
    ///
    /// A role never allows more than the policies did. The commands that make tokens of them are printed, not run.
    Acl {
        /// A file of policies; several documents may stand in it.
        file: PathBuf,
        /// The project that the policies belong to, if they do not say one.
        #[arg(long = "of", value_name = "PROJECT")]
        of: Option<String>,
    },
    /// Write the jobs, node sources and README of a project archive (.rdproject.jar), and tell what differs.
    Archive {
        /// The archive.
        file: PathBuf,
        #[command(flatten)]
        made: Made,
    },
}

#[derive(Args)]
pub(crate) struct Made {
    /// The folder for what is made. Files that are there are not replaced.
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
    /// The secret with which steps reach nodes over SSH.
    #[arg(long, value_name = "PATH", default_value = "keys/imported/ssh-key")]
    key: SecretPath,
    /// Fail if a step was imported only as one that fails when it is run.
    #[arg(long)]
    strict: bool,
}

/// What became of the jobs.
#[derive(Serialize)]
struct Jobs {
    schema: u32,
    imported: usize,
    refused: usize,
    placeholders: usize,
    jobs: Vec<Imported>,
}

#[derive(Serialize)]
struct Nodes {
    schema: u32,
    nodes: usize,
    notices: Vec<Notice>,
}

#[derive(Serialize)]
struct Archived {
    project: String,
    access: Access,
    sources: Vec<remit_import::Source>,
    notices: Vec<Notice>,
    #[serde(flatten)]
    jobs: Jobs,
}

impl Import {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let Self::Rundeck(what) = self;
        match what {
            Rundeck::Jobs { file, made } => jobs(&file, &made, output),
            Rundeck::Nodes { file, into } => nodes(&file, into.as_deref(), output),
            Rundeck::Acl { file, of } => acl(&file, of.as_deref(), output),
            Rundeck::Archive { file, made } => archive(&file, &made, output),
        }
    }
}

/// A file's text.
fn text(file: &Path) -> Result<String> {
    let bytes = files::read(file, remit_import::MAX_FILE as u64)?;
    String::from_utf8(bytes).map_err(|_| Failure::input(format_args!("{}: not UTF-8 text", file.display())))
}

fn invalid(file: &Path, why: impl std::fmt::Display, remedy: &str) -> Failure {
    Failure::new(Code::Input, format!("{}: {why}", file.display()), remedy)
}

fn jobs(file: &Path, made: &Made, output: Output) -> Result<()> {
    let ending = |wanted: &str| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(wanted));
    let format = match (ending("json"), ending("xml")) {
        (true, _) => Format::Json,
        (_, true) => Format::Xml,
        _ => Format::Yaml,
    };
    let jobs = remit_import::jobs(&text(file)?, format, made.key.as_str());
    let remedy = "export the jobs from Rundeck again, and let the name end in .yaml, .json or .xml";
    let jobs = Jobs::of(jobs.map_err(|why| invalid(file, why, remedy))?);
    files::write_new(&jobs.files(&made.into))?;
    output.print(&jobs, Jobs::shown);
    jobs.verdict(made.strict)
}

fn nodes(file: &Path, into: Option<&Path>, output: Output) -> Result<()> {
    let mut set = read_nodes(file)?;
    let notices = remit_import::nodes(&mut set.nodes);
    if let Some(into) = into {
        let node = |node: &remit_protocol::node::Node| {
            let mut entry: serde_json::Map<String, serde_json::Value> =
                node.attributes.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            entry.insert(
                "tags".to_owned(),
                node.tags.iter().map(|tag| serde_json::Value::from(tag.as_str())).collect(),
            );
            (node.name.to_string(), serde_json::Value::Object(entry))
        };
        let model: serde_json::Map<String, serde_json::Value> = set.nodes.iter().map(node).collect();
        let text = serde_json::to_string_pretty(&model).map_err(Failure::input)?;
        files::write_new(&[(into.to_owned(), format!("{text}\n"))])?;
    }
    let report = Nodes { schema: 1, nodes: set.nodes.len(), notices };
    output.print(&report, |report| {
        let mut text = told(&report.notices);
        text.push_str(&format!("{} nodes read\n", report.nodes));
        text
    });
    Ok(())
}

fn acl(file: &Path, of: Option<&str>, output: Output) -> Result<()> {
    let access = remit_import::access(&text(file)?, of);
    let access = access.map_err(|why| invalid(file, why, "give a file of ACL policies in YAML"))?;
    output.print(&access, |access| format!("{}{}", told(&access.notices), roles(&access.roles)));
    Ok(())
}

fn archive(file: &Path, made: &Made, output: Output) -> Result<()> {
    let open = std::fs::File::open(file).map_err(|error| Failure::file(file, &error))?;
    let archive = remit_import::archive(std::io::BufReader::new(open), made.key.as_str());
    let remedy = "export the project from Rundeck again: Project Settings, Export Archive";
    let archive = archive.map_err(|why| invalid(file, why, remedy))?;
    let archived = Archived {
        project: archive.project,
        access: archive.access,
        sources: archive.sources,
        notices: archive.notices,
        jobs: Jobs::of(archive.jobs),
    };
    let mut files = archived.jobs.files(&made.into.join("jobs"));
    let sources = archived.sources.iter();
    files.extend(
        sources.map(|source| (made.into.join(format!("sources/{}.toml", source.name)), source.text.clone())),
    );
    files.extend(archive.readme.map(|text| (made.into.join("README.md"), text)));
    files::write_new(&files)?;
    output.print(&archived, |archived| {
        let mut text = archived.jobs.shown();
        text.push_str(&told(&archived.notices));
        text.push_str(&told(&archived.access.notices));
        text.push_str(&roles(&archived.access.roles));
        text.push_str(&format!(
            "project {}: save the jobs with `remit job apply {}`\n",
            harmless(&archived.project),
            made.into.join("jobs").display()
        ));
        text
    });
    archived.jobs.verdict(made.strict)
}

impl Jobs {
    fn of(jobs: Vec<Imported>) -> Self {
        let count =
            |kind| jobs.iter().flat_map(|job| &job.notices).filter(|notice| notice.kind == kind).count();
        Self {
            schema: 1,
            imported: jobs.iter().filter(|job| job.source.is_some()).count(),
            refused: jobs.iter().filter(|job| job.source.is_none()).count(),
            placeholders: count(Kind::Placeholder),
            jobs,
        }
    }

    fn files(&self, into: &Path) -> Vec<(PathBuf, String)> {
        let file = |job: &Imported| Some((into.join(format!("{}.yaml", job.name)), job.source.clone()?));
        self.jobs.iter().filter_map(file).collect()
    }

    fn shown(&self) -> String {
        let mut text = String::new();
        for job in &self.jobs {
            let state = if job.source.is_some() { "imported" } else { "NOT IMPORTED" };
            text.push_str(&format!("{} ({}): {state}\n", job.name, harmless(&job.was)));
            for fault in &job.faults {
                text.push_str(&row("refused", &fault.place, &fault.message));
            }
            text.push_str(&told(&job.notices));
        }
        text.push_str(&format!(
            "{} imported, {} not; {} steps fail when they are run\n",
            self.imported, self.refused, self.placeholders
        ));
        text
    }

    fn verdict(&self, strict: bool) -> Result<()> {
        if self.refused > 0 {
            let message = format!("{} of {} jobs were not imported", self.refused, self.jobs.len());
            return Err(Failure::new(Code::Input, message, "the report says why, job by job"));
        }
        if strict && self.placeholders > 0 {
            let message = format!("{} steps fail when they are run", self.placeholders);
            return Err(Failure::new(Code::Input, message, "write them anew, or leave --strict out"));
        }
        Ok(())
    }
}

fn row(kind: &str, place: &str, message: &str) -> String {
    format!("  {kind:<12} {}: {}\n", harmless(place), harmless(message))
}

pub(super) fn told(notices: &[Notice]) -> String {
    let word = |kind| match kind {
        Kind::Differs => "differs",
        Kind::Lost => "lost",
        Kind::Placeholder => "placeholder",
    };
    notices.iter().map(|notice| row(word(notice.kind), &notice.place, &notice.message)).collect()
}

fn roles(roles: &[Role]) -> String {
    let line = |role: &Role| {
        let (subject, project) = (role.subject.to_string(), &role.project);
        let command = role.command.as_deref().unwrap_or("the project is a pattern: make a token for each");
        format!("{} in {}: {command}\n", harmless(&subject), harmless(project))
    };
    roles.iter().map(line).collect()
}
