//! What a run kept for people, on its way from the broker to the supervisor, which brings it to the orchestrator: the file
//! stays where it is, in the scratch directory, and its name is said.

use std::{io, path::Path};

use remit_protocol::{Outcome, report::Artifact};
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use crate::{
    capability::files::{ARTIFACT, Kept},
    sandbox::Ended,
};

/// Most artifacts of a run; an honest broker says no more.
const MAX_KEPT: usize = 16;

/// An artifact that lies in the scratch directory.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handed {
    artifact: Artifact,
    name: String,
}

/// In the broker: leaves what a run has kept to the supervisor.
pub(super) fn hand_over(ended: &mut Ended) -> Vec<Handed> {
    let handed: io::Result<Vec<_>> = std::mem::take(&mut ended.artifacts).into_iter().map(hand).collect();
    handed.unwrap_or_else(|error| {
        tracing::warn!(%error, "what a run kept could not be handed over");
        if ended.outcome.is_good() {
            ended.outcome = Outcome::HostFault;
            ended.output = None;
            ended.nodes = None;
        }
        ended.message.push_str("\nwhat it kept is lost on its way through the runner");
        Vec::new()
    })
}

fn hand(kept: Kept) -> io::Result<Handed> {
    let Some(spool) = kept.spool else { return Err(io::ErrorKind::NotFound.into()) };
    let path = spool.keep().map_err(|error| error.error)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    Ok(Handed { artifact: kept.artifact, name })
}

/// In the supervisor: takes what a broker says that a run has kept. Only files right below `scratch` are taken, no link, and
/// each is as long as it is called; whether its bytes are what its digest says is the orchestrator's to find.
pub(super) fn take(handed: Vec<Handed>, scratch: &Path) -> io::Result<Vec<Kept>> {
    if handed.len() > MAX_KEPT {
        return Err(io::Error::other("too many artifacts"));
    }
    handed.into_iter().map(|handed| open(handed, scratch)).collect()
}

fn open(handed: Handed, scratch: &Path) -> io::Result<Kept> {
    let Handed { artifact, name } = handed;
    if !name.starts_with(ARTIFACT) || name.contains(['/', '\0']) {
        return Err(io::Error::other("an artifact that does not lie where artifacts do"));
    }
    let path = scratch.join(name);
    // A broker can make no link: what is a file now stays one.
    let found = std::fs::symlink_metadata(&path)?;
    if !found.is_file() || found.len() != artifact.bytes.length {
        return Err(io::Error::other("an artifact that is not what it is called"));
    }
    Ok(Kept { artifact, spool: Some(TempPath::try_from_path(path)?) })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use remit_protocol::{digest::Sized, report::ArtifactForm};

    use super::*;

    fn artifact(bytes: &[u8]) -> Artifact {
        Artifact { name: "report".parse().unwrap(), form: ArtifactForm::Text, bytes: Sized::of(bytes) }
    }

    #[test]
    fn what_was_kept_arrives_and_leaves_nothing_behind() {
        let scratch = tempfile::tempdir().unwrap();
        let mut file = tempfile::Builder::new().prefix(ARTIFACT).tempfile_in(&scratch).unwrap();
        file.write_all(b"the report").unwrap();
        let mut ended = crate::sandbox::fault("");
        let spool = Some(file.into_temp_path());
        ended.artifacts = vec![Kept { artifact: artifact(b"the report"), spool }];
        let handed = hand_over(&mut ended);
        assert!(ended.artifacts.is_empty() && handed.len() == 1);
        let taken = take(handed, scratch.path()).unwrap();
        assert_eq!(std::fs::read(taken[0].spool.as_ref().unwrap()).unwrap(), b"the report");
        assert_eq!(taken[0].artifact, artifact(b"the report"));
        drop(taken);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        // What cannot be handed over is told.
        ended.outcome = Outcome::Succeeded;
        ended.artifacts = vec![Kept { artifact: artifact(b""), spool: None }];
        assert!(hand_over(&mut ended).is_empty());
        assert_eq!(ended.outcome, Outcome::HostFault);
    }

    #[test]
    fn nothing_else_is_taken() {
        let state = tempfile::tempdir().unwrap();
        let scratch = state.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        std::fs::write(state.path().join("artifact-secret"), "secret").unwrap();
        std::fs::write(scratch.join("other"), "secret").unwrap();
        std::fs::write(scratch.join("artifact-long"), "longer than that").unwrap();
        std::fs::create_dir(scratch.join("artifact-folder")).unwrap();
        let link = scratch.join("artifact-link");
        std::os::unix::fs::symlink(state.path().join("artifact-secret"), link).unwrap();
        for name in [
            "other",
            "artifact-long",
            "artifact-folder",
            "artifact-link",
            "artifact-/../artifact-secret",
            "artifact-none",
        ] {
            let handed = Handed { artifact: artifact(b"secret"), name: name.to_owned() };
            assert!(take(vec![handed], &scratch).is_err(), "{name}");
        }
        assert!(scratch.join("other").exists() && state.path().join("artifact-secret").exists());
        let many = |_| Handed { artifact: artifact(b""), name: "artifact-x".to_owned() };
        assert!(take((0..17).map(many).collect(), &scratch).is_err());
    }
}
