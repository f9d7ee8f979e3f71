//! From what a component imports to what it may be linked with, and what has to be granted before it runs.

use std::collections::BTreeSet;

use remit_protocol::capability::{
    Denial, Remit, Requests, Side,
    imports::{ImportClass, Profile, check_imports, classify, is_inert},
};

/// A capability that a component can import; the base is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Http,
    Exec,
    Ssh,
    Tcp,
    Scratch,
    NamedFiles,
    Artifacts,
    Reveal,
}

/// What a component is linked with, beside the base.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Imports {
    /// The capabilities.
    pub(crate) classes: BTreeSet<Class>,
    /// Interfaces of the profile, by the names under which they are imported: linked, and denied.
    pub(crate) inert: BTreeSet<String>,
}

/// What is behind `imports`; refuses one that neither `requests` nor `profile` accounts for.
pub(crate) fn check(
    imports: &[String],
    requests: &Requests,
    profile: Option<Profile>,
) -> Result<Imports, String> {
    check_imports(imports.iter().map(String::as_str), requests, profile)
        .map_err(|error| error.to_string())?;
    let (inert, real): (Vec<&String>, Vec<&String>) =
        imports.iter().partition(|import| is_inert(import, requests, profile));
    Ok(Imports {
        classes: real.into_iter().filter_map(|import| Class::of(import)).collect(),
        inert: inert.into_iter().cloned().collect(),
    })
}

impl Class {
    fn of(import: &str) -> Option<Self> {
        match classify(import) {
            ImportClass::Http => Some(Self::Http),
            ImportClass::Exec => Some(Self::Exec),
            ImportClass::Ssh => Some(Self::Ssh),
            ImportClass::Tcp => Some(Self::Tcp),
            ImportClass::Scratch => Some(Self::Scratch),
            ImportClass::NamedFiles => Some(Self::NamedFiles),
            ImportClass::Artifacts => Some(Self::Artifacts),
            ImportClass::Reveal => Some(Self::Reveal),
            ImportClass::Baseline | ImportClass::Unknown => None,
        }
    }

    /// What a job has to grant for this, if `remit` holds nothing of it.
    pub(crate) fn lacking(self, remit: &Remit) -> Option<Denial> {
        let (given, permission, lines) = match self {
            Self::Http => (
                !remit.http().is_empty(),
                "http",
                "grant:\n  http: [{ host: api.example.com, methods: [GET], paths: [/] }]",
            ),
            Self::Exec => (!remit.exec().is_empty(), "exec", "grant:\n  exec: [{ program: NAME }]"),
            Self::Ssh => (remit.ssh().is_some(), "ssh to the node", "grant:\n  ssh: [{ target: node }]"),
            Self::Tcp => (!remit.tcp().is_empty(), "tcp", "grant:\n  tcp: [{ host: HOST, port: PORT }]"),
            Self::Scratch => {
                (remit.files().scratch, "a scratch directory", "grant:\n  files: [{ scratch: true }]")
            }
            Self::NamedFiles => (
                !(remit.files().named.is_empty() && remit.files().options.is_empty()),
                "files",
                "grant:\n  files: [{ name: NAME }]",
            ),
            Self::Artifacts => {
                (remit.files().artifacts, "artifacts", "grant:\n  files: [{ artifacts: true }]")
            }
            Self::Reveal => (!remit.reveal().is_empty(), "reveal", "grant:\n  reveal: [{ name: NAME }]"),
        };
        (!given).then(|| Denial {
            permission: permission.to_owned(),
            side: Side::Grant,
            remedy: lines.to_owned(),
        })
    }
}
