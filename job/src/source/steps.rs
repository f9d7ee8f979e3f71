//! `steps`: what a job does.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{Limits, OptionName, SecretName, SecretPath, Span, limits::LimitsPart};
use serde_json::{Map, Value};

use super::{
    ComponentSource, Does, StepSource, grant,
    locations::step_place,
    reader::{Fields, Reader},
};
use crate::{
    document::{
        Approvers, Gate, Halt, HaltOutcome, JobAction, Per, Reading, Retry, RetryOutcome, StepLog, When,
    },
    expression::Expression,
    template::Template,
    yaml::{Node, Tree},
};

const LIMITS: &[&str] = Limits::NAMES;

/// Steps as they stand in the file, groups of them unfolded.
pub(super) fn read(reader: &mut Reader, node: &Node) -> Vec<StepSource> {
    let items = reader.list(node, "steps");
    let mut steps: Vec<StepSource> = Vec::with_capacity(items.len());
    let mut groups = 0;
    for (at, item) in items.iter().enumerate() {
        let place = step_place("steps", items, at);
        let Some(beside) = member(item, "parallel") else {
            let read = step(reader, item, &place, None);
            add(reader, &mut steps, read, &place);
            continue;
        };
        groups += 1;
        if reader.map(item, &place, &["parallel"]).is_none() {
            continue;
        }
        let place = format!("{place}.parallel");
        let items = reader.list(beside, &place);
        if items.len() < 2 {
            reader.fault(&place, "there is nothing to run side by side", "list two steps or more");
        }
        for (at, item) in items.iter().enumerate() {
            let place = step_place(&place, items, at);
            let read = step(reader, item, &place, Some(groups));
            add(reader, &mut steps, read, &place);
        }
    }
    steps
}

fn add(reader: &mut Reader, steps: &mut Vec<StepSource>, step: Option<StepSource>, place: &str) {
    let Some(step) = step else { return };
    if steps.iter().any(|other| other.name == step.name) {
        let message = format!("the name `{}` stands twice", step.name);
        reader.fault(&format!("{place}.name"), message, "rename one of the steps");
    }
    steps.push(step);
}

fn member<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.value {
        Tree::Map(members) => members.iter().find(|member| member.key == key).map(|member| &member.node),
        _ => None,
    }
}

/// What every kind of step may say.
const EVERY: &[&str] = &["name", "when"];
const COMPONENT: &[&str] = &["uses", "with", "secrets", "grant", "limits"];
/// The keys of each kind, by the key that makes it.
const KINDS: &[(&str, &[&str])] = &[
    ("approve", &["approve", "timeout"]),
    ("halt", &["halt", "message"]),
    ("job", &["job", "with", "runner", "nodes", "for_each"]),
];

fn step(reader: &mut Reader, node: &Node, place: &str, group: Option<u32>) -> Option<StepSource> {
    let kind = KINDS.iter().find(|(key, _)| member(node, key).is_some());
    let keys: Vec<&str> = match kind {
        Some((_, keys)) => EVERY.iter().chain(*keys).copied().collect(),
        None => {
            let own = &["per", "timeout", "retry", "for_each", "log", "on_error"];
            EVERY.iter().chain(COMPONENT).chain(own).copied().collect()
        }
    };
    let fields = reader.map(node, place, &keys)?;
    let at = |key: &str| format!("{place}.{key}");
    let name = reader
        .required(&fields, "name", "write `name: restart`")
        .and_then(|node| reader.text_as(node, &at("name")));
    let per = fields
        .get("per")
        .and_then(|node| reader.word(node, &at("per"), &[("once", Per::Once), ("node", Per::Node)]));
    let when = fields.get("when").and_then(|node| reader.text_as::<When>(node, &at("when")));
    let timeout = fields.get("timeout").and_then(|node| reader.text_as::<Span>(node, &at("timeout")));
    let retry = fields.get("retry").and_then(|node| retry(reader, node, &at("retry")));
    let for_each =
        fields.get("for_each").and_then(|node| reader.text_as::<Expression>(node, &at("for_each")));
    let log = fields.get("log").and_then(|node| log(reader, node, &at("log"))).unwrap_or_default();
    let on_error = fields.get("on_error").map(|node| on_error(reader, node, &at("on_error")));
    let does = match kind.map(|(key, _)| *key) {
        Some("approve") => gate(reader, fields.get("approve")?, &at("approve")).map(Does::Gate),
        Some("halt") => halt(reader, &fields, place).map(Does::Halt),
        Some("job") => child(reader, &fields, place).map(|job| Does::Job(Box::new(job))),
        _ => component(reader, &fields, place).map(|component| Does::Component(Box::new(component))),
    };
    Some(StepSource {
        name: name?,
        per: per.unwrap_or_default(),
        when: when.unwrap_or_default(),
        timeout,
        retry,
        group,
        for_each,
        log,
        on_error: match on_error {
            Some(handler) => Some(handler?),
            None => None,
        },
        does: does?,
    })
}

fn log(reader: &mut Reader, node: &Node, place: &str) -> Option<StepLog> {
    let fields = reader.map(node, place, &["outputs", "mask", "keep"])?;
    let mut outputs = Vec::new();
    if let Some(node) = fields.get("outputs") {
        let place = format!("{place}.outputs");
        for (at, item) in reader.list(node, &place).iter().enumerate() {
            let place = format!("{place}[{at}]");
            let Some(fields) = reader.map(item, &place, &["pattern", "name"]) else { continue };
            let pattern = reader
                .required(&fields, "pattern", "write `pattern: \"^version (.+)$\"`")
                .and_then(|node| reader.text_as(node, &format!("{place}.pattern")));
            let name = fields.get("name").and_then(|node| reader.text(node, &format!("{place}.name")));
            outputs.extend(pattern.map(|pattern| Reading { pattern, name }));
        }
    }
    let mask = fields.get("mask").map(|node| reader.list_of(node, &format!("{place}.mask")));
    let keep = fields.get("keep").and_then(|node| reader.count(node, &format!("{place}.keep")));
    Some(StepLog { outputs, mask: mask.unwrap_or_default(), keep })
}

fn component(reader: &mut Reader, fields: &Fields<'_>, place: &str) -> Option<ComponentSource> {
    let at = |key: &str| format!("{place}.{key}");
    let uses = reader
        .required(fields, "uses", "write `uses: namespace/name@1`, `job: …`, `approve: …` or `halt: …`")
        .and_then(|node| reader.text_as(node, &at("uses")));
    let with = input(reader, fields, place);
    let (secrets, chosen) =
        fields.get("secrets").map(|node| secrets(reader, node, &at("secrets"))).unwrap_or_default();
    let grant = fields.get("grant").map(|node| grant::read(reader, node, &at("grant")));
    let limits = fields.get("limits").and_then(|node| {
        reader.map(node, &at("limits"), LIMITS)?;
        let limits: LimitsPart =
            reader.value_as(node, &at("limits"), "write sizes like 64MiB and times like 30s")?;
        if let Some((field, wanted, most)) = limits.above_most() {
            let message = format!("{wanted} is more than any step may have");
            reader.fault(&format!("{place}.limits.{field}"), message, format!("write {most} or less"));
        }
        Some(limits)
    });
    Some(ComponentSource {
        uses: uses?,
        with: with?,
        secrets,
        chosen,
        grant: match grant {
            Some(grant) => Some(grant?),
            None => None,
        },
        limits: limits.unwrap_or_default(),
    })
}

fn on_error(reader: &mut Reader, node: &Node, place: &str) -> Option<(ComponentSource, bool)> {
    let keys: Vec<&str> = COMPONENT.iter().copied().chain(["recover"]).collect();
    let fields = reader.map(node, place, &keys)?;
    let recover = fields.get("recover").and_then(|node| reader.boolean(node, &format!("{place}.recover")));
    Some((component(reader, &fields, place)?, recover.unwrap_or_default()))
}

/// `approve: "a question"`, or a map.
fn gate(reader: &mut Reader, node: &Node, place: &str) -> Option<Gate> {
    let Tree::Map(_) = &node.value else {
        let question = text(reader, node, place)?;
        return Some(Gate { question, needed: 1, by: Approvers::default() });
    };
    let fields = reader.map(node, place, &["question", "needed", "by"])?;
    let question = reader
        .required(&fields, "question", "write `question: Restart the web tier?`")
        .and_then(|node| text(reader, node, &format!("{place}.question")));
    let needed = fields.get("needed").and_then(|node| reader.count(node, &format!("{place}.needed")));
    let by = fields.get("by").and_then(|node| {
        let words = &[("anyone", Approvers::Anyone), ("another", Approvers::Another)];
        reader.word(node, &format!("{place}.by"), words)
    });
    Some(Gate { question: question?, needed: needed.unwrap_or(1), by: by.unwrap_or_default() })
}

fn halt(reader: &mut Reader, fields: &Fields<'_>, place: &str) -> Option<Halt> {
    let words = &[("succeeded", HaltOutcome::Succeeded), ("failed", HaltOutcome::Failed)];
    let outcome = reader.word(fields.get("halt")?, &format!("{place}.halt"), words);
    let message = match fields.get("message") {
        Some(node) => text(reader, node, &format!("{place}.message")),
        None => Template::new(Value::String(String::new())).ok(),
    };
    Some(Halt { outcome: outcome?, message: message? })
}

fn child(reader: &mut Reader, fields: &Fields<'_>, place: &str) -> Option<JobAction> {
    let at = |key: &str| format!("{place}.{key}");
    let job = reader.text_as(fields.get("job")?, &at("job"));
    let with = input(reader, fields, place);
    let tags = match fields.get("runner") {
        None => None,
        Some(node) => {
            let fields = reader.map(node, &at("runner"), &["tags"])?;
            let remedy = "write `runner: { tags: [dmz] }`";
            let tags = reader.required(&fields, "tags", remedy)?;
            Some(reader.list_of(tags, &at("runner.tags")).into_iter().collect())
        }
    };
    let nodes = match fields.get("nodes") {
        None => None,
        Some(node) => Some(reader.text_as(node, &at("nodes"))?),
    };
    Some(JobAction { job: job?, with: with?, tags, nodes })
}

fn text(reader: &mut Reader, node: &Node, place: &str) -> Option<Template> {
    let text = reader.text(node, place)?;
    Template::new(Value::String(text)).map_err(|invalid| reader.faults.push(invalid.into_fault(place))).ok()
}

fn input(reader: &mut Reader, fields: &Fields<'_>, place: &str) -> Option<Template> {
    match fields.get("with") {
        Some(node) => template(reader, node, &format!("{place}.with")),
        None => Template::new(Value::Object(Map::new())).ok(),
    }
}

fn template(reader: &mut Reader, node: &Node, place: &str) -> Option<Template> {
    if !matches!(node.value, Tree::Map(_)) {
        let remedy = "write `with:` and names with values below it";
        reader.fault(place, format!("the input is {}, not a map", node.kind()), remedy);
        return None;
    }
    Template::new(node.to_value()).map_err(|invalid| reader.faults.push(invalid.into_fault(place))).ok()
}

pub(super) fn retry(reader: &mut Reader, node: &Node, place: &str) -> Option<Retry> {
    const WORDS: &[(&str, RetryOutcome)] = &[
        ("failed", RetryOutcome::Failed),
        ("timed-out", RetryOutcome::TimedOut),
        ("interrupted", RetryOutcome::Interrupted),
        ("lost", RetryOutcome::Lost),
    ];
    let fields = reader.map(node, place, &["attempts", "outcomes", "delay", "backoff"])?;
    let attempts = reader
        .required(&fields, "attempts", "write `attempts: 3`: how often it is run in all")
        .and_then(|node| reader.count(node, &format!("{place}.attempts")));
    let outcomes = match fields.get("outcomes") {
        None => BTreeSet::from([RetryOutcome::Failed, RetryOutcome::TimedOut]),
        Some(node) => {
            let place = format!("{place}.outcomes");
            let items = reader.list(node, &place).iter().enumerate();
            items.filter_map(|(at, item)| reader.word(item, &format!("{place}[{at}]"), WORDS)).collect()
        }
    };
    let delay = fields.get("delay").and_then(|node| reader.text_as::<Span>(node, &format!("{place}.delay")));
    let backoff = fields.get("backoff").and_then(|node| reader.number(node, &format!("{place}.backoff")));
    Some(Retry {
        attempts: attempts?,
        outcomes,
        delay: delay.unwrap_or(Span::from_secs(1)),
        backoff: backoff.unwrap_or(1.0),
    })
}

/// The secrets with their paths, and those whose path is the value of an option.
type Secrets = (BTreeMap<SecretName, Vec<SecretPath>>, BTreeMap<SecretName, OptionName>);

fn secrets(reader: &mut Reader, node: &Node, place: &str) -> Secrets {
    let (mut secrets, mut chosen) = Secrets::default();
    let Tree::Map(members) = &node.value else {
        reader.fault(
            place,
            format!("this is {}, not a map", node.kind()),
            "write `secrets: { token: keys/prod/token }`",
        );
        return (secrets, chosen);
    };
    for member in members {
        let inner = format!("{place}.{}", member.key);
        let option = chosen_by(&member.node);
        let paths = match &member.node.value {
            // The paths are those of the option; they are filled in once all options are known.
            _ if option.is_some() => Vec::new(),
            Tree::List(_) => reader.list_of(&member.node, &inner),
            _ => reader.text_as::<SecretPath>(&member.node, &inner).into_iter().collect(),
        };
        match SecretName::new(member.key.as_str()) {
            Ok(name) => {
                chosen.extend(option.map(|option| (name.clone(), option)));
                secrets.insert(name, paths);
            }
            Err(invalid) => reader.faults.push(member.mark.fault(&inner, invalid.to_string(), "rename it")),
        }
    }
    (secrets, chosen)
}

/// The option of `${options.x}`.
fn chosen_by(node: &Node) -> Option<OptionName> {
    let Tree::Scalar(Value::String(text)) = &node.value else { return None };
    let name = text.strip_prefix("${options.")?.strip_suffix('}')?;
    OptionName::new(name).ok()
}
