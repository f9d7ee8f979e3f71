//! Whether what was applied has come to pass: the status of the kinds that keep pods.

use serde_json::Value;

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// Everything that it asks for runs.
    Done,
    /// Not yet, and why.
    Waiting(String),
    /// Its kind has nothing to wait for.
    Nothing,
}

/// How far an object is, by its status.
pub fn rollout(object: &Value) -> Rollout {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
    let count = |pointer: &str| number(pointer).unwrap_or(0);
    let wanted = number("/spec/replicas").unwrap_or(1);
    let (wanted, updated, ready) = match object.get("kind").and_then(Value::as_str) {
        Some("Deployment") => (wanted, count("/status/updatedReplicas"), count("/status/availableReplicas")),
        Some("StatefulSet") => (wanted, count("/status/updatedReplicas"), count("/status/readyReplicas")),
        Some("ReplicaSet") => (wanted, count("/status/replicas"), count("/status/availableReplicas")),
        Some("DaemonSet") => (
            count("/status/desiredNumberScheduled"),
            count("/status/updatedNumberScheduled"),
            count("/status/numberAvailable"),
        ),
        _ => return Rollout::Nothing,
    };
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Rollout::Waiting("the change was not seen yet".to_owned());
    }
    // Old pods go last.
    let all = number("/status/replicas").unwrap_or(updated);
    if updated >= wanted && ready >= wanted && all <= updated {
        return Rollout::Done;
    }
    Rollout::Waiting(format!(
        "{updated} of {wanted} updated, {ready} ready, {} old",
        all.saturating_sub(updated)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_says_how_far_it_is() {
        fn check(object: Value, expect: &str) {
            let found = match rollout(&object) {
                Rollout::Done => "done".to_owned(),
                Rollout::Waiting(why) => why,
                Rollout::Nothing => "nothing".to_owned(),
            };
            assert_eq!(found, expect, "{object}");
        }
        let deployment = |observed: u32, updated: u32, available: u32, all: u32| {
            json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": {
                "observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available, "replicas": all}})
        };
        check(deployment(2, 3, 3, 3), "done");
        check(deployment(1, 3, 3, 3), "the change was not seen yet");
        check(deployment(2, 2, 3, 4), "2 of 3 updated, 3 ready, 2 old");
        check(json!({"kind": "Deployment", "spec": {"replicas": 0}, "status": {}}), "done");
        check(
            json!({"kind": "StatefulSet", "spec": {"replicas": 1}, "status": {"updatedReplicas": 1}}),
            "1 of 1 updated, 0 ready, 0 old",
        );
        check(
            json!({"kind": "DaemonSet", "status": {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}}),
            "done",
        );
        check(json!({"kind": "ConfigMap"}), "nothing");
    }
}
