//! `remit import`: job files of another product become job files here, and a report of what differs.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use remit_import::{Format, Imported, Kind};
use remit_protocol::SecretPath;
use serde::Serialize;

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
    /// Write a job file for each job of an export in YAML or JSON, and tell where the meaning differs.
    ///
    /// Nothing is sent: look at the files, then save them with `remit job apply FOLDER`. Exit code 0: every job was
    /// imported; 3: some were not, or with --strict, some only with steps that fail when they are run.
    Jobs {
        /// The export; a name that ends in .json is JSON, any other YAML.
        file: PathBuf,
        /// The folder for the job files. Files that are there are not replaced.
        #[arg(long, value_name = "FOLDER")]
        into: PathBuf,
        /// The secret with which steps reach nodes over SSH.
        #[arg(long, value_name = "PATH", default_value = "keys/imported/ssh-key")]
        key: SecretPath,
        /// Fail if a step was imported only as one that fails when it is run.
        #[arg(long)]
        strict: bool,
    },
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    imported: usize,
    refused: usize,
    placeholders: usize,
    jobs: Vec<Imported>,
}

impl Import {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let Self::Rundeck(Rundeck::Jobs { file, into, key, strict }) = self;
        let format = if file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
            Format::Json
        } else {
            Format::Yaml
        };
        let bytes = files::read(&file, remit_import::MAX_FILE as u64)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(format_args!("{}: not UTF-8 text", file.display())))?;
        let jobs = remit_import::jobs(&text, format, key.as_str()).map_err(|invalid| {
            Failure::new(
                Code::Input,
                format!("{}: {invalid}", file.display()),
                "export the jobs from Rundeck as YAML or JSON; XML is not read",
            )
        })?;
        write(&jobs, &into)?;
        let count =
            |kind| jobs.iter().flat_map(|job| &job.notices).filter(|notice| notice.kind == kind).count();
        let report = Report {
            schema: 1,
            imported: jobs.iter().filter(|job| job.source.is_some()).count(),
            refused: jobs.iter().filter(|job| job.source.is_none()).count(),
            placeholders: count(Kind::Placeholder),
            jobs,
        };
        output.print(&report, shown);
        if report.refused > 0 {
            let message = format!("{} of {} jobs were not imported", report.refused, report.jobs.len());
            return Err(Failure::new(Code::Input, message, "the report says why, job by job"));
        }
        if strict && report.placeholders > 0 {
            let message = format!("{} steps fail when they are run", report.placeholders);
            return Err(Failure::new(Code::Input, message, "write them anew, or leave --strict out"));
        }
        Ok(())
    }
}

fn write(jobs: &[Imported], into: &Path) -> Result<()> {
    let path = |job: &Imported| into.join(format!("{}.yaml", job.name));
    let made = || jobs.iter().filter(|job| job.source.is_some());
    if let Some(there) = made().map(path).find(|path| path.exists()) {
        let message = format!("{} is there already, and nothing was written", there.display());
        return Err(Failure::new(Code::Input, message, "give --into another folder"));
    }
    for job in made() {
        files::write(&path(job), job.source.as_deref().unwrap_or_default().as_bytes(), false)?;
    }
    Ok(())
}

fn shown(report: &Report) -> String {
    let mut text = String::new();
    for job in &report.jobs {
        let state = if job.source.is_some() { "imported" } else { "NOT IMPORTED" };
        text.push_str(&format!("{} ({}): {state}\n", job.name, harmless(&job.was)));
        for fault in &job.faults {
            text.push_str(&format!(
                "  refused      {}: {}\n",
                harmless(&fault.place),
                harmless(&fault.message)
            ));
        }
        for notice in &job.notices {
            let kind = match notice.kind {
                Kind::Differs => "differs",
                Kind::Lost => "lost",
                Kind::Placeholder => "placeholder",
            };
            text.push_str(&format!(
                "  {kind:<12} {}: {}\n",
                harmless(&notice.place),
                harmless(&notice.message)
            ));
        }
    }
    text.push_str(&format!(
        "{} imported, {} not; {} steps fail when they are run\n",
        report.imported, report.refused, report.placeholders
    ));
    text
}
