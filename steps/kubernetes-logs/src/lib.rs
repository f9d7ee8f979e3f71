#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, Span, step};
use remit_sdk_kubernetes::{Cluster, Lines, Resource};
use serde::{Deserialize, Serialize};

/// Whose lines, and which of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The API server's address.
    pub url: String,
    /// The namespace; left out: the node's, if it is a pod of remit/kubernetes-nodes, else `default`.
    pub namespace: Option<String>,
    /// The pod; left out: those of `labels`, or the one that the node stands for.
    pub pod: Option<String>,
    /// All pods that a label selector chooses, 50 at most.
    pub labels: Option<String>,
    /// The container; left out: the pod's only one.
    pub container: Option<String>,
    /// At most so many lines of each pod, the last ones.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 100000))]
    pub tail: u32,
    /// Only lines of this last while.
    pub since: Option<Span>,
    /// Those of the container that ran before the present one.
    #[serde(default)]
    pub previous: bool,
}

/// What they wrote.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// In the order in which the cluster lists them.
    pub pods: Vec<Pod>,
}

/// A pod and the end of what it wrote.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The last 8 KiB.
    pub end: String,
}

#[derive(Deserialize)]
struct Listed {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

const MAX_PODS: usize = 50;
const KEEP: usize = 8 << 10;

fn thousand() -> u32 {
    1000
}

/// Shows the lines.
#[step]
pub fn kubernetes_logs(input: Input, context: &Context) -> Result<Output, Fail> {
    let cluster = Cluster::new(&input.url)?;
    let node = context.node();
    let of_node = |name: &str| node.as_ref().and_then(|node| node.get(name)).map(str::to_owned);
    let namespace =
        input.namespace.or_else(|| of_node("kubernetes:namespace")).unwrap_or_else(|| "default".to_owned());
    let mut names = Vec::new();
    match (input.pod.or_else(|| of_node("kubernetes:pod").filter(|_| input.labels.is_none())), &input.labels)
    {
        (Some(pod), None) => names.push(pod),
        (None, Some(labels)) => {
            let pods = Resource::known("v1", "pods", true);
            cluster.list(&pods, Some(&namespace), &[("labelSelector", Some(labels))], |pod: Listed| {
                names.push(pod.metadata.name);
                Ok(())
            })?;
            if names.is_empty() || names.len() > MAX_PODS {
                return Err(Fail::new(format!(
                    "{labels:?} chooses {} pods: 1 to {MAX_PODS} are shown",
                    names.len()
                )));
            }
        }
        _ => {
            return Err(Fail::new(
                "write one of `pod` and `labels`, or run the step on pods of remit/kubernetes-nodes",
            ));
        }
    }
    let lines = Lines {
        container: input.container.as_deref(),
        tail: input.tail.clamp(1, 100_000),
        since: input.since.map(|since| u32::try_from(since.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)),
        previous: input.previous,
    };
    let total = names.len();
    let mut pods = Vec::with_capacity(total);
    for name in names {
        context.check_cancelled()?;
        let end = cluster.logs(&namespace, &name, &lines, KEEP).map_err(|fail| fail.while_doing(&name))?;
        pods.push(Pod { name, end });
        context.progress(pods.len(), total);
    }
    Ok(Output { pods })
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Node,
        fake::{Answer, Fake},
    };
    use serde_json::{Value, json};

    use super::*;

    const PODS: &str = "https://k8s.example/api/v1/namespaces/shop/pods";

    #[test]
    fn lines_are_shown() {
        let list = json!({"items": [{"metadata": {"name": "web-0"}}, {"metadata": {"name": "web-1"}}]});
        let run = Fake::new()
            .http("GET", &format!("{PODS}?limit=250&labelSelector=app%3Dweb"), Answer::json(&list))
            .http("GET", &format!("{PODS}/web-0/log?tailLines=5&container=main&sinceSeconds=90"), Answer::status(200).body("one\ntwo\nlast"))
            .http("GET", &format!("{PODS}/web-1/log?tailLines=5&container=main&sinceSeconds=90"), Answer::status(200))
            .call(
                kubernetes_logs,
                &json!({"url": "https://k8s.example", "namespace": "shop", "labels": "app=web", "container": "main", "tail": 5, "since": "1m30s"}),
            );
        assert_eq!(run.messages(), ["one", "two", "last"]);
        assert_eq!(
            run.result.unwrap(),
            json!({"pods": [{"name": "web-0", "end": "one\ntwo\nlast"}, {"name": "web-1", "end": ""}]})
        );
    }

    #[test]
    fn a_node_may_be_the_pod() {
        let node = Node::new("shop/web-0")
            .attribute("kubernetes:pod", "web-0")
            .attribute("kubernetes:namespace", "shop");
        let run = Fake::new()
            .node(node)
            .http(
                "GET",
                &format!("{PODS}/web-0/log?tailLines=1000&previous=true"),
                Answer::status(200).body("x\n"),
            )
            .call(kubernetes_logs, &json!({"url": "https://k8s.example", "previous": true}));
        assert_eq!(run.result.unwrap()["pods"][0]["end"], "x\n");
    }

    #[test]
    fn what_cannot_be_shown_is_said() {
        fn check(input: Value, fake: Fake, message: &str) {
            let found = fake.call(kubernetes_logs, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        let url = "https://k8s.example";
        check(json!({"url": url}), Fake::new(), "write one of `pod` and `labels`");
        check(json!({"url": url, "pod": "a", "labels": "b"}), Fake::new(), "write one of `pod` and `labels`");
        check(
            json!({"url": url, "namespace": "shop", "labels": "b"}),
            Fake::new().http(
                "GET",
                &format!("{PODS}?limit=250&labelSelector=b"),
                Answer::json(&json!({"items": []})),
            ),
            "\"b\" chooses 0 pods",
        );
        let status =
            json!({"message": "a container name must be specified for pod web-0", "reason": "BadRequest"});
        check(
            json!({"url": url, "namespace": "shop", "pod": "web-0"}),
            Fake::new().http(
                "GET",
                &format!("{PODS}/web-0/log?tailLines=1000"),
                Answer::status(400).body(status.to_string()),
            ),
            "web-0: the cluster refuses: a container name must be specified",
        );
    }
}
