//! The author's side of a remit: a job gives nothing that the manifest does not ask for.

use super::remedy::http_lines;
use crate::capability::{Denial, Grant, Requests, Side, files::FilesGrant, tcp};

/// Refuses what `grant` gives and the manifest does not ask for. Checked at save, and again by
/// [`Remit::compute`](super::Remit::compute).
pub fn covered_by_request(requests: &Requests, grant: &Grant) -> Result<(), Vec<Denial>> {
    let mut denials = Vec::new();
    let mut check = |covered: bool, permission: String, remedy: String| {
        if !covered {
            denials.push(Denial { permission, side: Side::Request, remedy });
        }
    };
    for given in &grant.http {
        let covered = requests.http.iter().any(|asked| asked.covers(given));
        check(covered, given.scope.to_string(), http_lines("[[http]]", given));
    }
    for given in &grant.exec {
        let covered = requests.exec.iter().any(|asked| asked.covers(given));
        check(covered, format!("exec {}", given.program), format!("[[exec]]\nprogram = {:?}", given.program));
    }
    for given in &grant.ssh {
        let covered = requests.ssh.iter().any(|asked| asked.covers(given));
        check(covered, "ssh to the node".to_owned(), "[[ssh]]\ntarget = \"node\"".to_owned());
    }
    for given in &grant.tcp {
        let covered = requests.tcp.iter().any(|asked| asked.covers(given));
        check(covered, given.scope.to_string(), tcp::lines("[[tcp]]", &given.scope));
    }
    for given in &grant.files {
        let covered = requests.files.iter().any(|asked| asked.covers(given));
        match given {
            FilesGrant::Scratch => {
                check(covered, "a scratch directory".into(), "[[files]]\nscratch = true".into());
            }
            FilesGrant::Artifacts => {
                check(covered, "artifacts".into(), "[[files]]\nartifacts = true".into());
            }
            FilesGrant::Option(name) => {
                check(
                    covered,
                    format!("the file of the option {name}"),
                    "[[files]]\npath = \"granted\"".into(),
                );
            }
            FilesGrant::Named(name) => {
                check(covered, format!("files {name}"), format!("[[files]]\nname = {name:?}"));
            }
        }
    }
    for given in &grant.reveal {
        let covered = requests.reveal.contains(given);
        check(covered, format!("reveal {}", given.name), format!("[[reveal]]\nname = \"{}\"", given.name));
    }
    if denials.is_empty() { Ok(()) } else { Err(denials) }
}
