//! Every address of the operator API. Places in braces are filled with [`fill`].

use std::fmt::Display;

/// `GET` → [`super::Version`]; no token.
pub const VERSION: &str = "/api/v1/version";
/// `GET` → [`super::Health`]; no token.
pub const HEALTH: &str = "/health";
/// `GET` → Prometheus text; instance role `metrics` or `admin`.
pub const METRICS: &str = "/metrics";
/// `GET` → the OpenAPI document; no token.
pub const OPENAPI: &str = "/api/v1/openapi.json";
/// `GET` → [`super::TokenView`] of the token that asks.
pub const WHOAMI: &str = "/api/v1/whoami";

/// `GET` → `Page<`[`super::TokenView`]`>`; `POST` [`super::NewToken`] → [`super::TokenCreated`].
pub const TOKENS: &str = "/api/v1/tokens";
/// `DELETE`: revokes it.
pub const TOKEN: &str = "/api/v1/tokens/{token}";

/// `GET` → `Page<`[`super::Project`]`>`; `POST` [`super::NewProject`] → [`super::Project`].
pub const PROJECTS: &str = "/api/v1/projects";
/// `GET` → [`super::Project`].
pub const PROJECT: &str = "/api/v1/projects/{project}";
/// `GET` → [`super::ProjectSettings`]; `PUT` [`super::ProjectSettings`] → [`super::ProjectSettings`].
pub const PROJECT_SETTINGS: &str = "/api/v1/projects/{project}/settings";

/// `GET` → `Page<`[`super::RunnerView`]`>`; `POST` [`super::NewRunner`] → [`super::TicketIssued`].
pub const RUNNERS: &str = "/api/v1/runners";
/// `GET` → [`super::RunnerView`]; `PATCH` [`super::EditRunner`] → [`super::RunnerView`]; `DELETE`.
pub const RUNNER: &str = "/api/v1/runners/{runner}";
/// `POST`: takes work again → [`super::RunnerView`].
pub const RUNNER_ENABLE: &str = "/api/v1/runners/{runner}/enable";
/// `POST`: gets no more work → [`super::RunnerView`].
pub const RUNNER_DISABLE: &str = "/api/v1/runners/{runner}/disable";
/// `POST`: a new one-use ticket; the runner's present key is good until it is used → [`super::TicketIssued`].
pub const RUNNER_TICKET: &str = "/api/v1/runners/{runner}/ticket";

/// `PUT` of raw bytes: stores them by the digest in the address → [`crate::digest::Sized`].
pub const BLOB: &str = "/api/v1/blobs/{digest}";
/// `PUT` of raw bytes: keeps a file for options of the project's jobs, by the digest in the address →
/// [`crate::digest::Sized`].
pub const FILE: &str = "/api/v1/projects/{project}/files/{digest}";
/// `GET` ([`super::ComponentQuery`]) → `Page<`[`super::ComponentSummary`]`>`; `POST` [`super::Publish`] →
/// [`super::ComponentView`].
pub const COMPONENTS: &str = "/api/v1/components";
/// `GET` → [`super::ComponentView`].
pub const COMPONENT: &str = "/api/v1/components/{namespace}/{name}/{version}";
/// `POST`: moving references select it no more → [`super::ComponentView`].
pub const COMPONENT_YANK: &str = "/api/v1/components/{namespace}/{name}/{version}/yank";
/// `POST`: they select it again → [`super::ComponentView`].
pub const COMPONENT_UNYANK: &str = "/api/v1/components/{namespace}/{name}/{version}/unyank";
/// `GET` → the bytes of its wasm.
pub const COMPONENT_WASM: &str = "/api/v1/components/{namespace}/{name}/{version}/wasm";
/// `POST` [`super::PublishVerdict`] → [`super::VerdictView`].
pub const COMPONENT_VERDICTS: &str = "/api/v1/components/{namespace}/{name}/{version}/verdicts";

/// `GET` → `Page<`[`super::JobSummary`]`>`; `POST` [`super::Apply`] → [`super::Applied`].
pub const JOBS: &str = "/api/v1/projects/{project}/jobs";
/// `GET` → [`super::JobView`]; `DELETE`.
pub const JOB: &str = "/api/v1/projects/{project}/jobs/{job}";
/// What a run of a job would be.
pub const JOB_PLAN: &str = "/api/v1/projects/{project}/jobs/{job}/plan";
/// A job's executions.
pub const JOB_EXECUTIONS: &str = "/api/v1/projects/{project}/jobs/{job}/executions";

/// `POST` [`super::Command`] → [`super::Triggered`]: a command that is no job, run now.
pub const COMMANDS: &str = "/api/v1/projects/{project}/commands";
/// `POST` [`super::Command`] → [`super::Plan`]: what that would be.
pub const COMMAND_PLAN: &str = "/api/v1/projects/{project}/commands/plan";

/// `POST` [`super::OptionsAsked`] → [`super::JobOptions`]: what may be given now.
pub const JOB_OPTIONS: &str = "/api/v1/projects/{project}/jobs/{job}/options";

/// `GET` ([`super::ScheduleQuery`]) → `Page<`[`super::ScheduleView`]`>`.
pub const SCHEDULES: &str = "/api/v1/projects/{project}/schedules";
/// `POST`: fires again, from now on → [`super::ScheduleView`].
pub const SCHEDULE_ENABLE: &str = "/api/v1/projects/{project}/jobs/{job}/schedules/{schedule}/enable";
/// `POST`: fires no more → [`super::ScheduleView`].
pub const SCHEDULE_DISABLE: &str = "/api/v1/projects/{project}/jobs/{job}/schedules/{schedule}/disable";

/// `GET` → `Page<`[`super::HookView`]`>`; `POST` [`super::NewHook`] → [`super::HookCreated`].
pub const HOOKS: &str = "/api/v1/projects/{project}/hooks";
/// `DELETE`.
pub const HOOK: &str = "/api/v1/projects/{project}/hooks/{hook}";
/// `POST` [`super::RotateHook`] → [`super::HookCreated`].
pub const HOOK_ROTATE: &str = "/api/v1/projects/{project}/hooks/{hook}/rotate";
/// `POST` of any JSON object, signed → [`super::Triggered`]; no token.
pub const HOOK_CALL: &str = "/hooks/{project}/{hook}";

/// `GET` → `Page<`[`super::ChannelView`]`>`; `POST` [`super::NewChannel`] → [`super::ChannelCreated`].
pub const CHANNELS: &str = "/api/v1/projects/{project}/channels";
/// `DELETE`.
pub const CHANNEL: &str = "/api/v1/projects/{project}/channels/{channel}";
/// `POST` → [`super::ChannelTried`].
pub const CHANNEL_TEST: &str = "/api/v1/projects/{project}/channels/{channel}/test";
/// `GET` ([`super::NoticeQuery`]) → `Page<`[`super::NoticeView`]`>`.
pub const NOTICES: &str = "/api/v1/projects/{project}/notices";

/// `GET` ([`super::ExecutionQuery`]) → `Page<`[`super::ExecutionSummary`]`>`.
pub const EXECUTIONS: &str = "/api/v1/executions";
/// `GET` → [`super::ExecutionView`].
pub const EXECUTION: &str = "/api/v1/executions/{execution}";
/// `GET` ([`super::NodesQuery`]) → `Page<`[`super::NodeResult`]`>`: a node step, node by node.
pub const EXECUTION_NODES: &str = "/api/v1/executions/{execution}/steps/{step}/nodes";
/// `GET` ([`super::LogQuery`]) → [`super::LogPage`].
pub const EXECUTION_LOG: &str = "/api/v1/executions/{execution}/log";
/// `GET` ([`super::ArtifactsQuery`]) → `Page<`[`super::ArtifactView`]`>`: the files that its steps kept.
pub const EXECUTION_ARTIFACTS: &str = "/api/v1/executions/{execution}/artifacts";
/// `GET` ([`super::ArtifactQuery`]) → the bytes of one of them.
pub const EXECUTION_ARTIFACT: &str = "/api/v1/executions/{execution}/steps/{step}/artifacts/{artifact}";
/// `GET` ([`super::EventsQuery`]) → server-sent events, each a [`super::LiveEvent`].
pub const EXECUTION_EVENTS: &str = "/api/v1/executions/{execution}/events";
/// `POST` [`super::Cancel`] → [`super::ExecutionSummary`].
pub const EXECUTION_CANCEL: &str = "/api/v1/executions/{execution}/cancel";
/// `POST` [`super::Decide`] → [`super::ExecutionSummary`]: what becomes of a held section.
pub const EXECUTION_ANSWER: &str = "/api/v1/executions/{execution}/sections/{section}/answer";
/// Decide about a section that is held in doubt.
pub const EXECUTION_DECIDE: &str = "/api/v1/executions/{execution}/sections/{section}/decide";
/// `POST` [`super::Rerun`] → [`super::Triggered`]: the job again, on nodes that did not end well.
pub const EXECUTION_RERUN: &str = "/api/v1/executions/{execution}/rerun";
/// `POST` [`super::Rerun`] → [`super::Plan`]: what that would be.
pub const EXECUTION_RERUN_PLAN: &str = "/api/v1/executions/{execution}/rerun/plan";
/// `POST` [`super::Resume`] → [`super::Triggered`]: goes on from the first step that did not end well.
pub const EXECUTION_RESUME: &str = "/api/v1/executions/{execution}/resume";
/// `GET` ([`super::QueueQuery`]) → `Page<`[`super::QueueEntry`]`>`: what waits, and why.
pub const QUEUE: &str = "/api/v1/queue";

/// `GET` ([`super::NodeQuery`]) → [`super::NodePage`]; `PUT` [`crate::node::NodeSet`] → [`super::SourceView`]: the nodes
/// that people loaded, whole.
pub const NODES: &str = "/api/v1/projects/{project}/nodes";
/// `GET` → `Page<`[`super::SourceView`]`>`; `POST` [`super::NewSource`] → [`super::SourceView`].
pub const SOURCES: &str = "/api/v1/projects/{project}/sources";
/// `DELETE`.
pub const SOURCE: &str = "/api/v1/projects/{project}/sources/{source}";
/// `GET` → [`crate::node::NodeSet`]: what this source gave last.
pub const SOURCE_NODES: &str = "/api/v1/projects/{project}/sources/{source}/nodes";
/// `POST` → [`super::SourceView`]: asks its runner for the nodes anew.
pub const SOURCE_REFRESH: &str = "/api/v1/projects/{project}/sources/{source}/refresh";

/// `GET` → `Page<`[`super::TrailView`]`>`: the signed ends of its own record, the newest first.
pub const RUNNER_TRAIL: &str = "/api/v1/runners/{runner}/trail";

/// `GET` → [`super::AuditView`].
pub const AUDIT: &str = "/api/v1/audit";
/// `GET` ([`super::AuditPart`]) → [`super::AuditLines`].
pub const AUDIT_LINES: &str = "/api/v1/audit/lines";

/// `GET` → [`super::LogView`].
pub const LOG: &str = "/api/v1/log";
/// `GET` → [`crate::endpoint::LogProof`] of the note with this leaf hash.
pub const LOG_PROOF: &str = "/api/v1/log/proof/{leaf}";
/// `GET` → the newest `c2sp.org/tlog-checkpoint`. From here on down the addresses are those of `c2sp.org/tlog-tiles`.
pub const LOG_CHECKPOINT: &str = "/log/checkpoint";
/// `GET` → a tile of hashes, or a bundle of leaves.
pub const LOG_TILE: &str = "/log/tile/{*tile}";

/// The address `template` with its places filled in order; what would be read as another place is percent-encoded.
pub fn fill(template: &str, values: &[&dyn Display]) -> String {
    let mut filled = String::with_capacity(template.len() + 32);
    let mut values = values.iter();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (_, behind) = after.split_once('}').unwrap_or((after, ""));
        if let Some(value) = values.next() {
            encode(&value.to_string(), &mut filled);
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

/// Appends `text`, with everything but unreserved characters and `:` percent-encoded.
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in_order() {
        fn check(template: &str, values: &[&dyn Display], expect: &str) {
            assert_eq!(fill(template, values), expect);
        }
        check(VERSION, &[], "/api/v1/version");
        check(JOB, &[&"ops", &"restart_web"], "/api/v1/projects/ops/jobs/restart_web");
        check(RUNNER, &[&"a/b c"], "/api/v1/runners/a%2Fb%20c");
        check(BLOB, &[&"sha256:00"], "/api/v1/blobs/sha256:00");
    }
}
