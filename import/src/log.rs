//! What becomes of the log: how much of it is kept, what is read from its lines, and what is hidden in them.

use remit_job::document::{LinePattern, StepLog};
use remit_protocol::{LogLimit, Size};
use serde_json::{Map, Value};

use crate::{
    job::{Kind, Report, member},
    write::{Tree, map},
    yaml::text,
};

/// What the log filter reads where it is not configured.
const DATA: &str = r"^RUNDECK:DATA:\s*([^\s]+?)\s*=\s*(.+)$";

/// The log limit of a job.
pub(crate) fn limit(job: &Map<String, Value>, report: &mut Report) -> Result<Option<Tree>, String> {
    let written = member(job, "loglimit");
    if written.trim().is_empty() {
        return Ok(None);
    }
    let (measure, most) = measure(&written, report)?;
    let mut members = vec![(measure.to_owned(), most)];
    match member(job, "loglimitAction").as_str() {
        "truncate" => {
            if measure == "lines_per_node" {
                let message =
                    "a node whose log is full leaves room for the others: there the whole log ended";
                report.add(Kind::Differs, "loglimit", message);
            }
            members.push(("at_limit".to_owned(), "truncate".into()));
        }
        "" | "halt" => {
            let outcome = match member(job, "loglimitStatus").as_str() {
                "" | "failed" => "failed",
                "aborted" => "cancelled",
                other => {
                    let message = format!("the execution ends as `failed`: there is no status {other:?}");
                    report.add(Kind::Differs, "loglimitStatus", message);
                    "failed"
                }
            };
            members.push(("at_limit".to_owned(), "halt".into()));
            members.push(("outcome".to_owned(), outcome.into()));
        }
        other => return Err(format!("loglimitAction {other:?} is neither halt nor truncate")),
    }
    Ok(Some(Tree::Map(members)))
}

/// `500`, `10MB`, `200/node`: the key here, and the number.
fn measure(written: &str, report: &mut Report) -> Result<(&'static str, Tree), String> {
    let invalid =
        || format!("the log limit {written:?} comes to nothing in Rundeck; write 500, 10MB or 200/node");
    let (amount, per_node) = match written.strip_suffix("/node") {
        Some(amount) => (amount, true),
        None => (written, false),
    };
    let end = amount.find(|c: char| !c.is_ascii_digit()).unwrap_or(amount.len());
    let (digits, unit) = amount.split_at(end);
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return Err(invalid()),
    };
    if number == 0 {
        return Err(format!("the log limit {written:?} is none: leave it out, or write a number from 1"));
    }
    if unit.is_empty() {
        let lines = number.min(LogLimit::MOST_LINES);
        if lines < number {
            let message = format!("the limit is {lines} lines, the highest there is");
            report.add(Kind::Differs, "loglimit", message);
        }
        let key = if per_node { "lines_per_node" } else { "lines" };
        return Ok((key, Tree::Scalar(lines.into())));
    }
    if per_node {
        report.add(Kind::Differs, "loglimit", "a limit of bytes holds for the whole log, as it did there");
    }
    let wanted = Size::from_bytes(number.saturating_mul(factor));
    let bytes = wanted.clamp(LogLimit::LEAST_BYTES, LogLimit::MOST_BYTES);
    if bytes != wanted {
        report.add(Kind::Differs, "loglimit", format!("the limit is {bytes}: there is none beyond it"));
    }
    report.add(Kind::Differs, "loglimit", "each line counts 64 bytes beside its text");
    Ok(("bytes", bytes.to_string().into()))
}

/// What log filters come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Filters {
    /// Patterns of values, with the name where there is one group.
    outputs: Vec<(String, Option<String>)>,
    /// Patterns of what is hidden.
    mask: Vec<String>,
}

impl Filters {
    /// Reads the `LogFilter` of a step, or of all steps of a job.
    pub(crate) fn read(plugins: Option<&Value>, place: &str, report: &mut Report) -> Self {
        let mut filters = Self::default();
        let list: Vec<&Value> = match plugins.and_then(|plugins| plugins.get("LogFilter")) {
            Some(Value::Array(filters)) => filters.iter().collect(),
            other => other.into_iter().collect(),
        };
        for filter in list {
            let kind = text(filter.get("type").unwrap_or(&Value::Null));
            let config = filter.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
            let added = match kind.as_str() {
                "key-value-data" => filters.reads(&config, place, report),
                "mask-log-output-regex" => filters.hides(&config, place, report),
                "mask-passwords" => {
                    let message = "what a step uses as a secret is taken out of every log without the filter `mask-passwords`";
                    report.add(Kind::Differs, place, message);
                    Ok(())
                }
                _ => Err(String::new()),
            };
            if let Err(why) = added {
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                report.add(Kind::Lost, place, format!("the log filter {kind:?} is not imported{why}"));
            }
        }
        filters
    }

    /// True if they come to nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a step writes, with the filters of its job before its own.
    pub(crate) fn of_step(mut self, own: Self, place: &str, report: &mut Report) -> Option<Tree> {
        self.outputs.extend(own.outputs);
        self.mask.extend(own.mask);
        for (what, there) in [("read values", self.outputs.len()), ("hide", self.mask.len())] {
            if there > StepLog::MOST {
                let message = format!("{there} log filters that {what}, and {} are kept", StepLog::MOST);
                report.add(Kind::Lost, place, message);
            }
        }
        self.outputs.truncate(StepLog::MOST);
        self.mask.truncate(StepLog::MOST);
        let mut members = Vec::new();
        if !self.outputs.is_empty() {
            let read = "what its log filter reads is `${steps.NAME.outputs.log.KEY}`, and no `${data.KEY}`";
            report.add(Kind::Differs, place, read);
            let outputs = self.outputs.into_iter().map(|(pattern, name)| {
                let name = name.map(|name| ("name".to_owned(), Tree::from(name)));
                Tree::Map(std::iter::once(("pattern".to_owned(), Tree::from(pattern))).chain(name).collect())
            });
            members.push(("outputs".to_owned(), outputs.collect()));
        }
        if !self.mask.is_empty() {
            members.push(("mask".to_owned(), self.mask.into_iter().map(Tree::from).collect()));
        }
        (!members.is_empty()).then_some(Tree::Map(members))
    }

    fn reads(&mut self, config: &Map<String, Value>, place: &str, report: &mut Report) -> Result<(), String> {
        let setting = |key: &str| Some(member(config, key)).filter(|text| !text.is_empty());
        let on = |key: &str| setting(key).is_some_and(|text| text == "true");
        let regex = setting("regex").unwrap_or_else(|| DATA.to_owned());
        let name = setting("name");
        let pattern = if on("matchSubstrings") { regex } else { whole_line(regex) };
        let groups = LinePattern::new(&pattern).map_err(|invalid| invalid.to_string())?.groups();
        let plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match (groups, name) {
            (2, _) => self.outputs.push((pattern, None)),
            (1, Some(name)) if plain(&name) => self.outputs.push((pattern, Some(name))),
            (1, Some(name)) => return Err(format!("{name:?} is no name: use letters, digits and `_`")),
            (groups, _) => {
                return Err(format!("it has {groups} groups; one with a name, or two, can be read"));
            }
        }
        if on("matchSubstrings") && on("allowMultipleMatches") {
            report.add(Kind::Differs, place, "of several matches in a line the first is read");
        }
        if on("replaceFilteredResult") || setting("invalidKeyPattern").is_some() {
            let message = "in names that are read, all but letters, digits, `_`, `-` and `.` becomes `_`";
            report.add(Kind::Differs, place, message);
        }
        if on("logData") {
            report.add(Kind::Differs, place, "what is read is not written to the log as a table");
        }
        Ok(())
    }

    fn hides(&mut self, config: &Map<String, Value>, place: &str, report: &mut Report) -> Result<(), String> {
        let regex = member(config, "regex");
        if regex.is_empty() {
            return Err("it has no pattern".to_owned());
        }
        LinePattern::new(&regex).map_err(|invalid| invalid.to_string())?;
        let values_only = config.get("maskOnlyValue").is_some_and(|value| text(value) == "true");
        let value = if values_only { mask_of_value(&regex) } else { None };
        if values_only && value.is_none() {
            report.add(
                Kind::Differs,
                place,
                format!("all that matches {regex:?} is hidden, its first group as well"),
            );
        }
        let pattern = value.unwrap_or_else(|| mask_of_all(&regex));
        LinePattern::new(&pattern).map_err(|invalid| invalid.to_string())?;
        self.mask.push(pattern);
        if member(config, "replacement") != "***" {
            report.add(Kind::Differs, place, "what is hidden looks like `***`");
        }
        Ok(())
    }
}

/// A pattern that wants the whole line, as a filter does that is not to match a part of it.
fn whole_line(regex: String) -> String {
    if is_anchored(&regex) { regex } else { format!("^(?:{regex})$") }
}

/// True for a pattern that says itself that it wants the whole line.
fn is_anchored(regex: &str) -> bool {
    regex.starts_with('^') && regex.ends_with('$') && !regex.ends_with("\\$") && !regex.contains('|')
}

/// Where the group ends that a pattern begins with.
fn group_end(regex: &str) -> Option<usize> {
    let (mut depth, mut class, mut escaped) = (0_u32, false, false);
    for (at, c) in regex.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => class = false,
            '[' => class = true,
            _ if class => {}
            '(' => depth += 1,
            ')' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// True for a pattern that is one group from its beginning to its end.
fn is_one_group(regex: &str) -> bool {
    regex.starts_with('(') && !regex.starts_with("(?") && group_end(regex) == Some(regex.len())
}

/// Flags such as `(?i)` before a pattern, and the pattern.
fn flags(regex: &str) -> (&str, &str) {
    let end = regex.strip_prefix("(?").and_then(|rest| rest.find(|c: char| !c.is_ascii_lowercase()));
    match end.map(|end| end + 2) {
        Some(end) if end > 2 && regex[end..].starts_with(')') => regex.split_at(end + 1),
        _ => ("", regex),
    }
}

/// A mask that hides all that matches: with groups in it, a mask hides what they match.
fn mask_of_all(regex: &str) -> String {
    let (flags, rest) = flags(regex);
    let groups = LinePattern::new(regex).map_or(0, |pattern| pattern.groups());
    if groups == 0 || is_one_group(rest) { regex.to_owned() } else { format!("{flags}({rest})") }
}

/// A mask that hides what follows the first group, with which the pattern begins.
fn mask_of_value(regex: &str) -> Option<String> {
    let (flags, rest) = flags(regex);
    if rest.starts_with("(?") {
        return None;
    }
    let (key, value) = rest.split_at(group_end(rest)?);
    let key = key.strip_prefix('(')?;
    let outside = value.contains('|') && !is_one_group(value);
    if value.is_empty() || value.starts_with(['?', '*', '+', '{']) || outside || groups(key) > 0 {
        return None;
    }
    let value = if is_one_group(value) { value.to_owned() } else { format!("({value})") };
    Some(format!("{flags}(?:{key}{value}"))
}

/// How many groups the inside of a group has.
fn groups(inside: &str) -> usize {
    LinePattern::new(&format!("({inside}")).map_or(0, |pattern| pattern.groups().saturating_sub(1))
}

/// The log filters that a step's rules come to in Rundeck; false if some of them have no counterpart.
pub(crate) fn filters(log: &StepLog) -> (Vec<Tree>, bool) {
    let mut made = Vec::new();
    let mut whole = log.keep.is_none();
    let filter =
        |kind: &str, config: Vec<(String, Tree)>| map([("type", kind.into()), ("config", Tree::Map(config))]);
    let truth = || Tree::from("true");
    for reading in &log.outputs {
        let pattern = reading.pattern.as_str();
        let mut config = vec![("regex".to_owned(), Tree::from(pattern))];
        config.extend(reading.name.as_ref().map(|name| ("name".to_owned(), name.as_str().into())));
        if !is_anchored(pattern) {
            config.push(("matchSubstrings".to_owned(), truth()));
        }
        made.push(filter("key-value-data", config));
    }
    for pattern in &log.mask {
        let regex = pattern.as_str();
        let (flags, rest) = flags(regex);
        let value = (rest.starts_with("(?:")).then(|| group_end(rest)).flatten();
        let value = value.filter(|end| pattern.groups() > 0 && is_one_group(&rest[*end..]));
        let mut config = vec![("replacement".to_owned(), Tree::from("***"))];
        match value {
            Some(_) if mask_of_value(&format!("{flags}({}", &rest[3..])).as_deref() == Some(regex) => {
                config.push(("regex".to_owned(), format!("{flags}({}", &rest[3..]).into()));
                config.push(("maskOnlyValue".to_owned(), truth()));
            }
            _ if mask_of_all(regex) == regex => config.push(("regex".to_owned(), regex.into())),
            _ => {
                whole = false;
                continue;
            }
        }
        made.push(filter("mask-log-output-regex", config));
    }
    (made, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_hides_what_the_filter_hid() {
        fn check(regex: &str, all: &str, value: Option<&str>, line: &str, left: &str) {
            assert_eq!(
                (mask_of_all(regex).as_str(), mask_of_value(regex).as_deref()),
                (all, value),
                "{regex}"
            );
            let mask = value.unwrap_or(all);
            let log = StepLog { mask: vec![LinePattern::new(mask).unwrap()], ..StepLog::default() };
            assert_eq!(log.masked(line), left, "{mask}");
        }
        check(r"\d{4}-\d{4}", r"\d{4}-\d{4}", None, "a 1234-5678", "a ***");
        check("a(b)c", "(a(b)c)", None, "xabcx", "x***x");
        check("(a|b)", "(a|b)", None, "xa", "x***");
        check("(key=)(.*)", "((key=)(.*))", Some("(?:key=)(.*)"), "key=v", "key=***");
        check("(user) pw (x)", "((user) pw (x))", Some("(?:user)( pw (x))"), "user pw x", "user***");
        check("(?i)(key=)(.*)", "(?i)((key=)(.*))", Some("(?i)(?:key=)(.*)"), "KEY=v", "KEY=***");
        check(
            r"([)\]]=)x+",
            r"([)\]]=)x+".replace("([", "(([").replace("x+", "x+)").as_str(),
            Some(r"(?:[)\]]=)(x+)"),
            ")=xx",
            ")=***",
        );
        // What cannot be told apart is hidden whole.
        check("(a)b|c", "((a)b|c)", None, "ab c", "*** ***");
        check("(a(b))c", "((a(b))c)", None, "abc", "***");
        check("(a)?b", "((a)?b)", None, "ab", "***");
        check("x(a)(b)", "(x(a)(b))", None, "xab", "***");
    }

    #[test]
    fn a_filter_wants_the_whole_line_unless_it_says_otherwise() {
        fn check(regex: &str, expect: &str) {
            assert_eq!(whole_line(regex.to_owned()), expect);
        }
        check(DATA, DATA);
        check("(a)=(b)", "^(?:(a)=(b))$");
        check("^(a)|(b)$", "^(?:^(a)|(b)$)$");
        check(r"^(a)=(b)\$", r"^(?:^(a)=(b)\$)$");
    }
}
