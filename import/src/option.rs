//! Options of a job.

use remit_job::pattern::Pattern;
use serde_json::{Map, Value};

use crate::{
    command::{Known, Options},
    job::{Kind, Report, identifier},
    write::Tree,
    yaml::{text, truthy},
};

/// The options, and what later references to them become. An option that holds a secret is not among them.
pub(crate) fn import(entry: Option<&Value>, report: &mut Report) -> Result<(Tree, Options), String> {
    let mut definitions: Vec<(String, &Map<String, Value>)> = Vec::new();
    let invalid = |name: &str| format!("option {name:?} is not a map");
    match entry {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for item in items {
                let map = item.as_object().ok_or_else(|| invalid("in the list"))?;
                definitions.push((map.get("name").map(text).unwrap_or_default(), map));
            }
        }
        Some(Value::Object(items)) => {
            for (name, item) in items {
                definitions.push((name.clone(), item.as_object().ok_or_else(|| invalid(name))?));
            }
            let index =
                |map: &Map<String, Value>| map.get("sortIndex").and_then(Value::as_i64).unwrap_or(i64::MAX);
            definitions.sort_by_key(|(_, map)| index(map));
        }
        Some(_) => return Err("`options` is neither a list nor a map".to_owned()),
    }
    let (mut trees, mut options) = (Vec::new(), Options::new());
    for (name, definition) in definitions {
        if name.is_empty() {
            return Err("an option has no name".to_owned());
        }
        let place = format!("options.{name}");
        let here = identifier(&name);
        if options.values().any(|known| known.name == here) {
            return Err(format!("two options would have the name `{here}`; rename one"));
        }
        if let Some((tree, always)) = option(definition, &place, report)? {
            if here != name {
                report.add(Kind::Differs, &place, format!("the option is named `{here}` here"));
            }
            trees.push((here.clone(), tree));
            options.insert(name, Known { name: here, always });
        }
    }
    Ok((Tree::Map(trees), options))
}

fn option(
    definition: &Map<String, Value>,
    place: &str,
    report: &mut Report,
) -> Result<Option<(Tree, bool)>, String> {
    let field = |key: &str| definition.get(key).unwrap_or(&Value::Null);
    let flag =
        |key: &str| matches!(field(key), Value::Bool(true)) || text(field(key)).eq_ignore_ascii_case("true");
    if flag("secure") || !field("storagePath").is_null() {
        let message = "a secret is no option: bind it to the step that needs it, in its `secrets`";
        report.add(Kind::Lost, place, message);
        return Ok(None);
    }
    for (key, message) in [
        ("valuesUrl", "values from a URL: any text is accepted"),
        ("optionValuesPluginType", "values from a plugin: any text is accepted"),
    ] {
        if !field(key).is_null() {
            if truthy(field("enforced")) {
                return Err(format!(
                    "{place} accepts only values that come from elsewhere; list them in `values`"
                ));
            }
            report.add(Kind::Lost, place, message);
        }
    }
    if flag("multivalued") {
        report.add(
            Kind::Differs,
            place,
            "several values are given as one text, with the delimiter between them",
        );
    }
    if flag("isDate") {
        report.add(Kind::Differs, place, "a date is a text; its format is not checked");
    }
    if field("type") == "file" {
        report.add(Kind::Lost, place, "a file cannot be given: the option is a text");
    }
    let quoted = |key: &str| matches!(field(key), Value::String(text) if text == "false");
    for key in ["required", "enforced"].into_iter().filter(|key| quoted(key)) {
        report.add(Kind::Differs, place, format!("`{key}: \"false\"` is true in Rundeck, and so it is here"));
    }
    let mut tree = vec![("type".to_owned(), Tree::from("string"))];
    let description = text(field("description"));
    if !description.is_empty() {
        tree.push(("description".to_owned(), description.into()));
    }
    let required = truthy(field("required"));
    if required {
        tree.push(("required".to_owned(), Tree::Scalar(true.into())));
    }
    let values: Vec<Value> = match field("values") {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().map(|item| text(item).into()).collect(),
        one => vec![text(one).into()],
    };
    let enforced = truthy(field("enforced")) && !flag("multivalued") && !values.is_empty();
    if enforced {
        tree.push(("values".to_owned(), values.into_iter().map(Tree::Scalar).collect()));
    } else if !values.is_empty() {
        if truthy(field("enforced")) {
            return Err(format!(
                "{place} takes several of a fixed list of values, which cannot be said here"
            ));
        }
        report.add(Kind::Lost, place, "values that are only proposed are not kept; any text is accepted");
    }
    let pattern = text(field("regex"));
    let patterned = !pattern.is_empty() && !truthy(field("enforced")) && !flag("multivalued");
    if patterned {
        Pattern::new(&pattern).map_err(|invalid| format!("{place}.regex: {invalid}"))?;
        tree.push(("pattern".to_owned(), pattern.into()));
    } else if !pattern.is_empty() && flag("multivalued") {
        return Err(format!("{place} checks each of several values by a pattern, which cannot be said here"));
    }
    let default = text(field("value"));
    if default.contains("${") {
        report.add(
            Kind::Lost,
            place,
            format!("the default {default:?} is computed in Rundeck; there is none here"),
        );
    }
    let given = !default.is_empty() && !default.contains("${");
    if given {
        tree.push(("default".to_owned(), default.into()));
    }
    Ok(Some((Tree::Map(tree), given || required)))
}
