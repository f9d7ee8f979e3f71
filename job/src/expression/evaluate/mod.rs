//! Evaluation within a budget: so many steps, so many bytes, no value above 1 MiB.

mod call;
mod value;

use std::{borrow::Cow, cmp::Ordering};

use serde_json::{Map, Value};

pub(crate) use self::value::weight;
use self::value::{Found, arithmetic, check_size, compare, index, kind, member, owned};
use super::{
    program::{Macro, MacroParts, Operator, Program, Term},
    scope::Scope,
};

/// What one evaluation may spend: a unit is one term evaluated or about 64 bytes copied or compared. One node list of
/// 100,000 names can be filtered; it takes well under a second.
const BUDGET: u64 = 4_000_000;

/// What `program` comes to, or why it comes to nothing as the end of a sentence that begins with "the expression".
pub(super) fn evaluate(program: &Program, scope: &Scope) -> Result<Value, String> {
    let mut evaluation = Evaluation { scope, left: BUDGET, regex: None };
    let value = evaluation.term(&program.node, None)?;
    evaluation.keep(value)
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
}
