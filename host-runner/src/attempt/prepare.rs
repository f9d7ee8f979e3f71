//! From an assignment to a section that can begin: every signature, digest, permission and secret is looked at before the
//! orchestrator is asked whether to begin.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use remit_job::{
    document::{Action, ComponentAction, Document, Per, Step},
    expression::Scope,
    options,
};
use remit_protocol::{
    ComponentPin, Digest, ExecutionId, JobName, NodeIndex, Outcome, ProjectName, RefusalCode, SecretName,
    SecretPath, StepIndex, StepName,
    assignment::Assignment,
    capability::{Ceiling, Denial, Remit, Side, Subject},
    digest::Sized,
    json,
    limits::{MAX_JOB, MAX_NODE_SET, MAX_OPTION_FILE},
    node::{Node, NodeSet},
};
use remit_signing::{Refusal, policy::Wanted, verify};

use super::{Workshop, order, typed};
use crate::{
    broker::apart::{Admitted, Case, asks},
    capability::files::OptionFiles,
    component::{Loaded, NotLoaded},
    config::SignedKind,
    orchestrator::CallError,
    sandbox::{Metering, realm},
    secrets::TypedSecrets,
    trust::{NotBelieved, heads::NotShown},
};

/// A step with what all of its runs share.
pub struct ReadyStep {
    /// Its place in the document.
    pub index: StepIndex,
    /// The step.
    pub step: Step,
    /// What it runs.
    pub own: ReadyComponent,
    /// What is run when it has failed, and whether that makes it good.
    pub on_error: Option<(ReadyComponent, bool)>,
}

impl ReadyStep {
    /// Everything that it may run.
    pub fn components(&self) -> impl Iterator<Item = &ReadyComponent> {
        std::iter::once(&self.own).chain(self.on_error.as_ref().map(|(handler, _)| handler))
    }
}

/// A component that can be run.
pub struct ReadyComponent {
    /// What it is, and what it is given.
    pub action: ComponentAction,
    /// Its code.
    pub loaded: Arc<Loaded>,
    /// What it may do.
    pub remit: Arc<Remit>,
    /// The remit's digest, as each record names it.
    pub remit_digest: Digest,
    /// Which of its runs may share a process.
    pub realm: Digest,
    /// What the broker process runs it by, unless it asks for nothing and no secret is near it.
    pub admitted: Option<Admitted>,
    /// Those of its secrets that were typed for this run.
    pub typed: Vec<SecretPath>,
    /// Its secrets, as options have chosen them.
    secrets: BTreeMap<SecretName, Vec<SecretPath>>,
}

/// A node of a section.
pub struct ReadyNode {
    /// Its place in the execution's node set.
    pub index: NodeIndex,
    /// The node.
    pub node: Arc<Node>,
}

/// A section that can begin.
pub struct Section {
    /// The assignment.
    pub assignment: Box<Assignment>,
    /// Its steps.
    pub steps: Vec<ReadyStep>,
    /// Its nodes, for node steps.
    pub nodes: Vec<ReadyNode>,
    /// What expressions see before the first step.
    pub scope: Scope,
    /// What the steps before the section came to.
    pub earlier: Vec<Outcome>,
    /// Why the run may begin, where the owner wants to know that.
    pub run: Option<Wanted>,
    /// The files of its options that its steps may read.
    pub files: Arc<OptionFiles>,
}

/// Why a section does not begin.
#[derive(Debug)]
pub struct NotReady {
    /// How the attempt ends.
    pub outcome: Outcome,
    /// Why, in words.
    pub message: String,
}

impl NotReady {
    pub(crate) fn refused(code: RefusalCode, detail: impl std::fmt::Display) -> Self {
        let message = format!("{} {detail} {}", code.meaning(), code.remedy());
        Self { outcome: Outcome::Refused(code), message }
    }

    pub(super) fn host(message: String) -> Self {
        Self { outcome: Outcome::HostFault, message }
    }

    /// The same, of another run of the family. What was said of one stays that one's, on the way back through others.
    pub(super) fn of_run(mut self, run: ExecutionId) -> Self {
        if !self.message.starts_with("Run ") {
            self.message = format!("Run {run}: {}", self.message);
        }
        self
    }

    /// The same, of one step.
    fn of(mut self, step: &StepName) -> Self {
        self.message = format!("Step {step}: {}", self.message);
        self
    }
}

impl From<Refusal> for NotReady {
    fn from(refusal: Refusal) -> Self {
        Self { outcome: Outcome::Refused(refusal.code), message: refusal.to_string() }
    }
}

impl From<NotBelieved> for NotReady {
    fn from(error: NotBelieved) -> Self {
        match error {
            NotBelieved::Refused(refusal) => refusal.into(),
            NotBelieved::State(error) => Self::host(error.to_string()),
        }
    }
}

impl From<NotLoaded> for NotReady {
    fn from(error: NotLoaded) -> Self {
        match error {
            NotLoaded::Refused(refusal) => refusal.into(),
            other => Self::host(other.to_string()),
        }
    }
}

impl From<NotShown> for NotReady {
    fn from(error: NotShown) -> Self {
        NotLoaded::from(error).into()
    }
}

impl From<CallError> for NotReady {
    fn from(error: CallError) -> Self {
        Self::host(format!("what the section needs could not be fetched: {error}"))
    }
}

/// Prepares a section.
pub(super) async fn section(
    workshop: &Workshop,
    mut assignment: Box<Assignment>,
) -> Result<Section, NotReady> {
    workshop.audit.check().map_err(|error| NotReady::host(format!("{error}.")))?;
    let belief = workshop.trust.belief()?;
    workshop.audit.policy(belief.edition, belief.policy.version());
    let named = (&assignment.project, &assignment.job, assignment.document);
    let document = document(workshop, named, assignment.job_note.as_deref()).await?;
    if !workshop.require_signed.is_empty() {
        // The project's variables are the orchestrator's word, and nobody signed them.
        assignment.variables.clear();
    }
    let before = order::before_steps(workshop, &assignment, &document);
    let family = order::Family::gather(workshop, &mut assignment).await?;
    let run = order::check(workshop, &mut assignment, (&document, &before), &family, &belief)?;
    drop(family);
    let steps = steps_of(&document, &assignment)?;
    let nodes = nodes(workshop, &assignment).await?;
    if let Some(Wanted::Scheduled(_)) = &run {
        let nodes: Vec<Arc<Node>> = nodes.iter().map(|ready| Arc::clone(&ready.node)).collect();
        order::nodes_fit(&document, &before, None, &nodes)?;
    }
    let mut ready = Vec::with_capacity(steps.len());
    for (index, step) in steps {
        let found = ready_step(workshop, &assignment, index, step).await;
        ready.push(found.map_err(|not| not.of(&step.name))?);
    }
    let typed = typed::check(workshop, (&assignment, &document), &ready, run.as_ref(), &belief)?;
    admit(workshop, &assignment.project, typed.as_ref(), &mut ready).await?;
    let run = typed::wanted(run, typed.as_ref());
    let files = Arc::new(option_files(workshop, &assignment, &document, &ready).await?);
    let all = (0_u32..).map(StepIndex).zip(&document.steps);
    let seen = all.filter(|(index, _)| document.sees(assignment.first_step, *index));
    let earlier =
        seen.filter_map(|(_, step)| assignment.earlier.get(&step.name)).map(|view| view.outcome).collect();
    let scope = before.with_steps(&assignment.earlier);
    Ok(Section { assignment, steps: ready, nodes, scope, earlier, run, files })
}

/// Admits at the broker process what has to be run there: whatever asks for anything, and beside a secret everything, since
/// all that leaves is redacted where secrets are known. Says early if one cannot be had.
async fn admit(
    workshop: &Workshop,
    project: &ProjectName,
    typed: Option<&TypedSecrets>,
    steps: &mut [ReadyStep],
) -> Result<(), NotReady> {
    let secret = steps.iter().flat_map(ReadyStep::components).any(|ready| !ready.remit.secrets().is_empty());
    let mut case = None;
    for ready in steps {
        let handler = ready.on_error.as_mut().map(|(handler, _)| handler);
        for component in std::iter::once(&mut ready.own).chain(handler) {
            if secret || asks(&component.remit) {
                let case = case.get_or_insert_with(|| workshop.broker.case());
                let secrets = component.remit.secrets();
                let typed = typed::part(typed, |path| secrets.iter().any(|secret| secret.path == *path));
                component.typed =
                    typed.iter().flat_map(|typed| &typed.values).map(|sealed| sealed.path.clone()).collect();
                let admitted = admitted(case, project, typed, component).await;
                component.admitted = Some(admitted.map_err(|not| not.of(&ready.step.name))?);
            }
        }
    }
    Ok(())
}

async fn admitted(
    case: &Arc<Case>,
    project: &ProjectName,
    typed: Option<TypedSecrets>,
    ready: &ReadyComponent,
) -> Result<Admitted, NotReady> {
    let Some(component) = ready.loaded.prepared.apart() else {
        return Err(NotReady::host("There is no broker process for it.".to_owned()));
    };
    let given = (&ready.action.grant, &ready.secrets);
    let admitted = case.admit(component, project, given, typed, (&ready.remit, ready.remit_digest)).await;
    admitted.map_err(|(code, detail)| match code {
        Some(code) => NotReady::refused(code, detail),
        None => NotReady::host(detail),
    })
}

/// A job document: the very bytes that are named, of this job, and that authors signed where the owner wants that.
pub(super) async fn document(
    workshop: &Workshop,
    (project, job, named): (&ProjectName, &JobName, Sized),
    note: Option<&str>,
) -> Result<Arc<Document>, NotReady> {
    if named.length > MAX_JOB as u64 {
        return Err(NotReady::refused(RefusalCode::Job, format!("It has {} bytes.", named.length)));
    }
    let (bytes, document) = match workshop.documents.get(&named.digest) {
        Some(known) => known,
        None => {
            let bytes = blob(workshop, named, RefusalCode::Job).await?;
            let document = Document::from_slice(&bytes)
                .map_err(|e| NotReady::refused(RefusalCode::Job, format!("{e}.")))?;
            let known = (bytes, Arc::new(document));
            workshop.documents.put(named.digest, known.clone());
            known
        }
    };
    if document.project != *project || document.job != *job {
        let detail =
            format!("It is {}/{}, and the assignment says {project}/{job}.", document.project, document.job);
        return Err(NotReady::refused(RefusalCode::Job, detail));
    }
    if workshop.require_signed.contains(&SignedKind::Job) {
        let Some(note) = note else {
            return Err(NotReady::refused(RefusalCode::JobUnsigned, "There is none at all."));
        };
        let belief = workshop.trust.belief()?;
        let verified = verify::job(note.as_bytes(), bytes.as_ref(), &belief.policy, belief.now)?;
        let signed = &verified.note().name;
        if signed.project != document.project || signed.job != document.job {
            return Err(NotReady::refused(RefusalCode::JobUnsigned, format!("The note is about {signed}.")));
        }
        workshop.components.heads().require(note.as_bytes(), &belief, &*workshop.client).await?;
        workshop.trust.accept_job(&verified)?;
    }
    Ok(document)
}

async fn blob(workshop: &Workshop, named: Sized, code: RefusalCode) -> Result<bytes::Bytes, NotReady> {
    let bytes = workshop.client.blob(named).await?;
    if named.is(&bytes) {
        Ok(bytes)
    } else {
        Err(NotReady::refused(code, format!("{} was asked for, {} came.", named.digest, Digest::of(&bytes))))
    }
}

/// The files of options that a step of the section may read: the very bytes that the options name.
async fn option_files(
    workshop: &Workshop,
    assignment: &Assignment,
    document: &Document,
    steps: &[ReadyStep],
) -> Result<OptionFiles, NotReady> {
    let mut files = OptionFiles::default();
    let components = || steps.iter().flat_map(ReadyStep::components);
    let wanted: BTreeSet<_> = components().flat_map(|ready| &ready.remit.files().options).collect();
    for (name, file) in options::files(&document.options, &assignment.options) {
        if !wanted.contains(&name) {
            continue;
        }
        if file.length > MAX_OPTION_FILE.bytes() {
            let detail = format!("The file of the option {name} has {} bytes.", file.length);
            return Err(NotReady::refused(RefusalCode::Parameter, detail));
        }
        let bytes = blob(workshop, file.bytes(), RefusalCode::Parameter).await?;
        let directory = workshop.options.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let done = files.keep(name, &bytes, &directory);
            done.map(|()| files)
        });
        let fault = |error: &dyn std::fmt::Display| {
            NotReady::host(format!("no room for the file of an option: {error}"))
        };
        files = kept.await.map_err(|error| fault(&error))?.map_err(|error| fault(&error))?;
    }
    Ok(files)
}

/// The steps of the section, which are all node steps or one workflow step.
fn steps_of<'a>(
    document: &'a Document,
    assignment: &Assignment,
) -> Result<Vec<(StepIndex, &'a Step)>, NotReady> {
    let first = usize::try_from(assignment.first_step.0).unwrap_or(usize::MAX);
    let count = usize::try_from(assignment.steps).unwrap_or(usize::MAX);
    let steps = first.checked_add(count).and_then(|end| document.steps.get(first..end)).unwrap_or_default();
    let per = if assignment.nodes.is_some() { Per::Node } else { Per::Once };
    let whole = !steps.is_empty()
        && steps.iter().all(|step| step.per == per)
        && (per == Per::Node || steps.len() == 1);
    if !whole {
        return Err(NotReady::refused(RefusalCode::Job, "The section does not fit the document."));
    }
    Ok((assignment.first_step.0..).map(StepIndex).zip(steps).collect())
}

/// A node set: the very bytes that are named.
pub(super) async fn node_set(workshop: &Workshop, named: Sized) -> Result<Arc<[Arc<Node>]>, NotReady> {
    let bad = |detail: String| NotReady::refused(RefusalCode::Nodes, detail);
    if named.length > MAX_NODE_SET {
        return Err(bad(format!("It has {} bytes.", named.length)));
    }
    if let Some(known) = workshop.node_sets.get(&named.digest) {
        return Ok(known);
    }
    let bytes = blob(workshop, named, RefusalCode::Nodes).await?;
    let set: NodeSet = json::from_slice(&bytes, bytes.len()).map_err(|e| bad(format!("{e}.")))?;
    set.check().map_err(|e| bad(format!("{e}.")))?;
    let set: Arc<[Arc<Node>]> = set.nodes.into_iter().map(Arc::new).collect();
    workshop.node_sets.put(named.digest, Arc::clone(&set));
    Ok(set)
}

async fn nodes(workshop: &Workshop, assignment: &Assignment) -> Result<Vec<ReadyNode>, NotReady> {
    let Some(work) = &assignment.nodes else { return Ok(Vec::new()) };
    let bad = |detail: String| NotReady::refused(RefusalCode::Nodes, detail);
    let set = node_set(workshop, work.set).await?;
    let mut nodes = Vec::new();
    let mut next = 0;
    for (first, end) in &work.ranges {
        let part = usize::try_from(*first).ok().zip(usize::try_from(*end).ok());
        let part = part.filter(|(first, _)| *first >= next).and_then(|(first, end)| set.get(first..end));
        let part = part
            .ok_or_else(|| bad(format!("The range {first} to {end} is not in the set of {}.", set.len())))?;
        next = usize::try_from(*end).unwrap_or(usize::MAX);
        let indexed = (*first..).map(NodeIndex).zip(part);
        nodes.extend(indexed.map(|(index, node)| ReadyNode { index, node: Arc::clone(node) }));
    }
    Ok(nodes)
}

async fn ready_step(
    workshop: &Workshop,
    assignment: &Assignment,
    index: StepIndex,
    step: &Step,
) -> Result<ReadyStep, NotReady> {
    let Action::Component(action) = &step.action else {
        return Err(NotReady::refused(RefusalCode::Job, "This step is no runner's to run."));
    };
    let own = ready_component(workshop, assignment, action).await?;
    let on_error = match &step.on_error {
        Some(handler) => Some((ready_component(workshop, assignment, &handler.run).await?, handler.recover)),
        None => None,
    };
    Ok(ReadyStep { index, step: step.clone(), own, on_error })
}

async fn ready_component(
    workshop: &Workshop,
    assignment: &Assignment,
    action: &ComponentAction,
) -> Result<ReadyComponent, NotReady> {
    let pin =
        ComponentPin { name: action.name.clone(), version: action.version.clone(), digest: action.digest };
    let metering = metering(action, &workshop.ceiling);
    let loaded = workshop.components.get(&pin, metering, &*workshop.client).await?;
    action.agrees_with(&loaded.manifest).map_err(|e| NotReady::refused(RefusalCode::Job, format!("{e}.")))?;
    // The paths that the options choose, and no others: what is not chosen is not in the remit.
    let secrets = action
        .secrets_for(&assignment.options)
        .map_err(|e| NotReady::refused(RefusalCode::Parameter, format!("{e}.")))?;
    let narrowed = ComponentAction { secrets, ..action.clone() };
    let remit = remit(&assignment.project, &narrowed, &loaded, &workshop.ceiling)?;
    let remit_digest = remit.digest();
    let realm = realm(&assignment.project, remit_digest);
    let (action, secrets) = (action.clone(), narrowed.secrets);
    let remit = Arc::new(remit);
    Ok(ReadyComponent {
        action,
        loaded,
        remit_digest,
        realm,
        remit,
        admitted: None,
        typed: Vec::new(),
        secrets,
    })
}

/// Fuel is counted where the component's author, the job or the runner's owner names a number for it.
fn metering(action: &ComponentAction, ceiling: &Ceiling) -> Metering {
    Metering::where_counted(action.limits.fuel.is_counted() || ceiling.limits.fuel.is_some())
}

/// The remit of a step, or everything that it lacks with the lines that would grant it.
pub fn remit(
    project: &ProjectName,
    action: &ComponentAction,
    loaded: &Loaded,
    ceiling: &Ceiling,
) -> Result<Remit, NotReady> {
    let subject = Subject { component: &loaded.manifest.name, project };
    let manifest = &loaded.manifest;
    Remit::compute(subject, &manifest.requests, manifest.limits, &action.grant, &action.secrets, ceiling)
        .map_err(|denials| denied(&denials))
}

/// The refusal that these denials come to.
pub fn denied(denials: &[Denial]) -> NotReady {
    let code = match denials.first().map(|denial| denial.side) {
        Some(Side::Request) => RefusalCode::Request,
        Some(Side::Grant) => RefusalCode::Grant,
        Some(Side::Ceiling) | None => RefusalCode::Ceiling,
    };
    let lines: Vec<String> = denials.iter().map(ToString::to_string).collect();
    NotReady { outcome: Outcome::Refused(code), message: format!("{} {}", code.meaning(), lines.join("\n")) }
}
