//! Why a runner (or the registry) refused: a closed list of codes, each with one sentence and one remedy.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $what:literal, $remedy:literal;)*) => {
        /// A reason for refusing. Fail closed: there is no warning instead.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum RefusalCode {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)*
        }

        impl RefusalCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it is printed, sent and searched for.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

refusal_codes! {
    /// Length.
    Length = "E_LENGTH", "The bytes are not as long as the note says.",
        "Publish the component again; if it persists, something between registry and runner alters it.";
    /// Digest.
    Digest = "E_DIGEST", "The bytes are not the ones that were signed.",
        "Publish the component again; if it persists, something between registry and runner alters it.";
    /// Note or manifest text.
    Syntax = "E_SYNTAX", "The note or the manifest does not follow the strict form.",
        "Sign the component again with `remit step sign`.";
    /// A known key's bad signature.
    Signature = "E_SIG", "A signature by a known key is wrong.",
        "Somebody altered the note: fetch the original from its publisher.";
    /// Too few signers.
    Threshold = "E_THRESHOLD", "Too few trusted holders have signed.",
        "Let the missing holders sign, or add their keys to the runner's trust.toml.";
    /// The key may not sign this.
    Scope = "E_SCOPE", "No publisher or author of the trust policy may sign this name.",
        "Add a [[publisher]] for the namespace (or an [[author]] for the project) to trust.toml if you trust it.";
    /// Not yet, or no longer.
    Window = "E_WINDOW", "The note or its key is not valid at this time.",
        "Sign the same bytes again with a new validity, or correct the host's clock.";
    /// Older than the least.
    Minimum = "E_MINIMUM", "The version is below the least that the trust policy accepts.",
        "Use a newer version, or lower [minimum] in trust.toml.";
    /// A version that went back.
    Rollback = "E_ROLLBACK", "A newer version of this was already accepted here.",
        "Use the newer version.";
    /// The owner's policy cannot be used.
    Policy = "E_POLICY", "The runner's trust policy cannot be used, so that nothing is believed.",
        "Correct trust.toml: `remit-runner check` says what is wrong. The runner reads it again by itself.";
    /// A clock far behind.
    Clock = "E_CLOCK", "The runner's clock is far behind a time that it has seen before.",
        "Correct the host's clock. If it was once far ahead, enrol the runner anew with an empty state directory.";
    /// Revoked key.
    RevokedKey = "E_REVOKED_KEY", "A key that signed is revoked.",
        "Let the publisher sign with a key that is not revoked.";
    /// Revoked component.
    RevokedComponent = "E_REVOKED_COMPONENT", "The component is revoked.",
        "Use another version.";
    /// Revoked note.
    RevokedNote = "E_REVOKED_NOTE", "The note is revoked.",
        "Use another version, or have it signed anew.";
    /// Not reviewed, or a reviewer said no.
    Verdict = "E_VERDICT", "The policy wants reviewers to stand for this component, and too few do, or one stands against it.",
        "Have it reviewed (`remit step verdict`), or add an [[exemption]] with its reason and its end to trust.toml.";
    /// Not in the log.
    LogProof = "E_LOG_PROOF", "The policy wants a proof from the transparency log, and there is no valid one.",
        "Publish through a registry with that log, or set [log] require = \"off\" in trust.toml.";
    /// Two histories of one log.
    LogFork = "E_LOG_FORK", "The transparency log has shown two histories that do not agree: somebody rewrote it, or shows it differently to different people.",
        "Keep the two checkpoints that `remit-runner doctor` names, and find out what happened before anything runs again.";
    /// Not a component.
    Kind = "E_KIND", "The bytes are not a WebAssembly component of the expected kind.",
        "Build it with `remit step build`; core modules and text are not accepted.";
    /// Imports differ from the manifest.
    Imports = "E_IMPORTS", "What the component really imports is not what its manifest says or accounts for.",
        "Build and sign it again; add the request that the import needs to step.toml.";
    /// Wrong world.
    World = "E_WORLD", "The component does not export what its kind has to export.",
        "Build it against the `step` or `node-source` world of the SDK.";
    /// Manifest and note differ.
    Manifest = "E_MANIFEST", "Manifest and note speak of different components.",
        "Sign the component again with `remit step sign`.";
    /// Signature of the job wanted.
    JobUnsigned = "E_JOB_UNSIGNED", "This runner wants signed jobs, and there is no acceptable signature on this one.",
        "Sign it with `remit job sign` by an author of the runner's trust.toml.";
    /// Nobody wanted this run.
    RunUnsigned = "E_RUN", "This runner wants to know who began a run, and nobody whom it believes has signed this one.",
        "Begin it with `remit job run --sign KEY`, by an initiator of the runner's trust.toml.";
    /// Two orders under one id.
    RunFork = "E_RUN_FORK", "Two different orders were signed under the id of one run.",
        "Ask who signed them: one of the two notes is not what its signer meant, or the orchestrator mixes runs up.";
    /// Done before.
    Replay = "E_REPLAY", "This part of the run was begun here before, and it must not be done twice.",
        "If it is to be done again, begin a new run.";
    /// Not after what has to come before.
    Order = "E_ORDER", "What comes before this part of the job has not been shown to have ended so that it is due.",
        "If a runner was lost on the way, begin a new run; otherwise something between orchestrator and runner leaves steps out.";
    /// Nobody, or not enough, agreed.
    Gate = "E_GATE", "This runner wants approvals that are signed, and there are not enough at a gate before this part.",
        "Approve with `remit execution approve --sign KEY`, by approvers of the runner's trust.toml.";
    /// Job document not acceptable.
    Job = "E_JOB", "The job document is not what the assignment names, or not acceptable.",
        "Apply the job again.";
    /// Option or input not acceptable.
    Parameter = "E_PARAM", "An option, an expression or an input of the step is not acceptable.",
        "Correct the value; the detail says which.";
    /// Nodes not acceptable.
    Nodes = "E_NODES", "The node set is not what the assignment names, or not acceptable.",
        "Load the nodes again.";
    /// The job gives more than the component asks for.
    Request = "E_REQUEST", "The job grants what the component does not ask for.",
        "Remove it from the step's `grant`, or add it to step.toml and publish a new version.";
    /// The component needs what the job does not give.
    Grant = "E_GRANT", "The job does not grant what the step needs.",
        "Add the lines that the detail prints to the step in the job.";
    /// The owner does not permit it.
    Ceiling = "E_CEILING", "The runner's owner does not permit what the job grants.",
        "Ask the owner to add the lines that the detail prints to runner.toml.";
    /// A secret cannot be had.
    Secret = "E_SECRET", "A secret that the step uses cannot be had at this runner.",
        "Let the runner's owner store it: `remit-runner secret set PATH`.";
    /// A typed secret that is not for this, or not any more.
    Sealed = "E_SEALED", "A secret that was typed is not sealed for this runner and this part of this run, or not any more.",
        "Begin a new run and type it again: `remit job run JOB --secret OPTION`.";
    /// Could not be compiled.
    Compile = "E_COMPILE", "The component could not be compiled within its limits.",
        "Build it with a supported toolchain, and make it smaller.";
    /// The runner cannot do this kind of work.
    Unsupported = "E_UNSUPPORTED", "This runner does not know how to do this.",
        "Update the runner, or select one that has the feature.";
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A text that is no refusal code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a refusal code")]
pub struct UnknownCode(String);

impl FromStr for RefusalCode {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.code() == text)
            .ok_or_else(|| UnknownCode(text.chars().take(40).collect()))
    }
}
