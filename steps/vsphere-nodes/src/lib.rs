#![doc = include_str!("../README.md")]

use remit_sdk::{
    Context, Fail, JsonSchema, Node, Nodes,
    http::{self, Request, Response, Url},
    log, node_source,
};
use remit_sdk_nodes::Emitter;
use serde::{Deserialize, de::DeserializeOwned};

/// Which vCenter, and which of its machines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The vCenter's address, such as `https://vcenter.corp.example`.
    pub url: String,
    /// Only machines in one of these states.
    #[serde(default)]
    pub power: Vec<Power>,
    /// Only machines in one of these folders, by identifier (`group-v12`).
    #[serde(default)]
    pub folders: Vec<String>,
    /// Only machines in one of these clusters, by identifier (`domain-c8`).
    #[serde(default)]
    pub clusters: Vec<String>,
    /// Only machines in one of these data centres, by identifier (`datacenter-3`).
    #[serde(default)]
    pub datacenters: Vec<String>,
    /// Whether each running machine is asked for its address and operating system: one more request a machine.
    #[serde(default = "remit_sdk::output::yes")]
    pub guest: bool,
}

/// `VM.PowerState` of the vSphere Automation API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the states of that API")]
pub enum Power {
    PoweredOn,
    PoweredOff,
    Suspended,
}

impl Power {
    fn as_str(self) -> &'static str {
        match self {
            Self::PoweredOn => "POWERED_ON",
            Self::PoweredOff => "POWERED_OFF",
            Self::Suspended => "SUSPENDED",
        }
    }
}

/// `VM.Summary`.
#[derive(Debug, Deserialize)]
struct Summary {
    vm: String,
    name: String,
    power_state: Power,
    cpu_count: Option<u64>,
    #[serde(rename = "memory_size_MiB")]
    memory: Option<u64>,
}

/// `VM.Guest.Identity.Info`.
#[derive(Debug, Default, Deserialize)]
struct Identity {
    #[serde(default)]
    name: String,
    #[serde(default)]
    family: String,
    #[serde(default)]
    host_name: String,
    ip_address: Option<String>,
    full_name: Option<Words>,
}

/// A text that the API can translate.
#[derive(Debug, Default, Deserialize)]
struct Words {
    #[serde(default)]
    default_message: String,
}

/// The error of the API.
#[derive(Default, Deserialize)]
struct Problem {
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    messages: Vec<Words>,
}

/// The header that carries the session.
const SESSION: &str = "vmware-api-session-id";
/// Largest answer: the API lists 4,000 machines at most.
const MAX_ANSWER: usize = 16 << 20;

/// A session; the API keeps it until it is closed.
struct Session {
    api: Url,
    id: String,
}

impl Session {
    /// Logs in. The credential is the runner's to add.
    fn open(url: &str) -> Result<Self, Fail> {
        let api = http::url(url)?.segment("api");
        let answer = checked(http::post(api.segment("session")))?;
        let answer = answer
            .ok_or_else(|| Fail::new("this is no vCenter of version 7 or later: it has no /api/session"))?;
        Ok(Self { api, id: answer.json()? })
    }

    fn get<T: DeserializeOwned>(&self, url: Url) -> Result<Option<T>, Fail> {
        let answer = checked(http::get(url).header(SESSION, &self.id))?;
        Ok(answer.map(Response::json).transpose()?)
    }

    fn close(self) {
        let closed = http::delete(self.api.segment("session")).header(SESSION, self.id).send();
        if let Err(error) = closed.and_then(Response::error_for_status) {
            log::warn!("the session could not be closed; the vCenter ends it by itself", error = error);
        }
    }
}

/// Sends a request; none for 404 and for 503, which is how a machine without running tools answers.
fn checked(request: Request) -> Result<Option<Response>, Fail> {
    let answer = request.max_body(MAX_ANSWER).send()?;
    let status = answer.status();
    match status {
        404 | 503 => Ok(None),
        status if status < 400 => Ok(Some(answer)),
        _ => {
            let text = String::from_utf8_lossy(&answer.bytes()?).into_owned();
            let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
            let words: Vec<_> = problem.messages.into_iter().map(|words| words.default_message).collect();
            let words = if words.is_empty() { text } else { words.join("; ") };
            let words: String = words.trim().chars().take(500).collect();
            let kind = if problem.error_type.is_empty() {
                String::new()
            } else {
                format!("{}: ", problem.error_type)
            };
            Err(Fail::new(format!("the vCenter refuses: {kind}{words}")).with("status", status))
        }
    }
}

/// Asks the vCenter and emits its machines.
#[node_source]
pub fn vsphere_nodes(input: Input, nodes: &mut Nodes, context: &Context) -> Result<(), Fail> {
    let session = Session::open(&input.url)?;
    let read = read(&session, &input, nodes, context);
    session.close();
    read
}

fn read(session: &Session, input: &Input, nodes: &mut Nodes, context: &Context) -> Result<(), Fail> {
    let machines = session.api.segment("vcenter").segment("vm");
    let mut listed = machines.clone();
    for (name, values) in
        [("folders", &input.folders), ("clusters", &input.clusters), ("datacenters", &input.datacenters)]
    {
        listed = values.iter().fold(listed, |url, value| url.query(name, value));
    }
    listed = input.power.iter().fold(listed, |url, power| url.query("power_states", power.as_str()));
    let summaries: Vec<Summary> = session
        .get(listed)?
        .ok_or_else(|| Fail::new("the vCenter is not ready: it does not list its machines"))?;
    let mut emitter = Emitter::new(nodes);
    let mut names = std::collections::HashSet::new();
    let total = summaries.len();
    for (done, machine) in summaries.into_iter().enumerate() {
        let identity = if input.guest && machine.power_state == Power::PoweredOn {
            let url = machines.segment(&machine.vm).segment("guest").segment("identity");
            session.get(url)?
        } else {
            None
        };
        // A name is unique in its folder only.
        let unique = names.insert(machine.name.clone());
        emitter.emit(node(machine, unique, identity.unwrap_or_default()), &input.url)?;
        context.progress(done + 1, total);
    }
    log::info!("nodes were read", nodes = emitter.emitted());
    Ok(())
}

fn node(machine: Summary, unique: bool, identity: Identity) -> Node {
    let name = if unique { machine.name.clone() } else { format!("{} ({})", machine.name, machine.vm) };
    let power = machine.power_state.as_str();
    let mut node = Node::new(name)
        .tag("vsphere")
        .tag(power.to_ascii_lowercase().replace('_', "-"))
        .attribute("vsphere:id", machine.vm)
        .attribute("vsphere:name", machine.name)
        .attribute("vsphere:power", power);
    let full = identity.full_name.map(|words| words.default_message).unwrap_or_default();
    let family = match identity.family.as_str() {
        "LINUX" | "DARWIN" | "SOLARIS" => "unix",
        "WINDOWS" => "windows",
        _ => "",
    };
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    for (name, value) in [
        ("hostname", identity.ip_address.unwrap_or_default()),
        ("vsphere:host-name", identity.host_name),
        ("vsphere:guest", identity.name),
        ("osFamily", family.to_owned()),
        ("osName", full),
        ("vsphere:cpus", number(machine.cpu_count)),
        ("vsphere:memory-mib", number(machine.memory)),
    ] {
        if !value.is_empty() {
            node = node.attribute(name, value);
        }
    }
    node
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Answer, Fake};
    use serde_json::json;

    use super::*;

    const URL: &str = "https://vcenter.example";

    fn at(path: &str) -> String {
        format!("{URL}{path}")
    }

    fn machines() -> Answer {
        Answer::json(&json!([
            {"memory_size_MiB": 4096, "vm": "vm-42", "name": "web", "power_state": "POWERED_ON", "cpu_count": 2},
            {"memory_size_MiB": 1024, "vm": "vm-43", "name": "web", "power_state": "POWERED_OFF", "cpu_count": 1},
            {"vm": "vm-44", "name": "no tools", "power_state": "POWERED_ON"},
        ]))
    }

    #[test]
    fn machines_become_nodes() {
        let identity = json!({"name": "DEBIAN_12_64", "family": "LINUX", "host_name": "web.corp", "ip_address": "10.0.0.7",
            "full_name": {"args": [], "default_message": "Debian GNU/Linux 12 (64-bit)", "id": "vmsg"}});
        let run = Fake::new()
            .http("POST", &at("/api/session"), Answer::json(&json!("the-session")).header("x", "y"))
            .http(
                "GET",
                &at("/api/vcenter/vm?folders=group-v3&power_states=POWERED_ON&power_states=POWERED_OFF"),
                machines(),
            )
            .http("GET", &at("/api/vcenter/vm/vm-42/guest/identity"), Answer::json(&identity))
            .http("GET", &at("/api/vcenter/vm/vm-44/guest/identity"), Answer::status(503))
            .http("DELETE", &at("/api/session"), Answer::status(204))
            .discover(
                vsphere_nodes,
                &json!({"url": URL, "folders": ["group-v3"], "power": ["POWERED_ON", "POWERED_OFF"]}),
            );
        run.result.unwrap();
        let expect = Node::new("web")
            .tag("vsphere")
            .tag("powered-on")
            .attribute("hostname", "10.0.0.7")
            .attribute("osFamily", "unix")
            .attribute("osName", "Debian GNU/Linux 12 (64-bit)")
            .attribute("vsphere:id", "vm-42")
            .attribute("vsphere:name", "web")
            .attribute("vsphere:power", "POWERED_ON")
            .attribute("vsphere:host-name", "web.corp")
            .attribute("vsphere:guest", "DEBIAN_12_64")
            .attribute("vsphere:cpus", "2")
            .attribute("vsphere:memory-mib", "4096");
        assert_eq!(run.nodes[0], expect);
        let names: Vec<_> = run.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["web", "web (vm-43)", "no tools"]);
        assert!(run.requests.iter().skip(1).all(|sent| sent.header(SESSION) == Some("the-session")));
        assert!(run.log.iter().all(|entry| entry.message == "nodes were read"));
    }

    #[test]
    fn what_does_not_work_is_said_and_the_session_closed() {
        let problem = json!({"error_type": "UNABLE_TO_ALLOCATE_RESOURCE", "messages": [
            {"args": [], "default_message": "Too many virtual machines. Add more filter criteria.", "id": "x"}]});
        let run = Fake::new()
            .http("POST", &at("/api/session"), Answer::json(&json!("s")))
            .http("GET", &at("/api/vcenter/vm"), Answer::status(500).body(problem.to_string()))
            .http("DELETE", &at("/api/session"), Answer::status(500))
            .discover(vsphere_nodes, &json!({"url": URL}));
        assert_eq!(
            run.result.unwrap_err().message(),
            "the vCenter refuses: UNABLE_TO_ALLOCATE_RESOURCE: Too many virtual machines. Add more filter criteria."
        );
        assert_eq!(run.log[0].message, "the session could not be closed; the vCenter ends it by itself");

        fn check(answer: Answer, part: &str) {
            let fake = Fake::new().http("POST", &at("/api/session"), answer);
            let found = fake.discover(vsphere_nodes, &json!({"url": URL})).result.unwrap_err();
            assert!(found.message().contains(part), "{found}");
        }
        check(Answer::status(401).body("{}"), "the vCenter refuses: {}");
        check(Answer::status(404), "no vCenter of version 7");
        check(Answer::status(200).body("<html>"), "does not fit");
    }

    #[test]
    fn without_guests_no_machine_is_asked() {
        let run = Fake::new()
            .http("POST", &at("/api/session"), Answer::json(&json!("s")))
            .http("GET", &at("/api/vcenter/vm"), machines())
            .http("DELETE", &at("/api/session"), Answer::status(204))
            .discover(vsphere_nodes, &json!({"url": URL, "guest": false}));
        run.result.unwrap();
        assert_eq!(run.nodes.len(), 3);
    }
}
