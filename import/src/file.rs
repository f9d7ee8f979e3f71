//! A job file as a whole: one list of jobs, each imported on its own.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    job::{self, Imported},
    yaml,
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
    let start = |message: String| InvalidFile::at(1, 1, message);
    if text.len() > MAX_FILE {
        return Err(start(format!("{} bytes, at most {MAX_FILE} are read", text.len())));
    }
    let root = match format {
        Format::Yaml => yaml::parse(text)?,
        Format::Json => Some(
            serde_json::from_str(text)
                .map_err(|error| InvalidFile::at(error.line(), error.column(), error.to_string()))?,
        ),
    };
    let Some(Value::Array(entries)) = root else {
        return Err(start("a job file is a list of jobs: each begins with `- name:`".to_owned()));
    };
    if entries.len() > MAX_JOBS {
        return Err(start(format!("{} jobs, at most {MAX_JOBS} are read", entries.len())));
    }
    let mut taken = BTreeSet::new();
    let mut imported = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let Value::Object(entry) = entry else {
            return Err(start(format!("entry {} of the list is not a map", at + 1)));
        };
        imported.push(job::import(at + 1, entry, key, &mut taken));
    }
    Ok(imported)
}
