//! From the parser's tree to a small one of our own: known functions, known roots, no macro inside a macro.

use cel::{
    Env, IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue, operators},
};
use serde_json::Value;

use super::{Flaw, function::Function};

/// A checked expression.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) node: Term,
    pub(super) references: Vec<Reference>,
}

/// Where a name in an expression begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// `options.x`.
    Options,
    /// `project.name`.
    Project,
    /// `execution.id`, `.job`, `.revision`, `.started_by`.
    Execution,
    /// `steps.x`.
    Steps,
    /// `node.name`, `.tags`, `.attributes['x']`, or an attribute by its name.
    Node,
    /// `date(…)`: the day and time at which the job is triggered.
    Clock,
    /// `item`: what a step with `for_each` is at; a value of any type.
    Item,
    /// `error.outcome`, `error.message`: why an error handler is run.
    Error,
}

impl Root {
    const ALL: [(&str, Self); 7] = [
        ("options", Self::Options),
        ("project", Self::Project),
        ("execution", Self::Execution),
        ("steps", Self::Steps),
        ("node", Self::Node),
        ("item", Self::Item),
        ("error", Self::Error),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(own, _)| *own == name).map(|(_, root)| root)
    }

    /// The word in expressions.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, root)| *root == self).map_or("", |(name, _)| name)
    }
}

/// Something that an expression names: `options.service`, `steps.drain`, `node.rack`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Where it begins.
    pub root: Root,
    /// The first field.
    pub field: String,
    /// The second field, if one is named: for steps `outcome`, `outputs` or `nodes`.
    pub second: Option<String>,
}

#[derive(Debug)]
pub(super) enum Term {
    Literal(Value),
    Root(Root, String),
    Variable(String),
    List(Vec<Term>),
    Map(Vec<(Term, Term)>),
    Select(Box<Term>, String),
    /// `has(operand.field)`.
    Has(Box<Term>, String),
    /// `has(options.x)` and the like.
    HasRoot(Root, String),
    Index(Box<Term>, Box<Term>),
    Not(Box<Term>),
    Negate(Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    Conditional(Box<[Term; 3]>),
    Binary(Operator, Box<Term>, Box<Term>),
    Call(Function, Vec<Term>),
    Macro(Macro, Box<MacroParts>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Debug)]
pub(super) struct MacroParts {
    pub(super) range: Term,
    pub(super) variable: String,
    /// The first argument of `map` with three.
    pub(super) filter: Option<Term>,
    pub(super) body: Term,
}

fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        operators::ADD => Operator::Add,
        operators::SUBSTRACT => Operator::Subtract,
        operators::MULTIPLY => Operator::Multiply,
        operators::DIVIDE => Operator::Divide,
        operators::MODULO => Operator::Remainder,
        operators::EQUALS => Operator::Equal,
        operators::NOT_EQUALS => Operator::Unequal,
        operators::LESS => Operator::Less,
        operators::LESS_EQUALS => Operator::AtMost,
        operators::GREATER => Operator::Greater,
        operators::GREATER_EQUALS => Operator::AtLeast,
        operators::IN => Operator::In,
        _ => return None,
    })
}

fn macro_of(name: &str, arguments: usize) -> Option<Macro> {
    Some(match (name, arguments) {
        ("all", 2) => Macro::All,
        ("exists", 2) => Macro::Exists,
        ("exists_one" | "existsOne", 2) => Macro::ExistsOne,
        ("filter", 2) => Macro::Filter,
        ("map", 2 | 3) => Macro::Map,
        _ => return None,
    })
}

impl Program {
    /// Parses a source that [`super::scan::check`] has accepted.
    pub(super) fn parse(source: &str) -> Result<Self, Flaw> {
        // Without the macros' expansion: they stay calls, which we evaluate ourselves.
        let parser = Env::default().with_optional_support(false).parser();
        let tree =
            parser.max_recursion_depth(64).error_recovery_limit(4).parse(source).map_err(|errors| {
                let first = errors.errors.first();
                let why = first.map(|error| error.msg.lines().next().unwrap_or_default().to_owned());
                Flaw {
                    why: format!("cannot be read: {}", why.unwrap_or_default()),
                    column: first
                        .and_then(|error| u32::try_from(error.pos.1).ok())
                        .filter(|column| *column > 0),
                }
            })?;
        let mut lower = Lower { references: Vec::new(), variable: None };
        let node = lower.term(tree)?;
        lower.references.sort();
        lower.references.dedup();
        Ok(Self { node, references: lower.references })
    }
}

struct Lower {
    references: Vec<Reference>,
    /// The variable of the macro that we are in.
    variable: Option<String>,
}

impl Lower {
    fn term(&mut self, tree: IdedExpr) -> Result<Term, Flaw> {
        match self.operand(tree)? {
            Term::Root(Root::Steps, step) => Err(Flaw::new(format!(
                "names `steps.{step}` as a whole; name `steps.{step}.outcome`, `.outputs` or `.nodes`"
            ))),
            term => Ok(term),
        }
    }

    /// A term that is taken apart by what stands around it: here a step may stand as a whole.
    fn operand(&mut self, tree: IdedExpr) -> Result<Term, Flaw> {
        match tree.expr {
            Expr::Literal(literal) => literal_value(&literal).map(Term::Literal),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                let (operand, field) = (*select.operand, select.field);
                if let Some(root) = self.root(&operand) {
                    return self.reference(root, field);
                }
                let operand = self.operand(operand)?;
                self.second_field(&operand, &field)?;
                Ok(Term::Select(Box::new(operand), field))
            }
            Expr::List(list) => list
                .elements
                .into_iter()
                .map(|item| self.term(item))
                .collect::<Result<_, _>>()
                .map(Term::List),
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in map.entries {
                    if let EntryExpr::MapEntry(entry) = entry.expr {
                        entries.push((self.term(entry.key)?, self.term(entry.value)?));
                    }
                }
                Ok(Term::Map(entries))
            }
            Expr::Call(call) => match call.target {
                None => self.call(&call.func_name, call.args),
                Some(target) => self.method(*target, &call.func_name, call.args),
            },
            Expr::Struct(_) => Err(Flaw::new("makes a message; only lists and maps can be made here")),
            Expr::Comprehension(_) | Expr::Unspecified => Err(Flaw::new("cannot be read")),
        }
    }

    fn name(&mut self, name: String) -> Result<Term, Flaw> {
        if self.variable.as_ref() == Some(&name) {
            return Ok(Term::Variable(name));
        }
        Err(Flaw::new(match Root::parse(&name) {
            Some(Root::Item) => {
                self.references.push(Reference { root: Root::Item, field: String::new(), second: None });
                return Ok(Term::Root(Root::Item, String::new()));
            }
            Some(_) => format!("names `{name}` as a whole; name what you want of it, such as `{name}.x`"),
            None => format!(
                "names `{name}`, which does not exist; there are options, project, execution, steps; node in a step that is run per node, item in one with `for_each`, error in an error handler"
            ),
        }))
    }

    fn root(&self, operand: &IdedExpr) -> Option<Root> {
        match &operand.expr {
            // The item is a value like any other: what is selected of it is nobody's to check here.
            Expr::Ident(name) if self.variable.as_ref() != Some(name) => {
                Root::parse(name).filter(|root| *root != Root::Item)
            }
            _ => None,
        }
    }

    fn reference(&mut self, root: Root, field: String) -> Result<Term, Flaw> {
        let known: &[&str] = match root {
            Root::Execution => &["id", "job", "revision", "started_by"],
            Root::Error => &["outcome", "message"],
            // Which variables the project has is known when the job is run.
            Root::Project | Root::Options | Root::Steps | Root::Node | Root::Item | Root::Clock => &[],
        };
        if !known.is_empty() && !known.contains(&field.as_str()) {
            return Err(Flaw::new(format!(
                "names `{}.{field}`, which does not exist; there is {}",
                root.as_str(),
                known.join(", ")
            )));
        }
        self.references.push(Reference { root, field: field.clone(), second: None });
        Ok(Term::Root(root, field))
    }

    /// Notes which part of a step is named, and refuses parts that no step has.
    fn second_field(&mut self, operand: &Term, field: &str) -> Result<(), Flaw> {
        match operand {
            Term::Root(Root::Steps, step) => {
                if !["outcome", "outputs", "nodes"].contains(&field) {
                    return Err(Flaw::new(format!(
                        "names `steps.{step}.{field}`; a step has `outcome`, `outputs` and, if it is run per node, `nodes`"
                    )));
                }
                let second = Some(field.to_owned());
                self.references.push(Reference { root: Root::Steps, field: step.clone(), second });
                Ok(())
            }
            Term::Select(inner, part) if part == "nodes" => match inner.as_ref() {
                Term::Root(Root::Steps, step) if !["succeeded", "failed"].contains(&field) => {
                    Err(Flaw::new(format!(
                        "names `steps.{step}.nodes.{field}`; there is `nodes.succeeded` and `nodes.failed`"
                    )))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn call(&mut self, name: &str, mut arguments: Vec<IdedExpr>) -> Result<Term, Flaw> {
        if name == operators::HAS {
            return self.has(arguments);
        }
        if name == operators::INDEX
            && let [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }] = &arguments[..]
            && let Some(root) = self.root(operand)
        {
            return self.reference(root, key.inner().to_owned());
        }
        if name == operators::INDEX
            && let [_, IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }] = &arguments[..]
        {
            let key = key.inner().to_owned();
            let operand = self.operand(arguments.swap_remove(0))?;
            self.second_field(&operand, &key)?;
            return Ok(Term::Select(Box::new(operand), key));
        }
        let written = arguments.len();
        let mut terms =
            arguments.into_iter().map(|argument| self.term(argument)).collect::<Result<Vec<_>, _>>()?;
        let mut next = || terms.pop().map(Box::new).ok_or_else(|| Flaw::new("cannot be read"));
        Ok(match (name, written) {
            (operators::LOGICAL_NOT, 1) => Term::Not(next()?),
            (operators::NEGATE, 1) => Term::Negate(next()?),
            (operators::LOGICAL_AND, 2) => {
                let right = next()?;
                Term::And(next()?, right)
            }
            (operators::LOGICAL_OR, 2) => {
                let right = next()?;
                Term::Or(next()?, right)
            }
            (operators::INDEX, 2) => {
                let key = next()?;
                Term::Index(next()?, key)
            }
            (operators::CONDITIONAL, 3) => {
                let no = next()?;
                let yes = next()?;
                Term::Conditional(Box::new([*next()?, *yes, *no]))
            }
            _ => match operator(name) {
                Some(operator) if written == 2 => {
                    let right = next()?;
                    Term::Binary(operator, next()?, right)
                }
                _ => {
                    let function = Function::find(name, written, false)?;
                    if matches!(function, Function::Date | Function::DateShifted) {
                        self.references.push(Reference {
                            root: Root::Clock,
                            field: function.name().to_owned(),
                            second: None,
                        });
                    }
                    Term::Call(function, terms)
                }
            },
        })
    }

    fn has(&mut self, mut arguments: Vec<IdedExpr>) -> Result<Term, Flaw> {
        let wanted = || Flaw::new("uses `has` without a field: write `has(options.x)` or `has(node.rack)`");
        let (Some(argument), true) = (arguments.pop(), arguments.is_empty()) else { return Err(wanted()) };
        match self.operand(argument)? {
            Term::Root(root, field) => Ok(Term::HasRoot(root, field)),
            Term::Select(operand, field) => Ok(Term::Has(operand, field)),
            _ => Err(wanted()),
        }
    }

    fn method(&mut self, target: IdedExpr, name: &str, mut arguments: Vec<IdedExpr>) -> Result<Term, Flaw> {
        let Some(kind) = macro_of(name, arguments.len()) else {
            let function = Function::find(name, arguments.len() + 1, true)?;
            let mut terms = vec![self.term(target)?];
            for argument in arguments {
                terms.push(self.term(argument)?);
            }
            return Ok(Term::Call(function, terms));
        };
        if self.variable.is_some() {
            return Err(Flaw::new(format!(
                "has the macro `{name}` inside a macro; take it out into an option or a step of its own"
            )));
        }
        let range = self.term(target)?;
        let body = arguments.pop();
        let filter = if arguments.len() == 2 { arguments.pop() } else { None };
        let variable = match arguments.pop().map(|first| first.expr) {
            Some(Expr::Ident(variable)) if Root::parse(&variable).is_none_or(|root| root == Root::Item) => {
                variable
            }
            _ => return Err(Flaw::new(format!("has no variable in `{name}`: write `{name}(x, …)`"))),
        };
        self.variable = Some(variable.clone());
        let filter = filter.map(|filter| self.term(filter)).transpose()?;
        let body = body.map(|body| self.term(body)).transpose()?;
        self.variable = None;
        let body = body.ok_or_else(|| Flaw::new("cannot be read"))?;
        Ok(Term::Macro(kind, Box::new(MacroParts { range, variable, filter, body })))
    }
}

fn literal_value(literal: &LiteralValue) -> Result<Value, Flaw> {
    match literal {
        LiteralValue::Boolean(value) => Ok(Value::Bool(*value.inner())),
        LiteralValue::Int(value) => Ok(Value::from(*value.inner())),
        LiteralValue::Double(value) => serde_json::Number::from_f64(*value.inner())
            .map(Value::Number)
            .ok_or_else(|| Flaw::new("holds a number that is too large")),
        LiteralValue::String(value) => Ok(Value::String(value.inner().to_owned())),
        LiteralValue::Null => Ok(Value::Null),
        LiteralValue::UInt(_) => Err(Flaw::new("holds an unsigned number; write it without the `u`")),
        LiteralValue::Bytes(_) => Err(Flaw::new("holds bytes; only text can stand here")),
    }
}
