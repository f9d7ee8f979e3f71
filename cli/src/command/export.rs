//! `remit export`: the jobs of a project as files.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use remit_import::JobFile;
use remit_job::source::JobSource;
use remit_protocol::{
    JobName,
    operator::{JobSummary, JobView, Page, path},
};
use serde::Serialize;

use super::import::told;
use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    files,
    output::Output,
};

#[derive(Subcommand)]
pub(crate) enum Export {
    /// Write jobs as their authors wrote them, or as a job file of Rundeck with a report of what is not in it.
    Jobs {
        /// Which; all of the project if none is named.
        names: Vec<JobName>,
        /// In which form.
        #[arg(long, value_enum, default_value_t = Form::Remit)]
        format: Form,
        /// The folder for job files, or the one file of Rundeck's form. Files that are there are not replaced.
        #[arg(long, value_name = "PATH")]
        into: PathBuf,
        /// Fail if something of a job is not in the file of Rundeck's form.
        #[arg(long)]
        strict: bool,
    },
}

/// How jobs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A YAML file for each job, for `remit job apply`.
    Remit,
    /// One YAML file, for Rundeck or for `remit import rundeck jobs`.
    Rundeck,
}

#[derive(Serialize)]
struct Written {
    schema: u32,
    jobs: usize,
    into: PathBuf,
}

#[derive(Serialize)]
struct Converted {
    schema: u32,
    into: PathBuf,
    #[serde(flatten)]
    file: JobFile,
}

impl Export {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let Self::Jobs { names, format, into, strict } = self;
        let project = connection.project()?;
        let names = if names.is_empty() {
            let page: Page<JobSummary> = connection.all(&path::fill(path::JOBS, &[&project])).await?;
            page.items.into_iter().map(|job| job.job).collect()
        } else {
            names
        };
        let mut sources = Vec::with_capacity(names.len());
        for name in names {
            let view: JobView = connection.get(&path::fill(path::JOB, &[&project, &name])).await?;
            sources.push((name, view.source));
        }
        match format {
            Form::Remit => write(&sources, into, output),
            Form::Rundeck => convert(&sources, into, strict, output),
        }
    }
}

fn write(sources: &[(JobName, String)], into: PathBuf, output: Output) -> Result<()> {
    let files: Vec<_> =
        sources.iter().map(|(name, source)| (into.join(format!("{name}.yaml")), source.clone())).collect();
    files::write_new(&files)?;
    let written = Written { schema: 1, jobs: files.len(), into };
    output.print(&written, |written| format!("{} jobs are in {}", written.jobs, written.into.display()));
    Ok(())
}

fn convert(sources: &[(JobName, String)], into: PathBuf, strict: bool, output: Output) -> Result<()> {
    let read = |(name, source): &(JobName, String)| {
        JobSource::parse(source).map_err(|faults| {
            let why = faults.first().map(|fault| fault.message.clone()).unwrap_or_default();
            Failure::new(
                Code::Input,
                format!("job {name}: {why}"),
                "save it again with this version of remit",
            )
        })
    };
    let sources = sources.iter().map(read).collect::<Result<Vec<_>>>()?;
    let file = remit_import::export(&sources);
    files::write_new(&[(into.clone(), file.text.clone())])?;
    let lost = file.jobs.iter().filter(|job| !job.notices.is_empty()).count();
    let converted = Converted { schema: 1, into, file };
    output.print(&converted, |converted| {
        let mut text = String::new();
        for job in converted.file.jobs.iter().filter(|job| !job.notices.is_empty()) {
            text.push_str(&format!("{}\n{}", job.job, told(&job.notices)));
        }
        text.push_str(&format!(
            "{} jobs are in {}, {lost} of them without something\n",
            converted.file.jobs.len(),
            converted.into.display()
        ));
        text
    });
    if strict && lost > 0 {
        let message = format!("{lost} jobs are not in the file as they are here");
        return Err(Failure::new(
            Code::Input,
            message,
            "the report says what is lost, or leave --strict out",
        ));
    }
    Ok(())
}
