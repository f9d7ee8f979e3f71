//! The broker in a process of its own, apart from the supervisor.
//!
//! The *supervisor* has the link to the orchestrator, the runner's keys, the journal and the record, and verifies; the *broker
//! process* has the secrets and the network of steps, attends the workers of whatever asks for anything, and redacts. What
//! goes to it are components, what runs of them are given, and inputs; what comes back is redacted already. What asks for
//! nothing at all and has no secret near it is attended by the supervisor itself, without this detour.
//!
//! [`Keeper`] is the supervisor's side: it has the launcher start a broker, starts another one when that ends, and gives runs to
//! it. [`life`] is the broker's own side. The launcher gives each broker its [`Charter`], so that neither a ceiling nor a
//! secret of the environment comes from the supervisor; the broker computes every remit itself, by that ceiling.
//!
//! *Must not know:* attempts, jobs, the orchestrator, the runner's keys. *Invariant:* no secret value goes to the supervisor;
//! a run that was given to a broker ends, also when the broker does.

mod artifacts;
mod charter;
mod keeper;
mod life;
mod living;

use std::{borrow::Cow, collections::BTreeMap};

use remit_protocol::{
    Digest, ExecutionId, OptionName, ProjectName, RefusalCode, SecretName, SecretPath, Span, StepName,
    capability::{Grant, Remit},
    node::Node,
    report::Level,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::keeper::Component;
pub use self::{
    charter::Charter,
    keeper::{Admitted, Case, Keeper, NoBroker, Plan},
    life::live,
};
use crate::{component::cache::MAX_NATIVE, sandbox::Metering, secrets::TypedSecrets};

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Largest frame to a broker: native code with its manifest, or an input.
const MAX_TO_BROKER: usize = (1 << 30) + (4 << 20);
const _: () = assert!(MAX_NATIVE < MAX_TO_BROKER as u64, "native code of the largest kind fits");
/// Largest frame of a broker: an output of the largest kind, or what a node source found.
const MAX_FROM_BROKER: usize = 192 << 20;
/// What waits for a process that does not read before it is given up.
const MAX_WAITING: usize = 2 * MAX_TO_BROKER;

/// The first word to a broker.
#[derive(Serialize, Deserialize)]
struct Hello {
    /// The supervisor's version: both come from one program, unless that was replaced meanwhile.
    version: String,
}

/// A broker's first word: it is confined and ready, or why not.
type Ready = Result<(), String>;

/// Why a component cannot be run by a broker; without a code it is the host's fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unloadable {
    code: Option<RefusalCode>,
    detail: String,
}

/// The head of a component: whether its code counts its fuel, and its manifest.
type Load = (Metering, String);

/// What runs of a component will be given, in a case. The broker computes the remit from it.
#[derive(Clone, Serialize, Deserialize)]
struct Admission {
    /// Its own number.
    number: u32,
    case: u32,
    component: u32,
    project: ProjectName,
    grant: Grant,
    secrets: BTreeMap<SecretName, Vec<SecretPath>>,
    /// The remit that the supervisor has come to: if the broker comes to another one, nothing is run.
    remit: Digest,
    /// What was typed for it, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typed: Option<TypedSecrets>,
}

/// Why something is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which refusal it is.
    pub code: RefusalCode,
    /// Why, in words.
    pub detail: String,
}

/// What a run is begun with, beside its input.
#[derive(Serialize, Deserialize)]
struct Begin<'a> {
    admission: u32,
    execution: ExecutionId,
    step: StepName,
    node: Option<Cow<'a, Node>>,
    try_number: u32,
    idempotency_key: String,
    timeout: Option<Span>,
    /// The files of options, by their names in the directory of such files.
    files: BTreeMap<OptionName, String>,
}

/// How a run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stop {
    /// The component is asked to.
    Asked,
    /// At once.
    Cut,
}

/// The head of a line of a run's log.
type Line = (Level, Vec<(String, String)>);
/// The head of a word of progress: how much of how much.
type Progress = (u64, u64);

/// True if a run under `remit` takes anything from outside of its sandbox, so that a broker has to be there.
pub fn asks(remit: &Remit) -> bool {
    remit.reaches_out()
}
