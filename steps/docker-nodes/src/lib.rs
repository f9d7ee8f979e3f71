#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{Context, Fail, JsonSchema, Node, Nodes, exec, log, node_source};
use remit_sdk_nodes::Emitter;
use serde::Deserialize;

/// Which containers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The name that the runner's owner gave to the Docker client.
    #[serde(default = "docker")]
    pub program: String,
    /// Whether containers that do not run are taken too.
    #[serde(default)]
    pub all: bool,
    /// Filters as `docker ps --filter` takes them, such as `label=tier=web`.
    #[serde(default)]
    pub filters: Vec<String>,
    /// The label whose values, parted by commas, become tags.
    pub tags_label: Option<String>,
}

fn docker() -> String {
    "docker".to_owned()
}

/// How many containers are asked about at once.
const AT_ONCE: usize = 100;
/// Most containers.
const MAX_CONTAINERS: usize = 10_000;
/// Largest answer about a hundred containers.
const MAX_ANSWER: usize = 32 << 20;
/// Most labels of a container that become attributes.
const MAX_LABELS: usize = 150;

/// What `docker inspect` says of a container, as far as it is of use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    name: String,
    #[serde(default)]
    created: String,
    state: State,
    config: Config,
    #[serde(default)]
    network_settings: NetworkSettings,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    health: Option<Health>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: String,
    #[serde(default)]
    hostname: String,
    labels: Option<BTreeMap<String, String>>,
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
pub fn docker_nodes(input: Input, nodes: &mut Nodes, context: &Context) -> Result<(), Fail> {
    let all = input.all.then_some("--all");
    let filters = input.filters.iter().flat_map(|filter| ["--filter", filter.as_str()]);
    let listed = exec::command(&input.program)
        .args(["ps", "--quiet", "--no-trunc"])
        .args(all)
        .args(filters)
        .text(MAX_ANSWER)?;
    let ids: Vec<&str> = listed.split_whitespace().collect();
    if let Some(odd) = ids.iter().find(|id| !id.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(Fail::new(format!("{} listed {odd:?}, which is no container's id", input.program)));
    }
    if ids.len() > MAX_CONTAINERS {
        return Err(Fail::new(format!(
            "{} containers, at most {MAX_CONTAINERS} are taken: narrow them with `filters`",
            ids.len()
        )));
    }
    let mut emitter = Emitter::new(nodes);
    let mut done = 0;
    for part in ids.chunks(AT_ONCE) {
        let answer = exec::command(&input.program)
            .args(["inspect", "--type", "container"])
            .args(part.iter().copied())
            .text(MAX_ANSWER)?;
        let containers: Vec<Container> = serde_json::from_str(&answer).map_err(|error| {
            Fail::new(format!("{}: what it says of the containers does not fit: {error}", input.program))
        })?;
        for container in containers {
            emitter.emit(node(container, input.tags_label.as_deref()), &input.program)?;
        }
        done += part.len();
        context.progress(done, ids.len());
    }
    log::info!("nodes were read", nodes = emitter.emitted());
    Ok(())
}

fn node(container: Container, tags_label: Option<&str>) -> Node {
    let labels = container.config.labels.unwrap_or_default();
    let networks = container.network_settings.networks.unwrap_or_default();
    let mut node = Node::new(container.name.trim_start_matches('/'))
        .tag("docker")
        .tag(&container.state.status)
        .attribute("docker:id", &container.id)
        .attribute("docker:image", &container.config.image)
        .attribute("docker:state", &container.state.status)
        .attribute("docker:created", &container.created)
        .attribute("docker:hostname", &container.config.hostname);
    if let Some(health) = container.state.health {
        node = node.attribute("docker:health", health.status);
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
        fake::{Fake, Program},
    };
    use serde_json::json;

    use super::*;

    const ID: &str = "4c01db0b339c2bd1f1a1e1b1c1d1e1f101112131415161718191a1b1c1d1e1f1";

    /// The form of Docker's API, version 1.41, `ContainerInspect`.
    fn inspected() -> String {
        json!([{
            "Id": ID, "Name": "/web-1", "Created": "2026-11-20T10:00:00.1Z", "Path": "nginx", "Args": [],
            "State": {"Status": "running", "Running": true, "Health": {"Status": "healthy", "FailingStreak": 0}},
            "Config": {"Image": "nginx:1.27", "Hostname": "4c01db0b339c", "Env": ["PASSWORD=hidden-from-nodes"],
                "Labels": {"tier": "front", "remit.tags": "web, edge"}},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "other": {"IPAddress": ""}}},
        }])
        .to_string()
    }

    #[test]
    fn containers_become_nodes() {
        let run = Fake::new()
            .exec(
                &["docker", "ps", "--quiet", "--no-trunc", "--all", "--filter", "label=tier"],
                Program::new().stdout(format!("{ID}\n")),
            )
            .exec(&["docker", "inspect", "--type", "container", ID], Program::new().stdout(inspected()))
            .discover(
                docker_nodes,
                &json!({"all": true, "filters": ["label=tier"], "tags_label": "remit.tags"}),
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
            .attribute("docker:created", "2026-11-20T10:00:00.1Z")
            .attribute("docker:hostname", "4c01db0b339c")
            .attribute("label:tier", "front")
            .attribute("label:remit.tags", "web, edge");
        assert_eq!(run.nodes, [expect]);
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_said() {
        fn check(listed: Program, inspected: Option<Program>, expect: Result<usize, &str>) {
            let mut fake = Fake::new().exec(&["docker", "ps", "--quiet", "--no-trunc"], listed);
            if let Some(inspected) = inspected {
                fake = fake.exec(&["docker", "inspect", "--type", "container", "ab"], inspected);
            }
            let run = fake.discover(docker_nodes, &json!({}));
            match (run.result, expect) {
                (Ok(()), Ok(count)) => assert_eq!(run.nodes.len(), count),
                (Err(fail), Err(part)) => assert!(fail.message().contains(part), "{fail}"),
                (found, _) => panic!("{found:?}"),
            }
        }
        check(Program::new(), None, Ok(0));
        let gone = Program::new().stderr("Cannot connect to the Docker daemon\n").code(1);
        check(gone, None, Err("docker: ended with exit code 1"));
        check(Program::new().stdout("--help\n"), None, Err("which is no container's id"));
        let ab = || Program::new().stdout("ab\n");
        check(ab(), Some(Program::new().stdout("[{}]")), Err("does not fit: missing field `Id`"));
        check(ab(), Some(Program::new().stdout("[]")), Ok(0));
        let refused = Program::refused(Refusal::Denied("exec docker with \"inspect\"".into()));
        check(ab(), Some(refused), Err("not allowed by this step's remit"));
    }
}
