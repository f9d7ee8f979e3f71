//! Imports are evidence: what each interface that a component imports lets it do.

use serde::{Deserialize, Serialize};

use super::Requests;

/// A language whose toolchain puts interfaces into every component that the step itself does not use. Under a profile
/// the runner links those, and only those, as inert ones: they exist, and every call of them is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Profile {
    /// CPython, as componentize-py makes components of it.
    Python,
    /// StarlingMonkey, as ComponentizeJS makes components of it.
    Js,
}

impl Profile {
    /// Every profile there is.
    pub const ALL: [Self; 2] = [Self::Python, Self::Js];

    /// The name in `step.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Js => "js",
        }
    }

    /// The interfaces of WASI 0.2 that are inert under this profile: a closed list.
    pub fn inert(self) -> &'static [&'static str] {
        match self {
            Self::Python => &[
                "wasi:filesystem/types",
                "wasi:filesystem/preopens",
                "wasi:sockets/network",
                "wasi:sockets/instance-network",
                "wasi:sockets/udp",
                "wasi:sockets/udp-create-socket",
                "wasi:sockets/tcp",
                "wasi:sockets/tcp-create-socket",
                "wasi:sockets/ip-name-lookup",
            ],
            Self::Js => &["wasi:filesystem/types", "wasi:filesystem/preopens"],
        }
    }

    /// True if `interface` (such as `wasi:sockets/tcp@0.2.9`) is one of them.
    pub fn holds(self, interface: &str) -> bool {
        let (name, version) = interface.split_once('@').unwrap_or((interface, ""));
        version.starts_with("0.2.") && self.inert().contains(&name)
    }
}

/// What importing an interface means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportClass {
    /// Every step may have it: clocks, random numbers, streams, an empty environment, log, context.
    Baseline,
    /// Outgoing HTTP.
    Http,
    /// Starting programs.
    Exec,
    /// SSH to the node.
    Ssh,
    /// TCP connections.
    Tcp,
    /// The scratch directory.
    Scratch,
    /// Named paths of the host.
    NamedFiles,
    /// Files that stay with the execution.
    Artifacts,
    /// Values of secrets.
    Reveal,
    /// Anything else: always refused.
    Unknown,
}

/// What importing `interface` (such as `wasi:http/outgoing-handler@0.2.6`) means.
pub fn classify(interface: &str) -> ImportClass {
    let (name, version) = interface.split_once('@').unwrap_or((interface, ""));
    let Some((package, rest)) = name.split_once('/') else { return ImportClass::Unknown };
    let wasi = version.starts_with("0.2.");
    match (package, rest) {
        ("wasi:io" | "wasi:clocks" | "wasi:random", _) if wasi => ImportClass::Baseline,
        (
            "wasi:cli",
            "environment" | "exit" | "stdin" | "stdout" | "stderr" | "terminal-input" | "terminal-output"
            | "terminal-stdin" | "terminal-stdout" | "terminal-stderr",
        ) if wasi => ImportClass::Baseline,
        ("wasi:http", "types" | "outgoing-handler") if wasi => ImportClass::Http,
        ("wasi:filesystem", _) if wasi => ImportClass::Scratch,
        ("remit:step", _) => ImportClass::Baseline,
        ("remit:exec", _) => ImportClass::Exec,
        ("remit:ssh", _) => ImportClass::Ssh,
        ("remit:tcp", _) => ImportClass::Tcp,
        ("remit:files", "artifacts") => ImportClass::Artifacts,
        ("remit:files", _) => ImportClass::NamedFiles,
        ("remit:secrets", "reveal") => ImportClass::Reveal,
        _ => ImportClass::Unknown,
    }
}

/// True if `import` is linked as an inert interface: `profile` lists it, and no request asks for the real one.
pub fn is_inert(import: &str, requests: &Requests, profile: Option<Profile>) -> bool {
    use super::files::FilesRequest;
    let real = classify(import) == ImportClass::Scratch && requests.files.contains(&FilesRequest::Scratch);
    !real && profile.is_some_and(|profile| profile.holds(import))
}

/// Refuses an import that neither a request nor the profile accounts for; gives back the first such interface with the
/// lines to add.
pub fn check_imports<'a>(
    imports: impl IntoIterator<Item = &'a str>,
    requests: &Requests,
    profile: Option<Profile>,
) -> Result<(), UnaccountedImport> {
    use super::files::FilesRequest;
    for import in imports {
        if is_inert(import, requests, profile) {
            continue;
        }
        let (covered, remedy) = match classify(import) {
            ImportClass::Baseline => (true, ""),
            ImportClass::Http => {
                (!requests.http.is_empty(), "[[http]]\nhost = \"…\"\nmethods = [\"GET\"]\npaths = [\"/\"]")
            }
            ImportClass::Exec => (!requests.exec.is_empty(), "[[exec]]\nprogram = \"…\""),
            ImportClass::Ssh => (!requests.ssh.is_empty(), "[[ssh]]\ntarget = \"node\""),
            ImportClass::Tcp => (!requests.tcp.is_empty(), "[[tcp]]\nhost = \"…\"\nport = 5432"),
            ImportClass::Scratch => {
                (requests.files.contains(&FilesRequest::Scratch), "[[files]]\nscratch = true")
            }
            ImportClass::NamedFiles => {
                (requests.files.iter().any(FilesRequest::is_named), "[[files]]\nname = \"…\"")
            }
            ImportClass::Artifacts => {
                (requests.files.contains(&FilesRequest::Artifacts), "[[files]]\nartifacts = true")
            }
            ImportClass::Reveal => (!requests.reveal.is_empty(), "[[reveal]]\nname = \"…\""),
            ImportClass::Unknown => (false, "nothing: no step may import this interface"),
        };
        if !covered {
            return Err(UnaccountedImport { interface: import.to_owned(), remedy: remedy.to_owned() });
        }
    }
    Ok(())
}

/// Imports and requests that have no counterpart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Imports that neither a request nor the profile accounts for: the component is refused.
    pub without_request: Vec<String>,
    /// Capabilities that are asked for, without an import through which they could be used.
    pub without_import: Vec<&'static str>,
}

/// Every import without a request, and every request without an import.
pub fn accounts<'a>(
    imports: impl IntoIterator<Item = &'a str>,
    requests: &Requests,
    profile: Option<Profile>,
) -> Accounts {
    use super::files::FilesRequest;
    let imports: Vec<&str> = imports.into_iter().collect();
    let lacks = |import: &&&str| check_imports([**import], requests, profile).is_err();
    let has = |class: ImportClass| imports.iter().any(|import| classify(import) == class);
    let scratch = requests.files.contains(&FilesRequest::Scratch);
    let named = requests.files.iter().any(FilesRequest::is_named);
    let artifacts = requests.files.contains(&FilesRequest::Artifacts);
    let asked = [
        ("http", !requests.http.is_empty(), ImportClass::Http),
        ("exec", !requests.exec.is_empty(), ImportClass::Exec),
        ("ssh", !requests.ssh.is_empty(), ImportClass::Ssh),
        ("tcp", !requests.tcp.is_empty(), ImportClass::Tcp),
        ("a scratch directory", scratch, ImportClass::Scratch),
        ("named files", named, ImportClass::NamedFiles),
        ("artifacts", artifacts, ImportClass::Artifacts),
        ("reveal", !requests.reveal.is_empty(), ImportClass::Reveal),
    ];
    let idle = asked.into_iter().filter(|(_, asked, class)| *asked && !has(*class));
    Accounts {
        without_request: imports.iter().filter(lacks).map(|import| (*import).to_owned()).collect(),
        without_import: idle.map(|(name, _, _)| name).collect(),
    }
}

/// A component imports an interface that its manifest does not account for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the component imports {interface}, which no request of its manifest accounts for; in step.toml, add:\n{remedy}"
)]
pub struct UnaccountedImport {
    /// The interface.
    pub interface: String,
    /// Lines for `step.toml`.
    pub remedy: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_has_one_meaning() {
        fn check(interface: &str, expect: ImportClass) {
            assert_eq!(classify(interface), expect, "{interface}");
        }
        check("wasi:io/streams@0.2.6", ImportClass::Baseline);
        check("wasi:io/streams@0.3.0", ImportClass::Unknown);
        check("wasi:http/outgoing-handler@0.2.4", ImportClass::Http);
        check("wasi:http/incoming-handler@0.2.4", ImportClass::Unknown);
        check("wasi:sockets/tcp@0.2.6", ImportClass::Unknown);
        check("remit:tcp/connect@0.1.0", ImportClass::Tcp);
        check("remit:step/log@0.1.0", ImportClass::Baseline);
        check("remit:exec/run@0.1.0", ImportClass::Exec);
        check("remit:files/artifacts@0.1.1", ImportClass::Artifacts);
        check("evil:exec/run@0.1.0", ImportClass::Unknown);
        check("streams", ImportClass::Unknown);
    }

    #[test]
    fn a_profile_accounts_for_its_own_list_and_nothing_more() {
        fn check(import: &str, profile: Option<Profile>, expect: bool) {
            let found = check_imports([import], &Requests::default(), profile);
            assert_eq!(found.is_ok(), expect, "{import} under {profile:?}");
        }
        let (python, js) = (Some(Profile::Python), Some(Profile::Js));
        for import in ["wasi:sockets/tcp@0.2.9", "wasi:sockets/ip-name-lookup@0.2.12"] {
            check(import, None, false);
            check(import, python, true);
            check(import, js, false);
        }
        for profile in [python, js] {
            check("wasi:filesystem/types@0.2.9", profile, true);
            check("wasi:filesystem/types@0.3.0", profile, false);
            check("wasi:filesystem/types", profile, false);
            check("evil:filesystem/types@0.2.9", profile, false);
            check("wasi:http/outgoing-handler@0.2.9", profile, false);
            check("wasi:sockets/raw@0.2.9", profile, false);
            check("remit:exec/run@0.1.0", profile, false);
            check("remit:secrets/reveal@0.1.0", profile, false);
        }
        check("wasi:filesystem/types@0.2.9", None, false);
    }

    #[test]
    fn what_has_no_counterpart_is_listed() {
        fn check(imports: &[&str], requests: &str, without_request: &[&str], without_import: &[&str]) {
            let requests: Requests = serde_json::from_str(requests).unwrap();
            let found = accounts(imports.iter().copied(), &requests, None);
            assert_eq!(found.without_request, without_request);
            assert_eq!(found.without_import, without_import);
        }
        const HTTP: &str = "wasi:http/outgoing-handler@0.2.6";
        const EXEC: &str = "remit:exec/run@0.1.0";
        let exec = r#"{"exec":[{"program":"uname"}]}"#;
        check(&["remit:step/log@0.1.0"], "{}", &[], &[]);
        check(&[HTTP, EXEC], "{}", &[HTTP, EXEC], &[]);
        check(&[HTTP, EXEC], exec, &[HTTP], &[]);
        check(&[HTTP], exec, &[HTTP], &["exec"]);
        check(
            &[],
            r#"{"files":[{"scratch":true},{"name":"n"}],"reveal":[{"name":"t"}]}"#,
            &[],
            &["a scratch directory", "named files", "reveal"],
        );
        check(
            &["wasi:filesystem/types@0.2.6"],
            r#"{"files":[{"name":"n"}]}"#,
            &["wasi:filesystem/types@0.2.6"],
            &["named files"],
        );
    }

    #[test]
    fn what_is_asked_for_is_not_inert() {
        let requests: Requests = serde_json::from_str(r#"{"files":[{"scratch":true}]}"#).unwrap();
        for profile in Profile::ALL {
            assert!(is_inert("wasi:filesystem/types@0.2.9", &Requests::default(), Some(profile)));
            assert!(!is_inert("wasi:filesystem/types@0.2.9", &requests, Some(profile)));
        }
        assert!(is_inert("wasi:sockets/tcp@0.2.9", &requests, Some(Profile::Python)));
    }
}
