//! The executions of one family, as they came along with an assignment: jobs that run jobs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use remit_job::{document::Document, expression::Scope};
use remit_protocol::{
    Digest, JobName, Origin, ProjectName, RefusalCode, StepName,
    assignment::{Assignment, ChildOf, Kin, MAX_KIN, OptionValues, StepView},
    digest::Sized,
    limits::MAX_NODE_SET,
    node::Node,
    report::SignedResult,
};
use remit_signing::{JobPath, run::Order};

use crate::{
    attempt::{
        Workshop,
        prepare::{self, NotReady},
    },
    config::SignedKind,
};

/// Most bytes of all documents and node sets of a family, each counted once.
const MAX_FAMILY: u64 = MAX_NODE_SET;

/// What came along: each job document as its author signed it, each node set as its digest names it. Empty where runs and
/// jobs need not both be signed, since nothing is concluded from it there.
#[derive(Default)]
pub(in crate::attempt) struct Family {
    relatives: Vec<Relative>,
    /// The whole node set of the assigned execution.
    own: Option<Arc<[Arc<Node>]>>,
}

struct Relative {
    kin: Kin,
    document: Arc<Document>,
    nodes: Option<Arc<[Arc<Node>]>>,
}

impl Family {
    /// Takes the family out of an assignment, fetches what it names, and verifies every job document.
    ///
    /// # Errors
    /// `E_ORDER` for too large a family, or whatever is wrong with one of its documents or node sets.
    pub(in crate::attempt) async fn gather(
        workshop: &Workshop,
        assignment: &mut Assignment,
    ) -> Result<Self, NotReady> {
        let kin = std::mem::take(&mut assignment.family);
        let signed =
            [SignedKind::Run, SignedKind::Job].iter().all(|kind| workshop.require_signed.contains(kind));
        if !signed || (kin.is_empty() && assignment.child_of.is_none()) {
            return Ok(Self::default());
        }
        bounded(&kin, assignment)?;
        let project = &assignment.project;
        let mut documents: BTreeMap<(JobName, Digest, Option<String>), Arc<Document>> = BTreeMap::new();
        let mut relatives = Vec::with_capacity(kin.len());
        for kin in kin {
            let key = (kin.job.clone(), kin.document.digest, kin.job_note.clone());
            let document = match documents.get(&key) {
                Some(known) => Arc::clone(known),
                None => {
                    let named = (project, &kin.job, kin.document);
                    let found = prepare::document(workshop, named, kin.job_note.as_deref()).await;
                    let found = found.map_err(|not| not.of_run(kin.execution))?;
                    documents.insert(key, Arc::clone(&found));
                    found
                }
            };
            let nodes = set_of(workshop, kin.node_set).await.map_err(|not| not.of_run(kin.execution))?;
            relatives.push(Relative { kin, document, nodes });
        }
        Ok(Self { relatives, own: set_of(workshop, assignment.node_set).await? })
    }

    /// Each of them, as its order is judged.
    pub(super) fn members<'a>(&'a self, project: &ProjectName) -> impl Iterator<Item = Member<'a>> {
        self.relatives.iter().map(|relative| Member::kin(project, relative))
    }
}

async fn set_of(workshop: &Workshop, set: Option<Sized>) -> Result<Option<Arc<[Arc<Node>]>>, NotReady> {
    match set {
        Some(set) => prepare::node_set(workshop, set).await.map(Some),
        None => Ok(None),
    }
}

/// A family is only so large.
fn bounded(kin: &[Kin], assignment: &Assignment) -> Result<(), NotReady> {
    let too_large = |detail: String| Err(NotReady::refused(RefusalCode::Order, detail));
    if kin.len() > MAX_KIN {
        return too_large(format!("Jobs that run jobs: at most {MAX_KIN} executions are looked at."));
    }
    let own = [Some(assignment.document), assignment.node_set];
    let all = kin.iter().flat_map(|kin| [Some(kin.document), kin.node_set]).chain(own).flatten();
    let mut seen = BTreeSet::new();
    let bytes =
        all.filter(|blob| seen.insert(blob.digest)).fold(0_u64, |sum, blob| sum.saturating_add(blob.length));
    if bytes > MAX_FAMILY {
        return too_large(format!(
            "Jobs that run jobs: their documents and nodes have {bytes} bytes, at most {MAX_FAMILY} are looked at."
        ));
    }
    Ok(())
}

/// One execution, as its order is judged: the assigned one, or one of its family.
pub(super) struct Member<'a> {
    /// What it says it is.
    pub(super) order: Order,
    /// Its job.
    pub(super) document: &'a Document,
    /// Its option values.
    pub(super) options: &'a OptionValues,
    /// What expressions see before its first step.
    pub(super) scope: Scope,
    /// Its whole node set, where that was fetched.
    pub(super) nodes: Option<&'a [Arc<Node>]>,
    /// What runners signed about its sections.
    pub(super) results: &'a [SignedResult],
    /// The notes of who agreed at its gates.
    pub(super) approvals: &'a [String],
    /// What the orchestrator says of its steps: counts only where no signature is wanted.
    pub(super) said: &'a BTreeMap<StepName, StepView>,
    /// The note on its document.
    pub(super) job_note: Option<&'a str>,
    /// The note of who wants it.
    pub(super) run_note: Option<&'a str>,
    /// Its trigger.
    pub(super) origin: &'a Origin,
    /// For which step of another execution it is.
    pub(super) child_of: Option<ChildOf>,
}

impl<'a> Member<'a> {
    /// The assigned one.
    pub(super) fn assigned(
        assignment: &'a Assignment,
        (document, before): (&'a Document, &Scope),
        family: &'a Family,
    ) -> Self {
        Self {
            order: super::of(assignment),
            document,
            options: &assignment.options,
            scope: before.clone(),
            nodes: family.own.as_deref(),
            results: &assignment.results,
            approvals: &assignment.approvals,
            said: &assignment.earlier,
            job_note: assignment.job_note.as_deref(),
            run_note: assignment.run_note.as_deref(),
            origin: &assignment.origin,
            child_of: assignment.child_of,
        }
    }

    fn kin(project: &ProjectName, relative: &'a Relative) -> Self {
        let Relative { kin, document, nodes } = relative;
        Self {
            order: Order {
                run: kin.execution,
                job: JobPath { project: project.clone(), job: kin.job.clone() },
                definition: kin.document,
                options: kin.options.sized(),
                nodes: kin.node_set,
            },
            document,
            options: &kin.options,
            scope: Scope::signed(project, kin.execution, &kin.job, &kin.options),
            nodes: nodes.as_deref(),
            results: &kin.results,
            approvals: &kin.approvals,
            said: &kin.gates,
            job_note: kin.job_note.as_deref(),
            run_note: kin.run_note.as_deref(),
            origin: &kin.origin,
            child_of: kin.child_of,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of_length(text: &str, length: u64) -> Value {
        json!(Sized { digest: Digest::of(text.as_bytes()), length })
    }

    #[test]
    fn a_family_is_only_so_large() {
        let assignment: Assignment = serde_json::from_value(json!({
            "attempt": remit_protocol::AttemptId::from_u128(1), "epoch": 1,
            "execution": remit_protocol::ExecutionId::from_u128(1),
            "project": "demo", "job": "order", "revision": 1, "document": of_length("own", 1000),
            "section": 0, "first_step": 0, "steps": 1, "start": "guarded", "effect": "pure", "options": "{}",
            "started_by": "test",
        }))
        .unwrap();
        let kin = |number: u128, nodes: (&str, u64)| -> Kin {
            serde_json::from_value(json!({
                "execution": remit_protocol::ExecutionId::from_u128(number), "job": "leaf",
                "document": of_length("leaf", 1000), "node_set": of_length(nodes.0, nodes.1),
            }))
            .unwrap()
        };
        let check = |kin: &[Kin], expect: Option<&str>| {
            let found = bounded(kin, &assignment).err().map(|not| not.message);
            match (&found, expect) {
                (None, None) => {}
                (Some(found), Some(expect)) => assert!(found.contains(expect), "{found}"),
                _ => panic!("{found:?}, not {expect:?}"),
            }
        };
        // Beside two documents of a thousand bytes; the same nodes, or the same document, count once.
        let most = MAX_FAMILY - 2000;
        check(&[kin(2, ("nodes", most)), kin(3, ("nodes", most))], None);
        check(
            &[kin(2, ("nodes", most)), kin(3, ("more", 1))],
            Some("have 134217729 bytes, at most 134217728"),
        );
        check(&[kin(2, ("nodes", u64::MAX)), kin(3, ("more", 1))], Some("at most 134217728 are looked at"));
        let many: Vec<Kin> = (0..=MAX_KIN).map(|number| kin(number as u128, ("nodes", 1))).collect();
        check(&many[1..], None);
        check(&many, Some("at most 500 executions"));
    }
}
