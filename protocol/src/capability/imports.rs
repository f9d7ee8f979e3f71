//! Imports are evidence: what each interface that a component imports lets it do.

use super::Requests;

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
    /// The scratch directory.
    Scratch,
    /// Named paths of the host.
    NamedFiles,
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
        ("remit:files", _) => ImportClass::NamedFiles,
        ("remit:secrets", "reveal") => ImportClass::Reveal,
        _ => ImportClass::Unknown,
    }
}

/// Refuses an import that no request accounts for; gives back the first such interface with the lines to add.
pub fn check_imports<'a>(
    imports: impl IntoIterator<Item = &'a str>,
    requests: &Requests,
) -> Result<(), UnaccountedImport> {
    use super::files::FilesRequest;
    for import in imports {
        let named = |request: &FilesRequest| !matches!(request, FilesRequest::Scratch);
        let (covered, remedy) = match classify(import) {
            ImportClass::Baseline => (true, ""),
            ImportClass::Http => {
                (!requests.http.is_empty(), "[[http]]\nhost = \"…\"\nmethods = [\"GET\"]\npaths = [\"/\"]")
            }
            ImportClass::Exec => (!requests.exec.is_empty(), "[[exec]]\nprogram = \"…\""),
            ImportClass::Ssh => (!requests.ssh.is_empty(), "[[ssh]]\ntarget = \"node\""),
            ImportClass::Scratch => {
                (requests.files.contains(&FilesRequest::Scratch), "[[files]]\nscratch = true")
            }
            ImportClass::NamedFiles => (requests.files.iter().any(named), "[[files]]\nname = \"…\""),
            ImportClass::Reveal => (!requests.reveal.is_empty(), "[[reveal]]\nname = \"…\""),
            ImportClass::Unknown => (false, "nothing: no step may import this interface"),
        };
        if !covered {
            return Err(UnaccountedImport { interface: import.to_owned(), remedy: remedy.to_owned() });
        }
    }
    Ok(())
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
        check("remit:step/log@0.1.0", ImportClass::Baseline);
        check("remit:exec/run@0.1.0", ImportClass::Exec);
        check("evil:exec/run@0.1.0", ImportClass::Unknown);
        check("streams", ImportClass::Unknown);
    }
}
