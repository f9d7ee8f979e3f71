//! `files`: a scratch directory of the step's own, paths of the host that the owner gave a name, and artifacts: files that
//! stay with the execution, for people. How much a step may keep is a limit; a ceiling of `artifacts = "0B"` forbids it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::http::InvalidRule;
use crate::OptionName;

/// How a named path is opened. Only reading in this version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileMode {
    /// Read only.
    #[default]
    Ro,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFiles {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    scratch: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    artifacts: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<FileMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    option: Option<OptionName>,
}

/// What a component asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawFiles", into = "RawFiles")]
pub enum FilesRequest {
    /// `scratch = true`: an empty directory that is gone after the step.
    Scratch,
    /// `name = "…"`: a named path of the ceiling.
    Named(String),
    /// `artifacts = true`: keeping files with the execution, for people.
    Artifacts,
    /// `path = "granted"`: whichever named paths and file options the job's grant lists.
    Open,
}

/// What a job gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawFiles", into = "RawFiles")]
pub enum FilesGrant {
    /// An empty directory that is gone after the step.
    Scratch,
    /// A named path of the ceiling.
    Named(String),
    /// Keeping files with the execution.
    Artifacts,
    /// The file that was given for an option of the job, under the option's name.
    Option(OptionName),
}

fn check_name(name: String) -> Result<String, InvalidRule> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        return Err(InvalidRule(format!(
            "{name:?} is not a name of a path: lower-case letters, digits, '_', '-'"
        )));
    }
    Ok(name)
}

impl TryFrom<RawFiles> for FilesRequest {
    type Error = InvalidRule;
    fn try_from(raw: RawFiles) -> Result<Self, InvalidRule> {
        let RawFiles { scratch, artifacts, path, name, mode, option } = raw;
        if option.is_some() {
            return Err(InvalidRule(
                "a component does not know the options of jobs: ask for `path = \"granted\"`".to_owned(),
            ));
        }
        match (scratch, artifacts, path, name, mode) {
            (true, false, None, None, None) => Ok(Self::Scratch),
            (false, true, None, None, None) => Ok(Self::Artifacts),
            (false, false, Some(path), None, _) if path == "granted" => Ok(Self::Open),
            (false, false, None, Some(name), _) => Ok(Self::Named(check_name(name)?)),
            _ => Err(InvalidRule(
                "a files rule is one of `scratch = true`, `artifacts = true`, `name = \"a name of the ceiling\"` and `path = \"granted\"`"
                    .to_owned(),
            )),
        }
    }
}

impl From<FilesRequest> for RawFiles {
    fn from(request: FilesRequest) -> Self {
        match request {
            FilesRequest::Scratch => Self { scratch: true, ..Self::default() },
            FilesRequest::Artifacts => Self { artifacts: true, ..Self::default() },
            FilesRequest::Named(name) => Self { name: Some(name), ..Self::default() },
            FilesRequest::Open => Self { path: Some("granted".to_owned()), ..Self::default() },
        }
    }
}

impl TryFrom<RawFiles> for FilesGrant {
    type Error = InvalidRule;
    fn try_from(raw: RawFiles) -> Result<Self, InvalidRule> {
        if let RawFiles {
            option: Some(option),
            scratch: false,
            artifacts: false,
            path: None,
            name: None,
            mode: None,
        } = raw
        {
            return Ok(Self::Option(option));
        }
        match FilesRequest::try_from(raw)? {
            FilesRequest::Scratch => Ok(Self::Scratch),
            FilesRequest::Artifacts => Ok(Self::Artifacts),
            FilesRequest::Named(name) => Ok(Self::Named(name)),
            FilesRequest::Open => Err(InvalidRule("a grant names its path".to_owned())),
        }
    }
}

impl From<FilesGrant> for RawFiles {
    fn from(grant: FilesGrant) -> Self {
        match grant {
            FilesGrant::Scratch => FilesRequest::Scratch.into(),
            FilesGrant::Artifacts => FilesRequest::Artifacts.into(),
            FilesGrant::Option(option) => Self { option: Some(option), ..Self::default() },
            FilesGrant::Named(name) => FilesRequest::Named(name).into(),
        }
    }
}

impl FilesGrant {
    /// True if this shows something of the host.
    pub fn reads(&self) -> bool {
        matches!(self, Self::Named(_))
    }
}

impl FilesRequest {
    /// True if this is about paths of the host that the owner named.
    pub fn is_named(&self) -> bool {
        matches!(self, Self::Named(_) | Self::Open)
    }

    /// True if what this asks for includes `grant`.
    pub fn covers(&self, grant: &FilesGrant) -> bool {
        match (self, grant) {
            (Self::Scratch, FilesGrant::Scratch)
            | (Self::Artifacts, FilesGrant::Artifacts)
            | (Self::Open, FilesGrant::Named(_) | FilesGrant::Option(_)) => true,
            (Self::Named(own), FilesGrant::Named(given)) => own == given,
            _ => false,
        }
    }
}

/// A path of the host that the owner gave a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesCeiling {
    /// The name.
    pub name: String,
    /// A file, or a directory whose files are shown.
    pub path: PathBuf,
    /// How it is opened.
    #[serde(default)]
    pub mode: FileMode,
}

/// What a remit lets a step see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FilesPermit {
    /// A scratch directory is there.
    pub scratch: bool,
    /// Files may be kept with the execution.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub artifacts: bool,
    /// Options whose files may be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionName>,
    /// Named paths: name and path.
    pub named: Vec<(String, PathBuf)>,
}
