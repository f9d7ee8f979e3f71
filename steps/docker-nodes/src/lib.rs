#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{Context, Fail, JsonSchema, Node, Nodes, http, log, node_source};
use remit_sdk_docker::{Engine, send, time};
use remit_sdk_nodes::Emitter;
use serde::Deserialize;

/// Which containers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Whether containers that do not run are taken too.
    #[serde(default)]
    pub all: bool,
    /// Filters as `docker ps --filter` takes them, such as `label=tier=web`.
    #[serde(default)]
    pub filters: Vec<String>,
    /// The label whose values, parted by commas, become tags.
    pub tags_label: Option<String>,
}

/// Most containers.
const MAX_CONTAINERS: usize = 10_000;
/// Most labels of a container that become attributes.
const MAX_LABELS: usize = 150;

/// What the daemon's list says of a container, as far as it is of use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    names: Vec<String>,
    #[serde(default)]
    image: String,
    /// Seconds since the beginning of 1970.
    #[serde(default)]
    created: u64,
    state: String,
    /// For people: `Up 2 minutes (healthy)`.
    #[serde(default)]
    status: String,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Network>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    #[serde(rename = "IPAddress", default)]
    address: String,
}

/// Asks the daemon and emits its containers.
#[node_source]
pub fn docker_nodes(input: Input, nodes: &mut Nodes, _: &Context) -> Result<(), Fail> {
    let filters = filters(&input.filters)?;
    let mut url = Engine::agree()?.at(&["containers", "json"]).query("all", input.all);
    if !filters.is_empty() {
        url = url.query("filters", serde_json::to_string(&filters)?);
    }
    let containers: Vec<Container> = send(http::get(url))?.json()?;
    if containers.len() > MAX_CONTAINERS {
        return Err(Fail::new(format!(
            "{} containers, at most {MAX_CONTAINERS} are taken: narrow them with `filters`",
            containers.len()
        )));
    }
    let mut emitter = Emitter::new(nodes);
    for container in containers {
        emitter.emit(node(container, input.tags_label.as_deref()), "docker")?;
    }
    log::info!("nodes were read", nodes = emitter.emitted());
    Ok(())
}

/// Filters in the form of the API: each name with its values.
fn filters(written: &[String]) -> Result<BTreeMap<&str, Vec<&str>>, Fail> {
    let mut filters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for filter in written {
        match filter.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                filters.entry(name).or_default().push(value);
            }
            _ => {
                return Err(Fail::new(format!(
                    "{filter:?} in `filters` is no filter: write NAME=VALUE, such as label=tier=web or status=running"
                )));
            }
        }
    }
    Ok(filters)
}

/// What the daemon says of a container's health, in its words for people.
fn health(status: &str) -> Option<&str> {
    let inner = status.strip_suffix(')')?.rsplit_once('(')?.1;
    match inner.strip_prefix("health: ").unwrap_or(inner) {
        known @ ("healthy" | "unhealthy" | "starting") => Some(known),
        _ => None,
    }
}

fn node(container: Container, tags_label: Option<&str>) -> Node {
    let labels = container.labels.unwrap_or_default();
    let networks = container.network_settings.networks.unwrap_or_default();
    // Of several names those with a second slash are what links call it.
    let own = container.names.iter().map(|name| name.trim_start_matches('/'));
    let name = own.clone().find(|name| !name.contains('/')).or_else(|| own.clone().next());
    let mut node = Node::new(name.unwrap_or(&container.id))
        .tag("docker")
        .tag(&container.state)
        .attribute("docker:id", &container.id)
        .attribute("docker:image", &container.image)
        .attribute("docker:state", &container.state)
        .attribute("docker:created", time::written(container.created));
    if let Some(health) = health(&container.status) {
        node = node.attribute("docker:health", health);
    }
    if let Some((_, network)) = networks.iter().find(|(_, network)| !network.address.is_empty()) {
        node = node.attribute("hostname", &network.address);
    }
    if let Some(tags) = tags_label.and_then(|label| labels.get(label)) {
        node = remit_sdk_nodes::split_tags(tags).into_iter().fold(node, Node::tag);
    }
    labels
        .into_iter()
        .take(MAX_LABELS)
        .fold(node, |node, (name, value)| node.attribute(format!("label:{name}"), value))
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Refusal,
        fake::{Answer, Fake},
    };
    use remit_sdk_docker::ENDPOINT;
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "4c01db0b339c2bd1f1a1e1b1c1d1e1f101112131415161718191a1b1c1d1e1f1";

    /// A daemon that speaks version 1.41 and answers a list with this.
    fn daemon(query: &str, answer: Answer) -> Fake {
        let version = json!({"ApiVersion": "1.41", "MinAPIVersion": "1.12"});
        Fake::new().http("GET", &format!("{ENDPOINT}/version"), Answer::json(&version)).http(
            "GET",
            &format!("{ENDPOINT}/v1.41/containers/json?{query}"),
            answer,
        )
    }

    /// The form of Docker's API, version 1.41, `ContainerList`.
    fn listed() -> Value {
        json!([{
            "Id": ID, "Names": ["/other/alias", "/web-1"], "Image": "nginx:1.27", "ImageID": "sha256:1", "Command": "nginx",
            "Created": 1_795_219_200, "Ports": [], "Labels": {"tier": "front", "remit.tags": "web, edge"},
            "State": "running", "Status": "Up 2 minutes (healthy)", "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "other": {"IPAddress": ""}}},
            "Mounts": [],
        }])
    }

    #[test]
    fn containers_become_nodes() {
        let query = "all=true&filters=%7B%22label%22%3A%5B%22tier%22%2C%22a%3Db%22%5D%2C%22status%22%3A%5B%22running%22%5D%7D";
        let run = daemon(query, Answer::json(&listed())).discover(
            docker_nodes,
            &json!({"all": true, "filters": ["label=tier", "label=a=b", "status=running"], "tags_label": "remit.tags"}),
        );
        run.result.unwrap();
        let expect = Node::new("web-1")
            .tag("docker")
            .tag("running")
            .tag("web")
            .tag("edge")
            .attribute("hostname", "172.17.0.2")
            .attribute("docker:id", ID)
            .attribute("docker:image", "nginx:1.27")
            .attribute("docker:state", "running")
            .attribute("docker:health", "healthy")
            .attribute("docker:created", "2026-11-21T00:00:00Z")
            .attribute("label:tier", "front")
            .attribute("label:remit.tags", "web, edge");
        assert_eq!(run.nodes, [expect]);
    }

    #[test]
    fn health_is_read_out_of_the_words_for_people() {
        fn check(status: &str, expect: Option<&str>) {
            assert_eq!(health(status), expect, "{status}");
        }
        check("Up 2 minutes (healthy)", Some("healthy"));
        check("Up 2 minutes (unhealthy)", Some("unhealthy"));
        check("Up 2 seconds (health: starting)", Some("starting"));
        check("Up 2 minutes (Paused)", None);
        check("Exited (0) 5 seconds ago", None);
        check("Up 2 minutes", None);
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_said() {
        fn check(answer: Answer, expect: Result<usize, &str>) {
            let run = daemon("all=false", answer).discover(docker_nodes, &json!({}));
            match (run.result, expect) {
                (Ok(()), Ok(count)) => assert_eq!(run.nodes.len(), count),
                (Err(fail), Err(part)) => assert!(fail.message().contains(part), "{fail}"),
                (found, _) => panic!("{found:?}"),
            }
        }
        check(Answer::json(&json!([])), Ok(0));
        check(Answer::json(&json!([{}])), Err("missing field `Id`"));
        check(
            Answer::status(400).body(json!({"message": "Invalid filter 'x'"}).to_string()),
            Err("the daemon refuses: Invalid filter 'x'"),
        );
        check(
            Answer::refused(Refusal::Denied("this request".into())),
            Err("not allowed by this step's remit"),
        );
        check(
            Answer::refused(Refusal::Failed("the server refused the connection".into())),
            Err("the server refused the connection"),
        );
        let found = Fake::new().discover(docker_nodes, &json!({"filters": ["tier"]})).result.unwrap_err();
        assert!(found.message().contains("\"tier\" in `filters` is no filter"), "{found}");
    }
}
