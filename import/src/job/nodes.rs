//! `nodefilters`: on which nodes a job runs, and how.

use serde_json::{Map, Value};

use super::{Kind, Report, member};
use crate::{
    command::{self, Options},
    write::{Tree, map},
    yaml::{text, truthy},
};

const PLACE: &str = "nodefilters";
/// The keys of the old form; others count for nothing in Rundeck.
const OLD_KEYS: [&str; 7] = ["hostname", "name", "tags", "os-name", "os-family", "os-arch", "os-version"];

/// Keys with their values.
type Pairs = Vec<(String, String)>;

/// The nodes, or nothing for a job that runs where the server was.
pub(super) fn import(
    filters: &Value,
    orchestrator: Option<&Value>,
    options: &Options,
    report: &mut Report,
) -> Result<Option<Tree>, String> {
    let Some(filters) = filters.as_object() else { return Err("`nodefilters` is not a map".to_owned()) };
    let Some(source) = filter(filters) else { return Ok(None) };
    let filter = command::template(&source, options)?;
    told(&source, report);
    let empty = Map::new();
    let dispatch = filters.get("dispatch").and_then(Value::as_object).unwrap_or(&empty);
    let field = |key: &str| dispatch.get(key).filter(|value| !value.is_null());
    let precedence = field("excludePrecedence").or(filters.get("excludeprecedence"));
    if precedence.is_some_and(|value| !truthy(value)) {
        return Err(
            "`excludePrecedence: false` has no counterpart: a node that is excluded is out".to_owned()
        );
    }
    let mut members = vec![
        ("filter".to_owned(), Tree::from(filter)),
        ("threads".to_owned(), threads(field("threadcount"), options)?),
        ("keep_going".to_owned(), Tree::Scalar(field("keepgoing").is_some_and(truthy).into())),
    ];
    let rank = member(dispatch, "rankAttribute");
    if !rank.is_empty() {
        let order = field("rankOrder").map_or_else(|| "ascending".to_owned(), text);
        let order = if order == "ascending" { "ascending" } else { "descending" };
        members.push(("rank".to_owned(), map([("by", rank.into()), ("order", order.into())])));
    }
    if !field("successOnEmptyNodeFilter").is_some_and(truthy) {
        members.push(("on_empty".to_owned(), "fail".into()));
    }
    if let Some(orchestrator) = orchestrator.and_then(Value::as_object) {
        orchestrated(orchestrator, &mut members, report);
    }
    Ok(Some(Tree::Map(members)))
}

/// Which nodes, and in which portions, as an orchestrator plugin said it.
fn orchestrated(orchestrator: &Map<String, Value>, members: &mut Vec<(String, Tree)>, report: &mut Report) {
    let configured = orchestrator.get("configuration").and_then(Value::as_object);
    let setting = |key: &str| configured.map(|map| member(map, key)).unwrap_or_default();
    let ranked = members.iter().any(|(key, _)| key == "rank");
    let mut set = |key: &str, tree: Tree| {
        members.retain(|(known, _)| known != key);
        members.push((key.to_owned(), tree));
    };
    let kind = member(orchestrator, "type");
    match (kind.as_str(), setting("count").parse::<u32>(), setting("percent").parse::<u32>()) {
        ("subset", Ok(count @ 1..), _) => {
            set("rank", map([("order", "random".into())]));
            set("limit", Tree::Scalar(count.into()));
        }
        ("maxPercentage", _, Ok(percent @ 1..=100)) => set("threads", format!("{percent}%").into()),
        ("rankTiered", ..) if ranked => {
            set("tiers", "rank".into());
            report.add(
                Kind::Differs,
                "orchestrator",
                "no further tier is begun once a node of one failed: `max_failures` allows more",
            );
        }
        ("orchestrator-highest-lowest-attribute", ..) if !setting("attribute").is_empty() => {
            let order = if setting("sort") == "lowest" { "ascending" } else { "descending" };
            set("rank", map([("by", setting("attribute").into()), ("order", order.into())]));
            set("limit", Tree::Scalar(1.into()));
        }
        _ => report.add(
            Kind::Lost,
            "orchestrator",
            format!("the orchestrator {kind:?}: see `limit`, `tiers` and `rank` of `nodes`"),
        ),
    }
}

/// True if the job is for nodes.
pub(super) fn dispatches(filters: &Value) -> bool {
    filters.as_object().and_then(filter).is_some()
}

/// The filter's text; nothing if there is none, which means that the job is not for nodes.
fn filter(filters: &Map<String, Value>) -> Option<String> {
    let old = |key: &str| filters.get(key).and_then(Value::as_object).filter(|map| !map.is_empty());
    let Some(source) = filters.get("filter") else {
        let (include, exclude) = (old("include"), old("exclude"));
        if include.is_none() && exclude.is_none() {
            return None;
        }
        let pairs = |map: Option<&Map<String, Value>>, sign: &str| -> Pairs {
            let known = map.into_iter().flatten().filter(|(key, _)| OLD_KEYS.contains(&key.as_str()));
            let written = known.map(|(key, value)| (format!("{sign}{key}"), text(value)));
            written.filter(|(_, value)| !value.is_empty()).collect()
        };
        return Some(written(pairs(include, "").into_iter().chain(pairs(exclude, "!"))));
    };
    let source = text(source);
    let exclude = member(filters, "filterExclude");
    // Nodes that are only not ticked at first are still chosen by nobody here: they stay in.
    if exclude.trim().is_empty() || filters.get("excludeFilterUncheck").is_some_and(truthy) {
        return Some(source);
    }
    // What it excludes it says without a sign, and it replaces what `filter` excludes by the same key.
    let mut pairs = pairs(&source);
    for (key, value) in self::pairs(&exclude) {
        let key = match key.strip_prefix('!') {
            Some(plain) => plain.to_owned(),
            None => format!("!{key}"),
        };
        pairs.retain(|(known, _)| *known != key);
        pairs.push((key, value));
    }
    Some(written(pairs.into_iter()))
}

/// A filter as pairs of key and value, as Rundeck takes it apart; the same key twice is a list.
fn pairs(text: &str) -> Pairs {
    let mut pairs: Pairs = Vec::new();
    let mut pending: Option<String> = None;
    for token in command::words(text) {
        let (key, value) = match pending.take() {
            Some(key) => (key, token),
            None if token.ends_with(':') => {
                pending = Some(token[..token.len() - 1].to_owned());
                continue;
            }
            None => match token.split_once(':') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => ("name".to_owned(), token),
            },
        };
        match pairs.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = format!("{known},{value}"),
            None => pairs.push((key, value)),
        }
    }
    pairs
}

fn written(pairs: impl Iterator<Item = (String, String)>) -> String {
    let pair = |(key, value): (String, String)| {
        let plain = !value.is_empty() && !value.contains(|c: char| c <= ' ' || c == '"' || c == '\'');
        let value = if plain { value } else { format!("\"{}\"", value.replace('"', "\"\"")) };
        format!("{key}: {value}")
    };
    pairs.map(pair).collect::<Vec<_>>().join(" ")
}

/// What a filter means that people would not expect.
fn told(source: &str, report: &mut Report) {
    let words = command::words(source);
    let mut tell = |message: &str| report.add(Kind::Differs, PLACE, message);
    if words.iter().filter(|word| word.starts_with('!') && word.contains(':')).count() > 1 {
        tell("a node is out when one `!key` matches; in Rundeck only when all do");
    }
    if source.trim().is_empty() {
        tell("the empty filter selects no node");
    }
    if source.contains("${") {
        tell("the value of an option stays one value of the filter; it cannot add keys");
    }
    if source.contains(":\"") || source.contains(":'") {
        tell(
            "`key:\"a b\"` is one value; Rundeck takes the quote as part of it, and such a filter selects nothing there",
        );
    }
}

fn threads(written: Option<&Value>, options: &Options) -> Result<Tree, String> {
    let written = written.map_or_else(|| "1".to_owned(), text);
    if let Ok(number) = written.parse::<u32>() {
        return Ok(Tree::Scalar(number.max(1).into()));
    }
    let Some(reference) = written.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return Err(format!("threadcount {written:?} is not a number"));
    };
    let known = reference.strip_prefix("option.").and_then(|name| options.get(name));
    let known = known.ok_or_else(|| format!("threadcount {written:?} names no option"))?;
    Ok(format!("int(options.{})", known.name).into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_forms_become_a_filter() {
        fn check(filters: Value, expect: Option<&str>) {
            assert_eq!(filter(filters.as_object().unwrap()).as_deref(), expect, "{filters}");
        }
        check(json!({"dispatch": {}}), None);
        check(json!({"filter": null}), Some(""));
        check(
            json!({"include": {"tags": "web", "name": "a b", "rack": "x"}}),
            Some("name: \"a b\" tags: web"),
        );
        check(json!({"include": {"tags": "web"}, "exclude": {"name": "db1"}}), Some("tags: web !name: db1"));
        check(
            json!({"filter": "tags: web !name: a", "filterExclude": "name: db1 os-family: x"}),
            Some("tags: web !name: db1 !os-family: x"),
        );
        check(json!({"filter": "web1", "filterExclude": "!tags: x"}), Some("name: web1 tags: x"));
        check(
            json!({"filter": "web1", "filterExclude": "tags: x", "excludeFilterUncheck": true}),
            Some("web1"),
        );
    }
}
