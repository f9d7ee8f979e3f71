//! A job file as a whole: one list of jobs, each imported on its own.

use serde_json::{Map, Value};

use crate::{
    job::{self, Imported, Names},
    xml, yaml,
};

/// Largest file, in bytes.
pub const MAX_FILE: usize = 64 << 20;
/// Most jobs in a file.
const MAX_JOBS: usize = 50_000;

/// How a job file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.1.
    Yaml,
    /// JSON of the same structure.
    Json,
    /// XML: a `<joblist>`.
    Xml,
}

/// Why a file is no job file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct InvalidFile {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl InvalidFile {
    pub(crate) fn at(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self { line: line.max(1), column: column.max(1), message: message.into() }
    }
}

/// Imports every job of a file. `key` is the path of the secret with which steps reach nodes over SSH.
///
/// A job that cannot be imported has no source and says why; the others do not depend on it.
pub fn jobs(text: &str, format: Format, key: &str) -> Result<Vec<Imported>, InvalidFile> {
    Ok(import(&entries(text, format)?, key))
}

/// Imports jobs that may come from several files: they know one another.
pub(crate) fn import(entries: &[Map<String, Value>], key: &str) -> Vec<Imported> {
    let mut names = Names::of(entries.iter());
    entries.iter().enumerate().flat_map(|(at, entry)| job::import(at, entry, key, &mut names)).collect()
}

/// The jobs of a file as they stand there.
pub(crate) fn entries(text: &str, format: Format) -> Result<Vec<Map<String, Value>>, InvalidFile> {
    let start = |message: String| InvalidFile::at(1, 1, message);
    if text.len() > MAX_FILE {
        return Err(start(format!("{} bytes, at most {MAX_FILE} are read", text.len())));
    }
    let entries: Vec<Map<String, Value>> = match format {
        Format::Xml => job::xml::jobs(&xml::parse(text)?)?,
        Format::Yaml => list(yaml::parse(text)?)?,
        Format::Json => {
            let read = serde_json::from_str(text)
                .map_err(|error| InvalidFile::at(error.line(), error.column(), error.to_string()))?;
            list(Some(read))?
        }
    };
    if entries.len() > MAX_JOBS {
        return Err(start(format!("{} jobs, at most {MAX_JOBS} are read", entries.len())));
    }
    Ok(entries)
}

/// The jobs of a list of maps.
fn list(root: Option<Value>) -> Result<Vec<Map<String, Value>>, InvalidFile> {
    let start = |message: String| InvalidFile::at(1, 1, message);
    let Some(Value::Array(entries)) = root else {
        return Err(start("a job file is a list of jobs: each begins with `- name:`".to_owned()));
    };
    let map = |(at, entry): (usize, Value)| match entry {
        Value::Object(entry) => Ok(entry),
        _ => Err(start(format!("entry {} of the list is not a map", at + 1))),
    };
    entries.into_iter().enumerate().map(map).collect()
}
