//! Evaluation within a budget: so many steps, so many bytes, no value above 1 MiB.

use std::{borrow::Cow, cmp::Ordering};

use remit_protocol::{json::MAX_INTEGER, limits::MAX_VALUE};
use serde_json::{Map, Number, Value};

use crate::date::{self, DateFormat};

use super::{
    function::Function,
    program::{Macro, MacroParts, Operator, Program, Term},
    scope::Scope,
};

/// What one evaluation may spend: a unit is one term evaluated or about 64 bytes copied or compared. One node list of
/// 100,000 names can be filtered; it takes well under a second.
const BUDGET: u64 = 4_000_000;
/// Largest compiled regular expression, in bytes.
const MAX_REGEX: usize = 256 << 10;

type Found<'a> = Result<Cow<'a, Value>, String>;

/// What `program` comes to, or why it comes to nothing as the end of a sentence that begins with "the expression".
pub(super) fn evaluate(program: &Program, scope: &Scope) -> Result<Value, String> {
    let mut evaluation = Evaluation { scope, left: BUDGET, regex: None };
    let value = evaluation.term(&program.node, None)?;
    evaluation.keep(value)
}

/// About how many bytes a value takes.
pub(crate) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => 8 + text.len(),
        Value::Array(items) => 8 + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) => {
            8 + members.iter().map(|(key, value)| 8 + key.len() + weight(value)).sum::<usize>()
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[derive(Clone, Copy)]
struct Variable<'a> {
    name: &'a str,
    value: &'a Value,
}

struct Evaluation<'s> {
    scope: &'s Scope,
    left: u64,
    /// The last regular expression: in a macro the same one is used for each item.
    regex: Option<(String, regex::Regex)>,
}

impl<'s> Evaluation<'s> {
    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        let cost = 1 + (bytes as u64) / 64;
        self.left = self
            .left
            .checked_sub(cost)
            .ok_or_else(|| "takes too long: it works through too many or too large values".to_owned())?;
        Ok(())
    }

    /// Charges for making `bytes` and refuses a value that is too large before it is made.
    fn make(&mut self, bytes: usize) -> Result<(), String> {
        check_size(bytes)?;
        self.spend(bytes)
    }

    /// An owned copy, which counts as made.
    fn keep(&mut self, value: Cow<'_, Value>) -> Result<Value, String> {
        self.make(weight(&value))?;
        Ok(value.into_owned())
    }

    fn term<'a>(&mut self, term: &'a Term, variable: Option<Variable<'a>>) -> Found<'a>
    where
        's: 'a,
    {
        self.spend(0)?;
        let scope = self.scope;
        match term {
            Term::Literal(value) => Ok(Cow::Borrowed(value)),
            Term::Root(root, field) => scope.get(*root, field).map(Cow::Borrowed),
            Term::Variable(name) => match variable {
                Some(bound) if bound.name == name => Ok(Cow::Borrowed(bound.value)),
                _ => Err(format!("names `{name}` outside its macro")),
            },
            Term::List(items) => self.list(items, variable),
            Term::Map(entries) => self.map(entries, variable),
            Term::Select(operand, field) => {
                let value = self.term(operand, variable)?;
                member(value, field)
            }
            Term::Has(operand, field) => match self.term(operand, variable)?.as_ref() {
                Value::Object(members) => Ok(owned(members.contains_key(field))),
                other => Err(format!("looks for the field `{field}` in {}", kind(other))),
            },
            Term::HasRoot(root, field) => Ok(owned(scope.get(*root, field).is_ok())),
            Term::Index(operand, key) => {
                let value = self.term(operand, variable)?;
                let key = self.term(key, variable)?;
                index(value, &key)
            }
            Term::Not(operand) => Ok(owned(!self.boolean(operand, variable, "!")?)),
            Term::Negate(operand) => {
                let value = self.term(operand, variable)?;
                arithmetic(Operator::Subtract, &Value::from(0), &value)
                    .unwrap_or_else(|| Err(format!("negates {}", kind(&value))))
                    .map(Cow::Owned)
            }
            Term::And(left, right) => self.logic(left, right, variable, false),
            Term::Or(left, right) => self.logic(left, right, variable, true),
            Term::Conditional(parts) => {
                let [condition, yes, no] = parts.as_ref();
                let chosen = if self.boolean(condition, variable, "?")? { yes } else { no };
                self.term(chosen, variable)
            }
            Term::Binary(operator, left, right) => {
                let left = self.term(left, variable)?;
                let right = self.term(right, variable)?;
                self.binary(*operator, &left, &right).map(Cow::Owned)
            }
            Term::Call(function, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(self.term(argument, variable)?);
                }
                self.call(*function, &values).map(Cow::Owned)
            }
            Term::Macro(kind, parts) => self.run_macro(*kind, parts, variable).map(Cow::Owned),
        }
    }

    fn list<'a>(&mut self, items: &'a [Term], variable: Option<Variable<'a>>) -> Found<'a>
    where
        's: 'a,
    {
        let mut list = Vec::with_capacity(items.len());
        let mut bytes = 8;
        for item in items {
            let value = self.term(item, variable)?;
            bytes += weight(&value);
            self.make(bytes)?;
            list.push(value.into_owned());
        }
        Ok(Cow::Owned(Value::Array(list)))
    }

    fn map<'a>(&mut self, entries: &'a [(Term, Term)], variable: Option<Variable<'a>>) -> Found<'a>
    where
        's: 'a,
    {
        let mut map = Map::new();
        let mut bytes = 8;
        for (key, value) in entries {
            let key = match self.term(key, variable)?.as_ref() {
                Value::String(key) => key.clone(),
                other => return Err(format!("makes a map with {} as a key; keys are texts", kind(other))),
            };
            let value = self.term(value, variable)?;
            bytes += 8 + key.len() + weight(&value);
            self.make(bytes)?;
            if map.contains_key(&key) {
                return Err(format!("makes a map with the key {key:?} twice"));
            }
            map.insert(key, value.into_owned());
        }
        Ok(Cow::Owned(Value::Object(map)))
    }

    fn boolean<'a>(
        &mut self,
        term: &'a Term,
        variable: Option<Variable<'a>>,
        wants: &str,
    ) -> Result<bool, String>
    where
        's: 'a,
    {
        match self.term(term, variable)?.as_ref() {
            Value::Bool(value) => Ok(*value),
            other => Err(format!("has {} where `{wants}` wants a boolean", kind(other))),
        }
    }

    /// `&&` and `||`: one side that decides is enough, even where the other has an error.
    fn logic<'a>(
        &mut self,
        left: &'a Term,
        right: &'a Term,
        variable: Option<Variable<'a>>,
        decides: bool,
    ) -> Found<'a>
    where
        's: 'a,
    {
        let sign = if decides { "||" } else { "&&" };
        let first = self.boolean(left, variable, sign);
        if first == Ok(decides) {
            return Ok(owned(decides));
        }
        let second = self.boolean(right, variable, sign);
        if second == Ok(decides) {
            return Ok(owned(decides));
        }
        first.and(second).map(owned)
    }

    fn binary(&mut self, operator: Operator, left: &Value, right: &Value) -> Result<Value, String> {
        let unfit = |sign: &str| format!("uses `{sign}` on {} and {}", kind(left), kind(right));
        match operator {
            Operator::Equal => self.equal(left, right).map(Value::Bool),
            Operator::Unequal => self.equal(left, right).map(|equal| Value::Bool(!equal)),
            Operator::In => self.contains(right, left).map(Value::Bool),
            Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast => {
                let order = self.order(left, right)?.ok_or_else(|| unfit("<"))?;
                Ok(Value::Bool(match operator {
                    Operator::Less => order.is_lt(),
                    Operator::AtMost => order.is_le(),
                    Operator::Greater => order.is_gt(),
                    _ => order.is_ge(),
                }))
            }
            Operator::Add => match (left, right) {
                (Value::String(a), Value::String(b)) => {
                    self.make(8 + a.len() + b.len())?;
                    Ok(Value::String([a.as_str(), b.as_str()].concat()))
                }
                (Value::Array(a), Value::Array(b)) => {
                    self.make(weight(left) + weight(right))?;
                    Ok(Value::Array(a.iter().chain(b).cloned().collect()))
                }
                _ => arithmetic(operator, left, right).unwrap_or_else(|| Err(unfit("+"))),
            },
            Operator::Subtract => arithmetic(operator, left, right).unwrap_or_else(|| Err(unfit("-"))),
            Operator::Multiply => arithmetic(operator, left, right).unwrap_or_else(|| Err(unfit("*"))),
            Operator::Divide => arithmetic(operator, left, right).unwrap_or_else(|| Err(unfit("/"))),
            Operator::Remainder => arithmetic(operator, left, right).unwrap_or_else(|| Err(unfit("%"))),
        }
    }

    fn equal(&mut self, left: &Value, right: &Value) -> Result<bool, String> {
        self.spend(0)?;
        match (left, right) {
            (Value::String(a), Value::String(b)) => {
                self.spend(a.len().min(b.len()))?;
                Ok(a == b)
            }
            (Value::Number(a), Value::Number(b)) => Ok(compare(a, b) == Some(Ordering::Equal)),
            (Value::Array(a), Value::Array(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(a), Value::Object(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (key, a) in a {
                    match b.get(key) {
                        Some(b) if self.equal(a, b)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            _ => Ok(left == right),
        }
    }

    fn order(&mut self, left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
        match (left, right) {
            (Value::Number(a), Value::Number(b)) => Ok(compare(a, b)),
            (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
            (Value::String(a), Value::String(b)) => {
                self.spend(a.len().min(b.len()))?;
                Ok(Some(a.cmp(b)))
            }
            _ => Ok(None),
        }
    }

    fn contains(&mut self, container: &Value, item: &Value) -> Result<bool, String> {
        match container {
            Value::Array(items) => {
                for own in items {
                    if self.equal(own, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Object(members) => Ok(item.as_str().is_some_and(|key| members.contains_key(key))),
            other => Err(format!("uses `in` on {}; it wants a list or a map", kind(other))),
        }
    }

    fn run_macro<'a>(
        &mut self,
        macro_kind: Macro,
        parts: &'a MacroParts,
        outer: Option<Variable<'a>>,
    ) -> Result<Value, String>
    where
        's: 'a,
    {
        let range = self.term(&parts.range, outer)?;
        let keys;
        let items: &[Value] = match range.as_ref() {
            Value::Array(items) => items,
            Value::Object(members) => {
                self.make(weight(&range))?;
                keys = members.keys().map(|key| Value::from(key.as_str())).collect::<Vec<_>>();
                &keys
            }
            other => return Err(format!("goes through {}; a macro wants a list or a map", kind(other))),
        };
        let mut made = Vec::new();
        let mut bytes = 8;
        let mut hits = 0;
        let mut error = None;
        for item in items {
            if macro_kind == Macro::Map {
                if let Some(filter) = &parts.filter
                    && !self.judge(parts, filter, item)?
                {
                    continue;
                }
                let value = self.bound(parts, &parts.body, item)?;
                bytes += weight(&value);
                self.spend(weight(&value))?;
                check_size(bytes)?;
                made.push(value);
                continue;
            }
            match (macro_kind, self.judge(parts, &parts.body, item)) {
                (Macro::All, Ok(false)) => return Ok(Value::Bool(false)),
                (Macro::Exists, Ok(true)) => return Ok(Value::Bool(true)),
                (Macro::All | Macro::Exists, Err(why)) if self.left > 0 => error = error.or(Some(why)),
                (_, Err(why)) => return Err(why),
                (Macro::Filter, Ok(true)) => {
                    bytes += weight(item);
                    self.spend(weight(item))?;
                    check_size(bytes)?;
                    made.push(item.clone());
                }
                (Macro::ExistsOne, Ok(true)) => hits += 1,
                (_, Ok(_)) => {}
            }
        }
        match (macro_kind, error) {
            (_, Some(why)) => Err(why),
            (Macro::All, None) => Ok(Value::Bool(true)),
            (Macro::Exists, None) => Ok(Value::Bool(false)),
            (Macro::ExistsOne, None) => Ok(Value::Bool(hits == 1)),
            (Macro::Filter | Macro::Map, None) => Ok(Value::Array(made)),
        }
    }

    /// `term` with the macro's variable bound to `item`.
    fn bound(&mut self, parts: &MacroParts, term: &Term, item: &Value) -> Result<Value, String> {
        let mut inner = Evaluation { scope: self.scope, left: self.left, regex: self.regex.take() };
        let variable = Variable { name: &parts.variable, value: item };
        let value = inner.term(term, Some(variable)).map(Cow::into_owned);
        self.left = inner.left;
        self.regex = inner.regex;
        value
    }

    fn judge(&mut self, parts: &MacroParts, term: &Term, item: &Value) -> Result<bool, String> {
        match self.bound(parts, term, item)? {
            Value::Bool(value) => Ok(value),
            other => Err(format!("has {} as the condition of a macro, which wants a boolean", kind(&other))),
        }
    }

    fn call(&mut self, function: Function, arguments: &[Cow<'_, Value>]) -> Result<Value, String> {
        let values: Vec<&Value> = arguments.iter().map(Cow::as_ref).collect();
        let unfit = || {
            let kinds: Vec<_> = values.iter().map(|value| kind(value)).collect();
            format!("calls `{}` on {}", function.name(), kinds.join(" and "))
        };
        match (function, &values[..]) {
            (Function::Size, [value]) => size(value).map(Value::from).ok_or_else(unfit),
            (Function::Text, [value]) => {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    Value::Bool(value) => value.to_string(),
                    _ => return Err(unfit()),
                };
                self.make(8 + text.len())?;
                Ok(Value::String(text))
            }
            (Function::Int, [value]) => to_int(value).ok_or_else(unfit),
            (Function::Double, [value]) => to_double(value).ok_or_else(unfit),
            (Function::Bool, [Value::Bool(value)]) => Ok(Value::Bool(*value)),
            (Function::Bool, [Value::String(text)]) => match text.as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(unfit()),
            },
            (Function::Join, [Value::Array(items), Value::String(between)]) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                let texts =
                    texts.ok_or_else(|| "joins a list that holds something else than texts".to_owned())?;
                self.make(8 + texts.iter().map(|text| text.len() + between.len()).sum::<usize>())?;
                Ok(Value::String(texts.join(between)))
            }
            (_, [Value::String(text), rest @ ..]) => {
                let rest: Option<Vec<&str>> = rest.iter().map(|value| value.as_str()).collect();
                self.text_call(function, text, &rest.ok_or_else(unfit)?).unwrap_or_else(|| Err(unfit()))
            }
            _ => Err(unfit()),
        }
    }

    /// The time of the trigger, moved by `shift`, in the form of `format`.
    fn date(&mut self, format: &str, shift: &str) -> Result<Value, String> {
        let now = self.scope.now().ok_or("asks for the date where there is no clock")?;
        let format = DateFormat::new(format).map_err(|invalid| format!("calls `date` wrongly: {invalid}"))?;
        let moved = date::shifted(now, shift).ok_or_else(|| {
            format!("calls `date` with {shift:?}; write how far to move, such as \"2d\" or \"-1h\"")
        })?;
        Ok(Value::String(format.write(moved)))
    }

    /// Functions of a text; `None` if there is none of this shape.
    fn text_call(&mut self, function: Function, text: &str, rest: &[&str]) -> Option<Result<Value, String>> {
        if let Err(why) = self.spend(text.len()) {
            return Some(Err(why));
        }
        Some(match (function, rest) {
            (Function::Contains, [part]) => Ok(Value::Bool(text.contains(part))),
            (Function::StartsWith, [part]) => Ok(Value::Bool(text.starts_with(part))),
            (Function::EndsWith, [part]) => Ok(Value::Bool(text.ends_with(part))),
            (Function::Matches, [pattern]) => self.matches(text, pattern).map(Value::Bool),
            (Function::LowerAscii, []) => {
                self.make(8 + text.len()).map(|()| text.to_ascii_lowercase().into())
            }
            (Function::UpperAscii, []) => {
                self.make(8 + text.len()).map(|()| text.to_ascii_uppercase().into())
            }
            (Function::Trim, []) => self.make(8 + text.len()).map(|()| text.trim().into()),
            (Function::Split, [separator]) => {
                let parts = if separator.is_empty() {
                    text.chars().count()
                } else {
                    text.matches(separator).count() + 1
                };
                self.make(8 + text.len() + 8 * parts).map(|()| match separator.is_empty() {
                    true => text.chars().map(|c| Value::from(c.to_string())).collect(),
                    false => text.split(separator).map(Value::from).collect(),
                })
            }
            (Function::Date, []) => self.date(text, "0s"),
            (Function::DateShifted, [shift]) => self.date(text, shift),
            (Function::Replace, [from, to]) => {
                let times = text.matches(from).count();
                self.make(8 + text.len() + times * to.len()).map(|()| text.replace(from, to).into())
            }
            _ => return None,
        })
    }

    fn matches(&mut self, text: &str, pattern: &str) -> Result<bool, String> {
        // In the worst case a search looks at each character once for every state that it can be in: a unit a character.
        self.spend(text.len().saturating_mul(64))?;
        if self.regex.as_ref().is_none_or(|(last, _)| last != pattern) {
            self.spend(MAX_REGEX / 16)?;
            let regex = regex::RegexBuilder::new(pattern)
                .size_limit(MAX_REGEX)
                .dfa_size_limit(MAX_REGEX)
                .nest_limit(32)
                .build()
                .map_err(|_| {
                    format!(
                        "has the pattern {:?}, which is not a regular expression or too large",
                        pattern.chars().take(80).collect::<String>()
                    )
                })?;
            self.regex = Some((pattern.to_owned(), regex));
        }
        Ok(self.regex.as_ref().is_some_and(|(_, regex)| regex.is_match(text)))
    }
}

fn check_size(bytes: usize) -> Result<(), String> {
    if bytes > MAX_VALUE { Err(format!("makes a value larger than {MAX_VALUE} bytes")) } else { Ok(()) }
}

fn owned<'a>(value: bool) -> Cow<'a, Value> {
    Cow::Owned(Value::Bool(value))
}

fn member<'a>(value: Cow<'a, Value>, field: &str) -> Found<'a> {
    let missing = |members: &Map<String, Value>| {
        let names: Vec<_> = members.keys().take(10).map(String::as_str).collect();
        format!(
            "names the field `{field}`, which is not there; there is {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        )
    };
    match value {
        Cow::Borrowed(Value::Object(members)) => {
            members.get(field).map(Cow::Borrowed).ok_or_else(|| missing(members))
        }
        Cow::Owned(Value::Object(mut members)) => {
            members.remove(field).map(Cow::Owned).ok_or_else(|| missing(&members))
        }
        other => Err(format!("names the field `{field}` of {}", kind(&other))),
    }
}

fn index<'a>(value: Cow<'a, Value>, key: &Value) -> Found<'a> {
    match (value.as_ref(), key) {
        (Value::Object(_), Value::String(field)) => member(value, field),
        (Value::Array(items), Value::Number(number)) => {
            let at = number.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < items.len());
            let at = at.ok_or_else(|| format!("takes the item {number} of a list of {}", items.len()))?;
            Ok(match value {
                Cow::Borrowed(Value::Array(items)) => Cow::Borrowed(&items[at]),
                other => match other.into_owned() {
                    Value::Array(mut items) => Cow::Owned(items.swap_remove(at)),
                    whole => Cow::Owned(whole),
                },
            })
        }
        (value, key) => Err(format!("takes an item of {} by {}", kind(value), kind(key))),
    }
}

fn size(value: &Value) -> Option<u64> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => return None,
    };
    u64::try_from(size).ok()
}

#[expect(clippy::cast_possible_truncation, reason = "only a double without a fraction inside ±2^53")]
fn to_int(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let double = number.as_f64()?.trunc();
            (double.abs() <= MAX_INTEGER as f64).then_some(double as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|number: &i64| number.unsigned_abs() <= MAX_INTEGER).map(Value::from)
}

fn to_double(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.and_then(Number::from_f64).map(Value::Number)
}

fn compare(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i64(), right.as_i64()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// Arithmetic on numbers; `None` if one is not a number. Integers stay integers and inside ±(2^53 - 1).
fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Option<Result<Value, String>> {
    let (Value::Number(left), Value::Number(right)) = (left, right) else { return None };
    if let (Some(a), Some(b)) = (left.as_i64(), right.as_i64()) {
        if b == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
            return Some(Err("divides by zero".to_owned()));
        }
        let result = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide => a.checked_div(b),
            Operator::Remainder => a.checked_rem(b),
            _ => return None,
        };
        let inside = result.filter(|number| number.unsigned_abs() <= MAX_INTEGER);
        return Some(
            inside.map(Value::from).ok_or_else(|| "comes to an integer beyond ±(2^53 - 1)".to_owned()),
        );
    }
    let (a, b) = (left.as_f64()?, right.as_f64()?);
    let result = match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        _ => return None,
    };
    Some(
        Number::from_f64(result)
            .map(Value::Number)
            .ok_or_else(|| "comes to a number that is not finite".to_owned()),
    )
}
