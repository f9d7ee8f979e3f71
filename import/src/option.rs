//! Options of a job.

use std::collections::{BTreeMap, BTreeSet};

use remit_job::pattern::Pattern;
use serde_json::{Map, Value};

use crate::{
    command::{self, Known, Options},
    date::{self, Letters},
    job::{Kind, Report, identifier},
    write::{Tree, map},
    yaml::{text, truthy},
};

/// The options, what later references to them become, and what has to be fetched for them. An option that holds a secret
/// is not among them.
#[derive(Default)]
pub(crate) struct Found {
    /// The options as they are written.
    pub(crate) trees: Vec<(String, Tree)>,
    /// What later references become.
    pub(crate) known: Options,
    /// Addresses that give values, by option.
    pub(crate) fetched: Vec<Fetched>,
}

/// A job of its own that fetches the values of an option.
pub(crate) struct Fetched {
    /// The option.
    pub(crate) option: String,
    /// From where.
    pub(crate) url: String,
    /// The job's name.
    pub(crate) job: String,
}

/// Reads the options. `job` gives names to the jobs that fetch values.
pub(crate) fn import(entry: Option<&Value>, job: &str, report: &mut Report) -> Result<Found, String> {
    let mut found = Found::default();
    for (name, definition) in definitions(entry)? {
        if name.is_empty() {
            return Err("an option has no name".to_owned());
        }
        let place = format!("options.{name}");
        let here = identifier(&name);
        if found.known.values().any(|known| known.name == here) {
            return Err(format!("two options would have the name `{here}`; rename one"));
        }
        let option = Definition { map: definition, place: &place, name: &here, job };
        if let Some((tree, known)) = option.import(&mut found.fetched, report)? {
            if here != name {
                report.add(Kind::Differs, &place, format!("the option is named `{here}` here"));
            }
            found.trees.push((here, tree));
            found.known.insert(name, known);
        }
    }
    Ok(found)
}

/// Options by name, each as it stands in the file.
type Named<'a> = Vec<(String, &'a Map<String, Value>)>;

/// Names with their maps, in the order in which they are asked.
fn definitions(entry: Option<&Value>) -> Result<Named<'_>, String> {
    let mut definitions = Named::new();
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
    Ok(definitions)
}

/// One option of the file.
struct Definition<'a> {
    map: &'a Map<String, Value>,
    place: &'a str,
    /// Its name here.
    name: &'a str,
    /// Its job's name here.
    job: &'a str,
}

/// What a reference to a job has to know about its options.
#[derive(Default)]
pub(crate) struct Asked {
    /// Every option, by the name that it had.
    pub(crate) names: BTreeSet<String>,
    /// The lists, with what stands between their values.
    pub(crate) lists: BTreeMap<String, String>,
    /// Those that hold secrets, which are not options here.
    pub(crate) secrets: BTreeSet<String>,
}

/// What a job asks.
pub(crate) fn asked(entry: Option<&Value>) -> Asked {
    let mut asked = Asked::default();
    for (name, map) in definitions(entry).unwrap_or_default() {
        let option = Definition { map, place: "", name: "", job: "" };
        if option.is_secret() {
            asked.secrets.insert(name.clone());
        } else if option.flag("multivalued") {
            asked.lists.insert(name.clone(), option.delimiter());
        }
        asked.names.insert(name);
    }
    asked
}

impl Definition<'_> {
    fn is_secret(&self) -> bool {
        self.flag("secure") || !self.field("storagePath").is_null()
    }

    fn field(&self, key: &str) -> &Value {
        self.map.get(key).unwrap_or(&Value::Null)
    }

    fn text(&self, key: &str) -> String {
        text(self.field(key))
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.field(key), Value::Bool(true)) || self.text(key).eq_ignore_ascii_case("true")
    }

    fn import(
        &self,
        fetched: &mut Vec<Fetched>,
        report: &mut Report,
    ) -> Result<Option<(Tree, Known)>, String> {
        if self.is_secret() {
            let message = "a secret is no option: bind it to the step that needs it, in its `secrets`";
            report.add(Kind::Lost, self.place, message);
            return Ok(None);
        }
        let quoted = |key: &str| matches!(self.field(key), Value::String(text) if text == "false");
        for key in ["required", "enforced"].into_iter().filter(|key| quoted(key)) {
            let message = format!("`{key}: \"false\"` is true in Rundeck, and so it is here");
            report.add(Kind::Differs, self.place, message);
        }
        let several = self.flag("multivalued");
        let date = (self.flag("isDate") && !several).then(|| self.date_format(report)).flatten();
        let kind = match (&date, several) {
            (Some(_), _) => "date",
            (None, true) => "list",
            (None, false) => "string",
        };
        if self.field("type") == "file" {
            report.add(Kind::Lost, self.place, "a text here, given with `-o NAME=@FILE`: there are options of `type: file`, which a step reads by its grant and not by a path");
        }
        let mut tree = vec![("type".to_owned(), Tree::from(kind))];
        let description =
            [self.text("description"), self.text("label")].into_iter().find(|text| !text.is_empty());
        tree.extend(description.map(|text| ("description".to_owned(), text.into())));
        let required = truthy(self.field("required"));
        if required {
            tree.push(("required".to_owned(), Tree::Scalar(true.into())));
        }
        let mut values = BTreeSet::new();
        if let Some(format) = date {
            tree.push(("format".to_owned(), format.into()));
        } else {
            values = self.values(&mut tree, fetched, report)?;
            // An empty text is no value in Rundeck.
            if required && values.is_empty() {
                let least = if several { "min_items" } else { "min_length" };
                tree.push((least.to_owned(), Tree::Scalar(1.into())));
            }
        }
        let default = self.default(several, &values, report);
        let always = default.is_some() || required;
        tree.extend(default.map(|default| ("default".to_owned(), default)));
        let delimiter = several.then(|| self.delimiter());
        Ok(Some((Tree::Map(tree), Known { name: self.name.to_owned(), always, delimiter })))
    }

    fn delimiter(&self) -> String {
        Some(self.text("delimiter")).filter(|text| !text.is_empty()).unwrap_or_else(|| ",".to_owned())
    }

    /// The format of a date; nothing if it has no counterpart, and the option stays a text.
    fn date_format(&self, report: &mut Report) -> Option<String> {
        let written = Some(self.text("dateFormat")).filter(|text| !text.is_empty());
        let written = written.unwrap_or_else(|| "MM/DD/YYYY hh:mm a".to_owned());
        let found = date::format(&written, Letters::Moment);
        if found.is_none() {
            let message = format!("the date format {written:?} has no counterpart; the option is a text");
            report.add(Kind::Differs, self.place, message);
        }
        found.map(|format| format.as_str().to_owned())
    }

    /// Writes values and pattern; gives the values that are enforced.
    fn values(
        &self,
        tree: &mut Vec<(String, Tree)>,
        fetched: &mut Vec<Fetched>,
        report: &mut Report,
    ) -> Result<BTreeSet<String>, String> {
        let enforced = truthy(self.field("enforced"));
        let mut values: Vec<String> = match self.field("values") {
            Value::Null => Vec::new(),
            Value::Array(items) => items.iter().map(text).collect(),
            one => vec![text(one)],
        };
        let mut seen = BTreeSet::new();
        values.retain(|value| seen.insert(value.clone()));
        if self.flag("sortValues") {
            values.sort();
        }
        if !values.is_empty() {
            tree.push(("values".to_owned(), values.iter().map(|value| Tree::from(value.as_str())).collect()));
        } else if let Some(source) = self.elsewhere(enforced, fetched, report)? {
            tree.push(("values".to_owned(), source));
        }
        let any = tree.iter().any(|(key, _)| key == "values");
        if any && !enforced {
            tree.push(("open".to_owned(), Tree::Scalar(true.into())));
        }
        let pattern = self.text("regex");
        if !pattern.is_empty() && !enforced {
            Pattern::new(&pattern).map_err(|invalid| format!("{}.regex: {invalid}", self.place))?;
            tree.push(("pattern".to_owned(), pattern.into()));
        }
        Ok(if enforced { seen } else { BTreeSet::new() })
    }

    /// Values that are fetched: by a job of their own, which a runner runs.
    fn elsewhere(
        &self,
        enforced: bool,
        fetched: &mut Vec<Fetched>,
        report: &mut Report,
    ) -> Result<Option<Tree>, String> {
        let url = self.text("valuesUrl");
        let plugin = !self.field("optionValuesPluginType").is_null();
        if url.is_empty() && !plugin {
            if enforced {
                return Err(format!("{} enforces values and lists none", self.place));
            }
            return Ok(None);
        }
        let plain = url.starts_with("http://") || url.starts_with("https://");
        if plain && !url.contains("${") && self.field("configRemoteUrl").is_null() {
            let job: String = format!("{}_{}_values", self.job, self.name).chars().take(60).collect();
            let message = format!(
                "the job `{job}` fetches the values at a runner: run it before this one, and on a schedule; \
                 until it has succeeded, no value is accepted{}",
                if enforced { "" } else { " but what is given freely" }
            );
            report.add(Kind::Differs, self.place, message);
            fetched.push(Fetched { option: self.name.to_owned(), url, job: job.clone() });
            return Ok(Some(map([("job", job.into()), ("step", "get".into()), ("at", "/json".into())])));
        }
        if enforced {
            return Err(format!(
                "{} accepts only values that come from elsewhere; list them in `values`",
                self.place
            ));
        }
        let from =
            if plugin { "a plugin" } else { "an address that depends on other values, or wants a secret" };
        report.add(Kind::Lost, self.place, format!("values from {from}: any text is accepted"));
        Ok(None)
    }

    fn default(&self, several: bool, values: &BTreeSet<String>, report: &mut Report) -> Option<Tree> {
        let written = self.text("value");
        if several && self.flag("multivalueAllSelected") && !values.is_empty() {
            return Some(values.iter().map(|value| Tree::from(value.as_str())).collect());
        }
        if written.is_empty() {
            return None;
        }
        let Some(default) = date::default(&written) else {
            let message = format!(
                "the default {written:?} is computed in a way that has no counterpart; there is none"
            );
            report.add(Kind::Lost, self.place, message);
            return None;
        };
        if default != written {
            report.add(Kind::Differs, self.place, "the date of the default is that in UTC");
        }
        let parts: Vec<String> = match several {
            true => default.split(self.delimiter().as_str()).map(str::to_owned).collect(),
            false => vec![default],
        };
        if let Some(stranger) = parts.iter().find(|part| !values.is_empty() && !values.contains(*part)) {
            let message = format!("the default {stranger:?} is not one of the values; there is none");
            report.add(Kind::Lost, self.place, message);
            return None;
        }
        Some(match several {
            true => parts.into_iter().map(Tree::from).collect(),
            false => parts.into_iter().map(Tree::from).next()?,
        })
    }
}

/// The job that fetches the values of an option.
pub(crate) fn fetching(fetched: &Fetched, of: &str) -> Result<Tree, String> {
    let rest = fetched.url.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok()),
        None => (host, None),
    };
    if host.is_empty() || authority.contains('@') {
        return Err(format!("values of {}: {:?} is no address without a password", fetched.option, host));
    }
    let mut rule = vec![
        ("host".to_owned(), Tree::from(host)),
        ("methods".to_owned(), Tree::List(vec!["GET".into()])),
        ("paths".to_owned(), Tree::List(vec!["/".into()])),
    ];
    if fetched.url.starts_with("http://") {
        rule.push(("scheme".to_owned(), "http".into()));
    }
    if let Some(port) = port {
        rule.push(("port".to_owned(), Tree::Scalar(port.into())));
    }
    let step = map([
        ("name", "get".into()),
        ("uses", "remit/http-request@1".into()),
        ("with", map([("method", "GET".into()), ("url", command::verbatim(&fetched.url)?.into())])),
        ("grant", map([("http", Tree::List(vec![Tree::Map(rule)]))])),
    ]);
    Ok(map([
        ("job", fetched.job.as_str().into()),
        ("description", format!("Fetches the values of the option {} of {of}.", fetched.option).into()),
        ("steps", Tree::List(vec![step])),
    ]))
}
