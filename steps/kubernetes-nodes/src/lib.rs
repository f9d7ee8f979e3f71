#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{Context, Fail, JsonSchema, Node, Nodes, log, node_source};
use remit_sdk_kubernetes::{Cluster, Resource};
use remit_sdk_nodes::Emitter;
use serde::Deserialize;

/// Which cluster, and what of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The API server's address, such as `https://k8s.corp.example:6443`.
    pub url: String,
    /// What becomes a node.
    #[serde(default)]
    pub what: What,
    /// Only the pods of this namespace.
    pub namespace: Option<String>,
    /// A label selector, such as `tier=web,env!=test`.
    pub labels: Option<String>,
    /// A field selector, such as `status.phase=Running`.
    pub fields: Option<String>,
}

/// What becomes a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The cluster's machines.
    #[default]
    Nodes,
    /// Pods.
    Pods,
}

/// `Node` of the core API, version 1, as far as it is of use.
#[derive(Debug, Deserialize)]
struct Machine {
    metadata: Metadata,
    #[serde(default)]
    spec: MachineSpec,
    #[serde(default)]
    status: MachineStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct MachineSpec {
    #[serde(default)]
    unschedulable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MachineStatus {
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    node_info: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// `Pod` of the core API, version 1, as far as it is of use.
#[derive(Debug, Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    image: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    #[serde(default)]
    phase: String,
    #[serde(rename = "podIP", default)]
    pod_ip: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

/// Most labels that become attributes.
const MAX_LABELS: usize = 150;
/// Addresses of a machine, the best one first.
const ADDRESSES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];
/// The beginning of labels that name what a machine is for.
const ROLE: &str = "node-role.kubernetes.io/";

/// Asks the cluster and emits what it has.
#[node_source]
pub fn kubernetes_nodes(input: Input, nodes: &mut Nodes, _: &Context) -> Result<(), Fail> {
    let cluster = Cluster::new(&input.url)?;
    let selectors = [("labelSelector", input.labels.as_deref()), ("fieldSelector", input.fields.as_deref())];
    let mut emitter = Emitter::new(nodes);
    match input.what {
        What::Nodes if input.namespace.is_some() => {
            return Err(Fail::new(
                "machines have no namespace: write `what: pods`, or leave `namespace` out",
            ));
        }
        What::Nodes => {
            let machines = Resource::known("v1", "nodes", false);
            cluster.list(&machines, None, &selectors, |found| emitter.emit(machine(found), &input.url))?;
        }
        What::Pods => {
            let (pods, namespace) = (Resource::known("v1", "pods", true), input.namespace.as_deref());
            cluster.list(&pods, namespace, &selectors, |found| emitter.emit(pod(found), &input.url))?;
        }
    }
    log::info!("nodes were read", nodes = emitter.emitted());
    Ok(())
}

fn ready(conditions: &[Condition]) -> String {
    let found = conditions.iter().find(|condition| condition.kind == "Ready");
    found.map_or_else(|| "Unknown".to_owned(), |condition| condition.status.clone())
}

fn labelled(node: Node, labels: BTreeMap<String, String>) -> Node {
    labels
        .into_iter()
        .take(MAX_LABELS)
        .fold(node, |node, (name, value)| node.attribute(format!("label:{name}"), value))
}

fn machine(found: Machine) -> Node {
    let mut node = Node::new(&found.metadata.name)
        .tag("kubernetes")
        .attribute("kubernetes:uid", found.metadata.uid)
        .attribute("kubernetes:ready", ready(&found.status.conditions))
        .attribute("kubernetes:schedulable", (!found.spec.unschedulable).to_string());
    let best = ADDRESSES.iter().find_map(|kind| found.status.addresses.iter().find(|own| own.kind == *kind));
    if let Some(best) = best {
        node = node.attribute("hostname", &best.address);
    }
    for (attribute, name) in [
        ("osFamily", "operatingSystem"),
        ("osName", "osImage"),
        ("osArch", "architecture"),
        ("osVersion", "kernelVersion"),
        ("kubernetes:kubelet", "kubeletVersion"),
    ] {
        if let Some(text) = found.status.node_info.get(name).and_then(serde_json::Value::as_str) {
            let text = if attribute == "osFamily" && text == "linux" { "unix" } else { text };
            node = node.attribute(attribute, text);
        }
    }
    for role in found.metadata.labels.keys().filter_map(|label| label.strip_prefix(ROLE)) {
        if !role.is_empty() {
            node = node.tag(role);
        }
    }
    labelled(node, found.metadata.labels)
}

fn pod(found: Pod) -> Node {
    let Metadata { name, namespace, uid, labels } = found.metadata;
    let containers: Vec<_> = found.spec.containers.iter().map(|own| own.name.as_str()).collect();
    let images: Vec<_> = found.spec.containers.iter().map(|own| own.image.as_str()).collect();
    let mut node = Node::new(format!("{namespace}/{name}"))
        .tag("kubernetes")
        .attribute("kubernetes:pod", &name)
        .attribute("kubernetes:namespace", &namespace)
        .attribute("kubernetes:uid", uid)
        .attribute("kubernetes:phase", &found.status.phase)
        .attribute("kubernetes:ready", ready(&found.status.conditions))
        .attribute("kubernetes:node", found.spec.node_name)
        .attribute("kubernetes:containers", containers.join(","))
        .attribute("kubernetes:images", images.join(","));
    if !found.status.phase.is_empty() {
        node = node.tag(found.status.phase.to_ascii_lowercase());
    }
    if !found.status.pod_ip.is_empty() {
        node = node.attribute("hostname", found.status.pod_ip);
    }
    labelled(node, labels)
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Answer, Fake};
    use serde_json::{Value, json};

    use super::*;

    const URL: &str = "https://k8s.example:6443";

    fn discover(path: &str, answer: Answer, more: Value) -> remit_sdk::fake::Run<Result<(), Fail>> {
        let mut input = json!({"url": URL});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Fake::new().http("GET", &format!("{URL}{path}"), answer).discover(kubernetes_nodes, &input)
    }

    #[test]
    fn machines_become_nodes() {
        let list = json!({"kind": "NodeList", "metadata": {}, "items": [{
            "metadata": {"name": "cp-1", "uid": "u1", "labels": {"node-role.kubernetes.io/control-plane": "", "zone": "a"}},
            "spec": {"unschedulable": true},
            "status": {
                "addresses": [{"type": "Hostname", "address": "cp-1"}, {"type": "InternalIP", "address": "10.0.0.2"}],
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
                "nodeInfo": {"operatingSystem": "linux", "osImage": "Debian 12", "architecture": "amd64",
                    "kernelVersion": "6.1.0", "kubeletVersion": "v1.33.1"},
            },
        }, {"metadata": {"name": "bare"}}]});
        let run = discover(
            "/api/v1/nodes?limit=250&labelSelector=zone",
            Answer::json(&list),
            json!({"labels": "zone"}),
        );
        run.result.unwrap();
        let expect = Node::new("cp-1")
            .tag("kubernetes")
            .tag("control-plane")
            .attribute("hostname", "10.0.0.2")
            .attribute("osFamily", "unix")
            .attribute("osName", "Debian 12")
            .attribute("osArch", "amd64")
            .attribute("osVersion", "6.1.0")
            .attribute("kubernetes:kubelet", "v1.33.1")
            .attribute("kubernetes:uid", "u1")
            .attribute("kubernetes:ready", "True")
            .attribute("kubernetes:schedulable", "false")
            .attribute("label:node-role.kubernetes.io/control-plane", "")
            .attribute("label:zone", "a");
        assert_eq!(run.nodes[0], expect);
        assert_eq!(
            (run.nodes[1].get("kubernetes:ready"), run.nodes[1].get("hostname")),
            (Some("Unknown"), None)
        );
    }

    #[test]
    fn pods_become_nodes() {
        let list = json!({"items": [{
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "u2", "labels": {"app": "web"}},
            "spec": {"nodeName": "w-1", "containers": [{"name": "main", "image": "nginx"}, {"name": "log", "image": "vector"}]},
            "status": {"phase": "Running", "podIP": "10.1.0.9", "conditions": [{"type": "Ready", "status": "False"}]},
        }]});
        let run = discover(
            "/api/v1/namespaces/shop/pods?limit=250",
            Answer::json(&list),
            json!({"what": "pods", "namespace": "shop"}),
        );
        run.result.unwrap();
        let expect = Node::new("shop/web-0")
            .tag("kubernetes")
            .tag("running")
            .attribute("hostname", "10.1.0.9")
            .attribute("kubernetes:pod", "web-0")
            .attribute("kubernetes:namespace", "shop")
            .attribute("kubernetes:uid", "u2")
            .attribute("kubernetes:phase", "Running")
            .attribute("kubernetes:ready", "False")
            .attribute("kubernetes:node", "w-1")
            .attribute("kubernetes:containers", "main,log")
            .attribute("kubernetes:images", "nginx,vector")
            .attribute("label:app", "web");
        assert_eq!(run.nodes, [expect]);
    }

    #[test]
    fn what_does_not_work_is_said() {
        fn check(answer: Answer, more: Value, part: &str) {
            let found = discover("/api/v1/nodes?limit=250", answer, more).result.unwrap_err();
            assert!(found.message().contains(part), "{found}");
        }
        let status =
            json!({"kind": "Status", "message": "Unauthorized", "reason": "Unauthorized", "code": 401});
        check(Answer::status(401).body(status.to_string()), json!({}), "the cluster refuses: Unauthorized");
        check(Answer::status(200).body("<html>"), json!({}), "does not fit");
        let found = Fake::new().discover(kubernetes_nodes, &json!({"url": URL, "namespace": "a"})).result;
        assert!(found.unwrap_err().message().contains("machines have no namespace"));
        let found = Fake::new().discover(kubernetes_nodes, &json!({"url": "k8s"})).result;
        assert!(found.unwrap_err().message().contains("does not start with https://"));
    }
}
