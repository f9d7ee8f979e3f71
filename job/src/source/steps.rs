//! `steps`: what a job does.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{OptionName, SecretName, SecretPath, Span, limits::LimitsPart};
use serde_json::{Map, Value};

use super::{StepSource, grant, reader::Reader, step_place};
use crate::{
    document::{Per, Retry, RetryOutcome, When},
    template::Template,
    yaml::{Node, Tree},
};

const LIMITS: &[&str] = &[
    "memory",
    "wall",
    "cpu",
    "log",
    "output",
    "requests",
    "egress",
    "ingress",
    "processes",
    "scratch",
    "handles",
];

pub(super) fn read(reader: &mut Reader, node: &Node) -> Vec<StepSource> {
    let items = reader.list(node, "steps");
    let mut steps: Vec<StepSource> = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        if let Some(step) = step(reader, item, &step_place(items, at)) {
            if steps.iter().any(|other| other.name == step.name) {
                let message = format!("the name `{}` stands twice", step.name);
                reader.fault(&format!("steps[{at}].name"), message, "rename one of the steps");
            }
            steps.push(step);
        }
    }
    steps
}

fn step(reader: &mut Reader, node: &Node, place: &str) -> Option<StepSource> {
    const KEYS: &[&str] =
        &["name", "uses", "per", "when", "timeout", "retry", "with", "secrets", "grant", "limits"];
    let fields = reader.map(node, place, KEYS)?;
    let at = |key: &str| format!("{place}.{key}");
    let name = reader
        .required(&fields, "name", "write `name: restart`")
        .and_then(|node| reader.text_as(node, &at("name")));
    let uses = reader
        .required(&fields, "uses", "write `uses: namespace/name@1`")
        .and_then(|node| reader.text_as(node, &at("uses")));
    let per = fields
        .get("per")
        .and_then(|node| reader.word(node, &at("per"), &[("once", Per::Once), ("node", Per::Node)]));
    let when = fields.get("when").and_then(|node| reader.text_as::<When>(node, &at("when")));
    let timeout = fields.get("timeout").and_then(|node| reader.text_as::<Span>(node, &at("timeout")));
    let retry = fields.get("retry").and_then(|node| retry(reader, node, &at("retry")));
    let with = match fields.get("with") {
        Some(node) => template(reader, node, &at("with")),
        None => Template::new(Value::Object(Map::new())).ok(),
    };
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
    Some(StepSource {
        name: name?,
        uses: uses?,
        per: per.unwrap_or_default(),
        when: when.unwrap_or_default(),
        timeout,
        retry,
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

fn template(reader: &mut Reader, node: &Node, place: &str) -> Option<Template> {
    if !matches!(node.value, Tree::Map(_)) {
        let remedy = "write `with:` and names with values below it";
        reader.fault(place, format!("the input is {}, not a map", node.kind()), remedy);
        return None;
    }
    Template::new(node.to_value()).map_err(|invalid| reader.faults.push(invalid.into_fault(place))).ok()
}

fn retry(reader: &mut Reader, node: &Node, place: &str) -> Option<Retry> {
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
