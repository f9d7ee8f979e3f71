//! Options as Rundeck has them.

use std::collections::BTreeMap;

use remit_job::{
    options::{OptionDefinition, OptionType, Values},
    source::JobSource,
};
use serde_json::Value;

use super::{
    Fetchers,
    text::{Context, known},
};
use crate::{
    date,
    job::{Kind, Report},
    write::Tree,
};

/// The options, and what references to them are.
pub(super) fn export(source: &JobSource, fetchers: &Fetchers, report: &mut Report) -> (Vec<Tree>, Context) {
    let mut context = Context { options: BTreeMap::new(), delimiters: BTreeMap::new() };
    let mut trees = Vec::new();
    for option in &source.options {
        let delimiter =
            matches!(option.kind, OptionType::List { .. }).then(|| delimiter(source, option.name.as_str()));
        if let OptionType::Secret { .. } = option.kind {
            report.add(Kind::Lost, &place(option), "an option that chooses a secret");
            continue;
        }
        if let OptionType::Typed { .. } = option.kind {
            report.add(Kind::Lost, &place(option), "an option whose secret is typed and sealed to runners");
            continue;
        }
        let one = Asked { option, delimiter: delimiter.as_deref(), fetchers };
        let (tree, always) = one.export(report);
        trees.push(tree);
        let name = option.name.to_string();
        context.options.insert(name.clone(), known(&name, always, delimiter.clone()));
        context.delimiters.extend(delimiter.map(|between| (name, between)));
    }
    (trees, context)
}

fn place(option: &OptionDefinition) -> String {
    format!("options.{}", option.name)
}

/// What the job's own texts put between the values of a list; a comma if none does.
pub(super) fn delimiter(source: &JobSource, name: &str) -> String {
    let mark = format!("options.{name}.join(");
    let found = |text: &str| {
        let behind = text.split_once(&mark)?.1;
        let end =
            behind.char_indices().skip(1).find(|(at, c)| *c == '"' && !behind[..*at].ends_with('\\'))?.0;
        serde_json::from_str::<String>(&behind[..=end]).ok()
    };
    let components = source.steps.iter().flat_map(|step| step.components());
    let mut texts = components.map(|(_, component)| component.with.source()).collect::<Vec<_>>();
    texts.extend(source.steps.iter().filter_map(|step| match &step.does {
        remit_job::source::Does::Job(job) => Some(job.with.source()),
        _ => None,
    }));
    fn first(value: &Value, found: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        match value {
            Value::String(text) => found(text),
            Value::Array(items) => items.iter().find_map(|item| first(item, found)),
            Value::Object(map) => map.values().find_map(|item| first(item, found)),
            _ => None,
        }
    }
    texts.into_iter().find_map(|text| first(text, &found)).unwrap_or_else(|| ",".to_owned())
}

struct Asked<'a> {
    option: &'a OptionDefinition,
    delimiter: Option<&'a str>,
    fetchers: &'a Fetchers,
}

impl Asked<'_> {
    fn export(&self, report: &mut Report) -> (Tree, bool) {
        let place = place(self.option);
        let mut map = vec![("name".to_owned(), Tree::from(self.option.name.as_str()))];
        if !self.option.description.is_empty() {
            map.push(("description".to_owned(), self.option.description.as_str().into()));
        }
        if self.option.required {
            map.push(("required".to_owned(), flag(true)));
        }
        self.kind(&mut map, &place, report);
        let mut always = self.option.required;
        if let Some(default) = &self.option.default {
            match self.default(default.source()) {
                Some(text) => {
                    always = true;
                    map.push(("value".to_owned(), text.into()));
                }
                None => report.add(Kind::Lost, &place, "a default that Rundeck cannot compute"),
            }
        }
        (Tree::Map(map), always)
    }

    fn kind(&self, map: &mut Vec<(String, Tree)>, place: &str, report: &mut Report) {
        let mut lost = |what: &str| report.add(Kind::Lost, place, format!("{what} has no counterpart"));
        match &self.option.kind {
            OptionType::String { values, open, pattern, min_length, max_length } => {
                if *min_length != implied(self.option, values, *open) || max_length.is_some() {
                    lost("the length of a text");
                }
                self.values(map, values, *open, &mut lost);
                map.extend(pattern.as_ref().map(|pattern| ("regex".to_owned(), pattern.to_string().into())));
            }
            OptionType::List { values, open, pattern, min_items, max_items } => {
                if *min_items != implied(self.option, values, *open) || max_items.is_some() {
                    lost("the number of values");
                }
                map.push(("multivalued".to_owned(), flag(true)));
                map.push(("delimiter".to_owned(), self.delimiter.unwrap_or(",").into()));
                self.values(map, values, *open, &mut lost);
                map.extend(pattern.as_ref().map(|pattern| ("regex".to_owned(), pattern.to_string().into())));
            }
            OptionType::Date { format, min, max } => {
                if min.is_some() || max.is_some() {
                    lost("the first or last day");
                }
                match date::moment(format) {
                    Some(format) => {
                        map.push(("isDate".to_owned(), flag(true)));
                        map.push(("dateFormat".to_owned(), format.into()));
                    }
                    None => lost("the format of the date"),
                }
            }
            OptionType::Integer { values, min, max } => {
                lost("the type integer");
                if min.is_some() || max.is_some() {
                    lost("the range of a number");
                }
                map.push(("regex".to_owned(), "-?[0-9]+".into()));
                if !values.is_empty() {
                    map.push((
                        "values".to_owned(),
                        values.iter().map(|value| Tree::from(value.to_string())).collect(),
                    ));
                    map.push(("enforced".to_owned(), flag(true)));
                }
            }
            OptionType::Boolean {} => {
                lost("the type boolean");
                map.push(("values".to_owned(), Tree::List(vec!["true".into(), "false".into()])));
                map.push(("enforced".to_owned(), flag(true)));
            }
            OptionType::File { .. } => map.push(("type".to_owned(), "file".into())),
            OptionType::Secret { .. } | OptionType::Typed { .. } => {}
        }
    }

    fn values(&self, map: &mut Vec<(String, Tree)>, values: &Values, open: bool, lost: &mut dyn FnMut(&str)) {
        match values {
            Values::Listed(values) if values.is_empty() => return,
            Values::Listed(values) => {
                map.push((
                    "values".to_owned(),
                    values.iter().map(|value| Tree::from(value.as_str())).collect(),
                ));
            }
            Values::Job(of) => match self.fetchers.get(&of.job) {
                Some(url) if of.at == "/json" && of.max_age.is_none() => {
                    map.push(("valuesUrl".to_owned(), url.as_str().into()));
                }
                _ => return lost("a list that another job finds"),
            },
            Values::By(_) => return lost("a list that depends on another option"),
            Values::Nodes(_) => return lost("a list of nodes"),
        }
        if !open {
            map.push(("enforced".to_owned(), flag(true)));
        }
    }

    fn default(&self, default: &Value) -> Option<String> {
        let one = |value: &Value| match value {
            Value::String(text) => date::rundeck(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => None,
        };
        match default {
            Value::Array(items) => {
                let between = self.delimiter?;
                let parts: Vec<String> = items.iter().map(one).collect::<Option<_>>()?;
                (!parts.iter().any(|part| part.contains(between))).then(|| parts.join(between))
            }
            one_value => one(one_value),
        }
    }
}

/// What the import adds to a required option: an empty text is no value in Rundeck.
fn implied(option: &OptionDefinition, values: &Values, open: bool) -> Option<u32> {
    (option.required && (values.is_empty() || open)).then_some(1)
}

fn flag(value: bool) -> Tree {
    Tree::Scalar(value.into())
}
