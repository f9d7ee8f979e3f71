//! `remit-runner explain`: what this host's owner would say to a step, without running anything.

use std::collections::BTreeMap;

use remit_protocol::{
    Digest, ProjectName, SecretName, SecretPath,
    capability::{Denial, Grant, Remit, Subject},
    manifest::Manifest,
};
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// A step as it would be handed out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The project of its job.
    pub project: ProjectName,
    /// What its component asks for.
    pub manifest: Manifest,
    /// What the job gives it.
    pub grant: Grant,
    /// The secrets that the job binds.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, Vec<SecretPath>>,
}

/// What would come of it.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The digest of the remit that it would run under; absent if it is denied.
    pub remit: Option<Digest>,
    /// Everything that is lacking, by side, with the lines that would allow it.
    pub denials: Vec<Denial>,
}

/// Computes the remit as the runner does before a section begins.
pub fn explain(config: &Config, question: &Question) -> Answer {
    let Question { project, manifest, grant, secrets } = question;
    let subject = Subject { component: &manifest.name, project };
    match Remit::compute(subject, &manifest.requests, manifest.limits, grant, secrets, &config.ceiling) {
        Ok(remit) => Answer { remit: Some(remit.digest()), denials: Vec::new() },
        Err(denials) => Answer { remit: None, denials },
    }
}
