//! Options on the command line: `NAME=VALUE`, and what a job asks.

use std::{collections::BTreeMap, path::Path};

use clap::Args;
use remit_job::options::GivenFile;
use remit_protocol::{
    JobName, OptionName,
    digest::Sized,
    limits::MAX_OPTION_FILE,
    operator::{JobOptions, OptionView, OptionsAsked, path},
};
use serde_json::Value;

use super::typed;
use crate::{
    connection::Connection,
    failure::{Failure, Result},
    files,
    output::{Output, harmless, table},
};

/// Values of options, as every command takes them.
#[derive(Args)]
pub(super) struct Given {
    /// An option, as NAME=VALUE, or NAME=@FILE for the text of a file. Repeated, the values of one name are a list.
    #[arg(long = "option", short = 'o', value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// An option whose value is taken as it stands, even if it begins with `@`. May be repeated.
    #[arg(long = "text", value_name = "NAME=VALUE")]
    texts: Vec<String>,
    /// The file of an option of type file, as NAME=PATH: it is uploaded, and named by its digest. May be repeated.
    #[arg(long = "option-file", value_name = "NAME=PATH")]
    files: Vec<String>,
}

impl Given {
    /// The values by name, after their files were uploaded. A secret of the job that is to be typed is not among them: nothing
    /// is sent then.
    pub(super) async fn bring(
        &self,
        connection: &Connection,
        job: &JobName,
    ) -> Result<BTreeMap<OptionName, Value>> {
        let mut values = self.read()?;
        if !values.is_empty() {
            let document = typed::document(connection, job).await?;
            typed::nothing_in_the_clear(&document.options, values.keys())?;
        }
        for option in &self.files {
            let (name, path) = split(option)?;
            let path = Path::new(path);
            let bytes = files::read(path, MAX_OPTION_FILE.bytes())?;
            let sized = Sized::of(&bytes);
            let address = path::fill(path::FILE, &[&connection.project()?, &sized.digest]);
            let _: Sized = connection.upload(&address, bytes).await?;
            let called = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let value = GivenFile { name: called, digest: sized.digest, length: sized.length };
            let value = serde_json::to_value(value).map_err(Failure::input)?;
            if values.insert(name.clone(), value).is_some() {
                return Err(Failure::input(format_args!("the option {name} is given twice")));
            }
        }
        Ok(values)
    }

    /// The values by name. What they mean is for the orchestrator to say: it knows the job.
    fn read(&self) -> Result<BTreeMap<OptionName, Value>> {
        let mut found: BTreeMap<OptionName, Vec<Value>> = BTreeMap::new();
        for option in &self.options {
            let (name, value) = split(option)?;
            let value = match value.strip_prefix('@') {
                Some(file) => files::read_text(Path::new(file))?,
                None => value.to_owned(),
            };
            found.entry(name).or_default().push(value.into());
        }
        for text in &self.texts {
            let (name, value) = split(text)?;
            found.entry(name).or_default().push(value.into());
        }
        let whole = |mut values: Vec<Value>| match values.len() {
            1 => values.remove(0),
            _ => Value::Array(values),
        };
        Ok(found.into_iter().map(|(name, values)| (name, whole(values))).collect())
    }
}

fn split(option: &str) -> Result<(OptionName, &str)> {
    let (name, value) =
        option.split_once('=').ok_or_else(|| Failure::input(format_args!("{option:?} is not NAME=VALUE")))?;
    Ok((name.parse().map_err(Failure::input)?, value))
}

#[derive(Args)]
pub(crate) struct OptionsOf {
    /// The job's name.
    name: JobName,
    #[command(flatten)]
    given: Given,
}

impl OptionsOf {
    pub(super) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let address = path::fill(path::JOB_OPTIONS, &[&connection.project()?, &self.name]);
        let asked = OptionsAsked { options: self.given.bring(connection, &self.name).await? };
        let options: JobOptions = connection.post(&address, &asked).await?;
        output.print(&options, shown);
        Ok(())
    }
}

fn shown(options: &JobOptions) -> String {
    if options.options.is_empty() {
        return format!("the job {} has no options", options.job);
    }
    let row = |option: &OptionView| {
        let value = option.value.as_ref().map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let needed = if option.required && value.is_none() { "required" } else { "" };
        vec![
            option.name.to_string(),
            option.kind.clone(),
            harmless(value.as_deref().unwrap_or(needed)),
            harmless(&choice(option)),
            harmless(&option.description),
        ]
    };
    let rows: Vec<_> = options.options.iter().map(row).collect();
    let mut text = table(&["OPTION", "TYPE", "VALUE", "MAY BE", "DESCRIPTION"], &rows);
    let faults = options.options.iter().filter_map(|option| option.fault.as_ref()).chain(&options.faults);
    for fault in faults {
        text.push_str(&format!("\n{}; {}", harmless(&fault.message), harmless(&fault.remedy)));
    }
    text
}

/// What may be given, in one line.
fn choice(option: &OptionView) -> String {
    let mut parts = Vec::new();
    if !option.values.is_empty() {
        let shown: Vec<&str> = option.values.iter().take(10).map(String::as_str).collect();
        let more = option.values.len().saturating_sub(10);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let open = if option.open { ", or another" } else { "" };
        parts.push(format!("{}{more}{open}", shown.join(", ")));
    }
    if !option.rule.is_empty() {
        parts.push(option.rule.clone());
    }
    parts.join("; ")
}
