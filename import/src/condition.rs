//! Conditional steps: their groups of conditions become the `when` of each step in them.

use remit_job::{
    document::{LinePattern, When},
    expression::Expression,
};
use serde_json::{Map, Value, json};

use crate::{
    command::{self, Options},
    job::{Kind, Report, member},
    yaml::truthy,
};

/// Groups of conditions, in the language of expressions: all of at least one group have to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition(Vec<Vec<String>>);

impl Condition {
    /// Reads `conditionGroups`.
    pub(crate) fn read(
        groups: &Value,
        options: &Options,
        place: &str,
        report: &mut Report,
    ) -> Result<Self, String> {
        let groups = groups.as_array().ok_or("its `conditionGroups` are no list")?;
        let mut read = Vec::new();
        for group in groups {
            let group = group.as_array().filter(|group| !group.is_empty());
            let group = group.ok_or("a group of its conditions is empty, or no list")?.iter();
            read.push(group.map(|one| condition(one, options)).collect::<Result<Vec<_>, _>>()?);
        }
        let any = |mark: &str| read.iter().flatten().any(|test| test.contains(mark));
        if any("double(") {
            let message = "conditions by size compare numbers; what is no number refuses the step";
            report.add(Kind::Differs, place, message);
        }
        if any(".matches(") {
            report.add(Kind::Differs, place, "a pattern of a condition has to match the whole value");
        }
        Ok(Self(read))
    }

    /// Both have to hold.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let both =
            |one: &Vec<String>| other.0.iter().map(|two| [one.as_slice(), two].concat()).collect::<Vec<_>>();
        Self(self.0.iter().flat_map(both).collect())
    }

    /// The `when` of a step: if the conditions hold and, where it is `guarded`, no earlier step ended badly.
    pub(crate) fn when(&self, guarded: bool) -> Result<String, String> {
        let groups: Vec<String> = self.0.iter().map(|group| group.join(" && ")).collect();
        let own = match &groups[..] {
            [one] => one.clone(),
            several => format!("({})", several.join(" || ")),
        };
        Expression::new(&own).map_err(|invalid| format!("its condition {}", invalid.why))?;
        Ok(if guarded { format!("on-success && {own}") } else { own })
    }
}

/// One condition: a reference, an operator, and a value.
fn condition(written: &Value, options: &Options) -> Result<String, String> {
    let written = written.as_object().ok_or("one of its conditions is no map")?;
    let [key, operator, value] = ["key", "operator", "value"].map(|name| member(written, name));
    let left =
        reference(&key, options)?.ok_or_else(|| format!("a condition on {key:?}, which is no reference"))?;
    if operator == "matches" {
        if value.contains("${") {
            return Err(format!("a condition with the pattern {value:?}, in which something is replaced"));
        }
        let whole = format!("^(?:{value})$");
        LinePattern::new(&whole).map_err(|invalid| invalid.to_string())?;
        return Ok(format!("{left}.matches({})", literal(&whole)));
    }
    let right = match reference(&value, options)? {
        Some(right) => right,
        None if value.contains("${") => {
            return Err(format!("a condition with the value {value:?}, in which something is replaced"));
        }
        None => literal(&value),
    };
    match operator.as_str() {
        "==" | "!=" => Ok(format!("{left} {operator} {right}")),
        "contains" => Ok(format!("{left}.contains({right})")),
        "<" | ">" | "<=" | ">=" => {
            if value.parse::<f64>().is_err() && !value.contains("${") {
                return Err(format!("a condition by size with {value:?}, which is no number"));
            }
            Ok(format!("double({left}) {operator} double({right})"))
        }
        _ => Err(format!("a condition with the operator {operator:?}")),
    }
}

/// What a text that is one reference stands for, as a condition sees it.
fn reference(written: &str, options: &Options) -> Result<Option<String>, String> {
    let inner = written.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let Some(inner) = inner.filter(|inner| !inner.contains(['$', '{', '}'])) else { return Ok(None) };
    if inner.starts_with("node.") {
        return Err(format!("a condition on the node, {written:?}: nodes are chosen by `nodes.filter`"));
    }
    let expression = command::expression(inner, options)?;
    Ok(Some(if expression.contains(" ? ") { format!("({expression})") } else { expression }))
}

fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// The groups of Rundeck that a `when` stands for, if it is one of an import; `as_text` gives a template as text with
/// references there.
pub(crate) fn groups(
    when: &When,
    guarded: bool,
    options: &Options,
    as_text: impl Fn(&str) -> Option<String>,
) -> Option<Value> {
    let own = match when {
        When::Expression(own) if !guarded => own.as_str(),
        When::OnSuccessIf(own) if guarded => own.as_str(),
        _ => return None,
    };
    let several = own.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let several = several.map(|inner| split(inner, " || ")).filter(|groups| groups.len() > 1);
    let mut groups = Vec::new();
    for group in several.unwrap_or_else(|| vec![own]) {
        let conditions = split(group, " && ").into_iter().map(|test| written(test, &as_text));
        groups.push(conditions.collect::<Option<Value>>()?);
    }
    let groups = Value::Array(groups);
    // The import is the judge: what it would read differently is not written.
    let again = Condition::read(&groups, options, "", &mut Report::default()).ok()?;
    (again.when(false).ok()? == own).then_some(groups)
}

/// Parts of an expression outside of quotes and brackets.
fn split<'a>(expression: &'a str, between: &str) -> Vec<&'a str> {
    let (mut parts, mut from, mut depth, mut quote, mut escaped) = (Vec::new(), 0, 0_u32, None, false);
    for (at, c) in expression.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, _) if depth == 0 && expression[at..].starts_with(between) => {
                parts.push(&expression[from..at]);
                from = at + between.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[from..]);
    parts
}

/// A condition of an import as it was written.
fn written(test: &str, as_text: &impl Fn(&str) -> Option<String>) -> Option<Value> {
    let operand = |expression: &str| match serde_json::from_str::<String>(expression) {
        Ok(literal) => Some(literal),
        Err(_) => {
            let bare = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            as_text(&format!("${{{}}}", bare.unwrap_or(expression)))
        }
    };
    let one = |key: &str, operator: &str, value: String| {
        Some(json!({ "key": operand(key)?, "operator": operator, "value": value }))
    };
    if let Some((key, pattern)) = test.strip_suffix(')').and_then(|test| test.split_once(".matches(")) {
        let pattern = serde_json::from_str::<String>(pattern).ok()?;
        return one(key, "matches", pattern.strip_prefix("^(?:")?.strip_suffix(")$")?.to_owned());
    }
    if let Some((key, value)) = test.strip_suffix(')').and_then(|test| test.split_once(".contains(")) {
        return one(key, "contains", operand(value)?);
    }
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        let Some((left, right)) = test.split_once(&format!(" {operator} ")) else { continue };
        let number = |text: &str| {
            let inner = text.strip_prefix("double(").and_then(|rest| rest.strip_suffix(')'));
            inner.map(str::to_owned)
        };
        return match (number(left), number(right)) {
            (Some(left), Some(right)) => one(&left, operator, operand(&right)?),
            _ => one(left, operator, operand(right)?),
        };
    }
    None
}

/// True for a step that consists of others.
pub(crate) fn is_conditional(step: &Map<String, Value>) -> bool {
    step.get("conditionGroups").is_some_and(truthy)
}

/// The steps of a conditional step.
pub(crate) fn sub_steps(step: &Map<String, Value>) -> Result<Vec<&Map<String, Value>>, String> {
    let steps = step.get("subSteps").and_then(Value::as_array).filter(|steps| !steps.is_empty());
    let steps = steps.ok_or("a conditional step without `subSteps`")?.iter();
    steps.map(|step| step.as_object().ok_or_else(|| "one of its `subSteps` is no map".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Known;

    fn options() -> Options {
        let known = |name: &str, always, delimiter: Option<&str>| Known {
            name: name.to_owned(),
            always,
            delimiter: delimiter.map(str::to_owned),
        };
        Options::from([
            ("env".to_owned(), known("env", true, None)),
            ("n-o".to_owned(), known("n_o", false, None)),
            ("list".to_owned(), known("list", true, Some(","))),
        ])
    }

    fn test(key: &str, operator: &str, value: &str) -> Value {
        json!({ "key": key, "operator": operator, "value": value })
    }

    #[test]
    fn a_condition_becomes_an_expression() {
        fn check(key: &str, operator: &str, value: &str, expect: &str) {
            let found = condition(&test(key, operator, value), &options());
            assert_eq!(found.as_deref(), Ok(expect), "{key} {operator} {value}");
            assert!(Expression::new(expect).is_ok(), "{expect}");
        }
        check("${option.env}", "==", "prod", r#"options.env == "prod""#);
        check("${option.env}", "!=", "it's \"x\"", r#"options.env != "it's \"x\"""#);
        check("${option.n-o}", "==", "", r#"(has(options.n_o) ? options.n_o : '') == """#);
        check("${option.list}", "contains", "a", r#"options.list.join(",").contains("a")"#);
        check("${option.env}", "matches", "y(es)?", r#"options.env.matches("^(?:y(es)?)$")"#);
        check("${option.env}", ">=", "3", r#"double(options.env) >= double("3")"#);
        check("${job.project}", "==", "${option.env}", "project.name == options.env");
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        fn check(key: &str, operator: &str, value: &str, part: &str) {
            let found = condition(&test(key, operator, value), &options()).unwrap_err();
            assert!(found.contains(part), "{found}");
        }
        check("env", "==", "a", "no reference");
        check("", "==", "a", "no reference");
        check("${option.x}-${option.y}", "==", "a", "no reference");
        check("${option.gone}", "==", "a", "names no option");
        check("${node.name}", "==", "a", "nodes.filter");
        check("${data.x}", "==", "a", "no counterpart");
        check("${option.env}", "==", "a${option.env}", "is replaced");
        check("${option.env}", "matches", "${option.env}", "is replaced");
        check("${option.env}", "matches", "(?=a)", "not a regular expression");
        check("${option.env}", "<", "many", "no number");
        check("${option.env}", "=~", "a", "operator");
        for groups in [json!({}), json!([[]]), json!(["a"]), json!([["a"]])] {
            assert!(Condition::read(&groups, &options(), "", &mut Report::default()).is_err(), "{groups}");
        }
    }

    #[test]
    fn groups_come_back_as_they_were() {
        fn check(groups: Value, guarded: bool, expect: &str) {
            let condition = Condition::read(&groups, &options(), "", &mut Report::default()).unwrap();
            let when = condition.when(guarded).unwrap();
            assert_eq!(when, expect);
            let when = When::try_from(when).unwrap();
            let text = |template: &str| match template {
                "${options.env}" => Some("${option.env}".to_owned()),
                "${has(options.n_o) ? options.n_o : ''}" => Some("${option.n-o}".to_owned()),
                _ => None,
            };
            assert_eq!(self::groups(&when, guarded, &options(), text), Some(groups));
            assert_eq!(self::groups(&when, !guarded, &options(), text), None);
        }
        let (env, number) = (test("${option.env}", "==", "a || b)"), test("${option.n-o}", "<", "1.5"));
        check(json!([[env]]), false, r#"options.env == "a || b)""#);
        check(
            json!([[number, env], [env]]),
            true,
            r#"on-success && (double((has(options.n_o) ? options.n_o : '')) < double("1.5") && options.env == "a || b)" || options.env == "a || b)")"#,
        );
        for other in ["options.env == 'a'", "true", "(options.env == \"a\")", "steps.one.outcome == 'failed'"]
        {
            let when = When::try_from(other.to_owned()).unwrap();
            let found = self::groups(&when, false, &options(), |_| Some("${option.env}".to_owned()));
            assert_eq!(found, None, "{other}");
        }
    }

    #[test]
    fn what_stands_inside_is_subject_to_both() {
        let read = |groups: Value| Condition::read(&groups, &options(), "", &mut Report::default()).unwrap();
        let one = |value: &str| test("${option.env}", "==", value);
        let outer = read(json!([[one("a")], [one("b")]]));
        let inner = read(json!([[one("c"), one("d")], [one("e")]]));
        let expect = r#"(options.env == "a" && options.env == "c" && options.env == "d" || options.env == "a" && options.env == "e" || options.env == "b" && options.env == "c" && options.env == "d" || options.env == "b" && options.env == "e")"#;
        assert_eq!(outer.and(&inner).when(false).as_deref(), Ok(expect));
        let long = read(json!([[one(&"x".repeat(2000))]]));
        assert!(long.when(true).unwrap_err().contains("bytes"));
    }
}
