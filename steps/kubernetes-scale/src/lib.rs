#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, Span, http, log, step};
use remit_sdk_kubernetes::{Cluster, Resource, Rollout, rollout, send};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What to scale, and to how many.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The API server's address.
    pub url: String,
    /// The namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The object's kind.
    #[serde(default)]
    pub kind: Kind,
    /// The object's name.
    pub name: String,
    /// How many pods it is to keep.
    #[schemars(range(max = 10000))]
    pub replicas: u32,
    /// How long is waited until they run; left out: it is not waited for.
    pub wait: Option<Span>,
}

/// A kind that keeps pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "kinds of apps/v1")]
pub enum Kind {
    #[default]
    Deployment,
    StatefulSet,
    ReplicaSet,
}

/// What was changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// How many pods it was to keep before.
    pub before: u32,
    /// How many it is to keep now.
    pub after: u32,
}

/// `Scale` of autoscaling/v1, as far as it is of use.
#[derive(Deserialize)]
struct Scale {
    #[serde(default)]
    spec: ScaleSpec,
}

#[derive(Default, Deserialize)]
struct ScaleSpec {
    #[serde(default)]
    replicas: u32,
}

const EVERY: Span = Span::seconds(2);
const MAX_REPLICAS: u32 = 10_000;

fn default_namespace() -> String {
    "default".to_owned()
}

/// Scales it.
#[step]
pub fn kubernetes_scale(input: Input, context: &Context) -> Result<Output, Fail> {
    if input.replicas > MAX_REPLICAS {
        return Err(Fail::new(format!("`replicas` is {}: at most {MAX_REPLICAS} are set", input.replicas)));
    }
    let plural = match input.kind {
        Kind::Deployment => "deployments",
        Kind::StatefulSet => "statefulsets",
        Kind::ReplicaSet => "replicasets",
    };
    let cluster = Cluster::new(&input.url)?;
    let resource = Resource::known("apps/v1", plural, true);
    let object = cluster.address(&resource, Some(&input.namespace), &[&input.name]);
    let scale = object.segment("scale");
    let inside = |fail: Fail| fail.while_doing(format_args!("{plural}/{}", input.name));
    let before: Scale = send(http::get(&scale)).map_err(inside)?.json()?;
    let body = serde_json::to_vec(&json!({"spec": {"replicas": input.replicas}}))?;
    let patch = http::patch(&scale).header("content-type", "application/merge-patch+json").body(body);
    let after: Scale = send(patch).map_err(inside)?.json()?;
    log::info!("scaled", before = before.spec.replicas, after = after.spec.replicas);
    if let Some(wait) = input.wait {
        let mut last = String::new();
        let done = context.poll(EVERY, wait, || {
            let now: Value = send(http::get(&object)).map_err(inside)?.json()?;
            if let Rollout::Waiting(why) = rollout(&now) {
                last = why;
                return Ok(None);
            }
            Ok(Some(()))
        })?;
        done.ok_or_else(|| inside(Fail::new(format!("not there within {wait}: {last}"))))?;
    }
    Ok(Output { before: before.spec.replicas, after: after.spec.replicas })
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Answer, Fake};

    use super::*;

    const OBJECT: &str = "https://k8s.example/apis/apps/v1/namespaces/shop/statefulsets/db";

    fn scale(replicas: u32) -> Answer {
        Answer::json(&json!({"kind": "Scale", "spec": {"replicas": replicas}, "status": {"replicas": 1}}))
    }

    #[test]
    fn it_is_scaled_and_waited_for() {
        let state = |ready: u32| {
            Answer::json(
                &json!({"kind": "StatefulSet", "spec": {"replicas": 3}, "status": {"updatedReplicas": 3, "readyReplicas": ready}}),
            )
        };
        let input = json!({
            "url": "https://k8s.example", "namespace": "shop", "kind": "StatefulSet", "name": "db", "replicas": 3, "wait": "10s",
        });
        let begin = |fake: Fake| {
            fake.http("GET", &format!("{OBJECT}/scale"), scale(1)).http(
                "PATCH",
                &format!("{OBJECT}/scale"),
                scale(3),
            )
        };
        let run = begin(Fake::new())
            .http("GET", OBJECT, state(2))
            .http("GET", OBJECT, state(3))
            .call(kubernetes_scale, &input);
        assert_eq!(run.result.unwrap(), json!({"before": 1, "after": 3}));
        let sent = &run.requests[1];
        assert_eq!(sent.json(), json!({"spec": {"replicas": 3}}));
        let kinds: Vec<_> = sent.headers.iter().filter(|(name, _)| name == "content-type").collect();
        assert_eq!(kinds, [&("content-type".to_owned(), "application/merge-patch+json".to_owned())]);
        let late = (0..6).fold(begin(Fake::new()), |fake, _| fake.http("GET", OBJECT, state(2)));
        assert_eq!(
            late.call(kubernetes_scale, &input).result.unwrap_err().message(),
            "statefulsets/db: not there within 10s: 3 of 3 updated, 2 ready, 0 old"
        );
    }

    #[test]
    fn what_cannot_be_scaled_is_said() {
        fn check(input: Value, fake: Fake, message: &str) {
            let found = fake.call(kubernetes_scale, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        let status =
            json!({"kind": "Status", "message": "deployments.apps \"web\" not found", "reason": "NotFound"});
        check(
            json!({"url": "https://k8s.example", "name": "web", "replicas": 1}),
            Fake::new().http(
                "GET",
                "https://k8s.example/apis/apps/v1/namespaces/default/deployments/web/scale",
                Answer::status(404).body(status.to_string()),
            ),
            "deployments/web: the cluster refuses: deployments.apps \"web\" not found (NotFound)",
        );
        check(
            json!({"url": "https://k8s.example", "name": "a/b", "replicas": 1}),
            Fake::new(),
            "cannot be a segment",
        );
        check(
            json!({"url": "https://k8s.example", "name": "a", "replicas": 20000}),
            Fake::new(),
            "at most 10000",
        );
    }
}
