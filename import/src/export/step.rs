//! Steps as Rundeck has them: commands, scripts, references to jobs. What is none of these becomes a command that fails.

use remit_job::{
    document::{JobAction, Per},
    source::{ComponentSource, Does, StepSource},
};
use serde_json::Value;

use super::{Exporter, text::Context};
use crate::{
    job::{Kind, Report},
    log,
    step::STAGE,
    write::{Tree, map},
};

type Members = Vec<(String, Tree)>;

/// One step.
pub(super) fn export(step: &StepSource, context: &Context, all: &Exporter<'_>, report: &mut Report) -> Tree {
    let place = format!("steps.{}", step.name);
    let (filters, whole) = log::filters(&step.log);
    for (there, what) in [
        (step.timeout.is_some(), "the timeout of a step"),
        (step.retry.is_some(), "trying a step again"),
        (step.group.is_some(), "steps beside one another"),
        (step.for_each.is_some(), "a step for each value of a list"),
        (!whole, "cutting what a step writes, or hiding only groups of a pattern in it"),
    ] {
        if there {
            report.add(Kind::Lost, &place, format!("{what} has no counterpart"));
        }
    }
    let made = match &step.does {
        Does::Component(component) => self::component(component, step.per, context),
        Does::Job(job) => reference(job, context, all),
        Does::Gate(_) => Err("a gate".to_owned()),
        Does::Halt(_) => Err("a step that ends the job".to_owned()),
    };
    let mut made = made.unwrap_or_else(|why| failing(&why, &place, report));
    if let Some((handler, recover)) = &step.on_error {
        let place = format!("{place}.on_error");
        let handler = component(handler, step.per, context);
        let mut handler = handler.unwrap_or_else(|why| failing(&why, &place, report));
        if *recover {
            handler.push(("keepgoingOnSuccess".to_owned(), Tree::Scalar(true.into())));
        }
        made.push(("errorhandler".to_owned(), Tree::Map(handler)));
    }
    if !filters.is_empty() {
        made.push(("plugins".to_owned(), map([("LogFilter", Tree::List(filters))])));
    }
    Tree::Map(made)
}

/// A command that fails, and says for what it stands.
fn failing(why: &str, place: &str, report: &mut Report) -> Members {
    report.add(Kind::Placeholder, place, format!("{why}: a command that fails stands for it"));
    vec![("exec".to_owned(), "echo \"not exported\" >&2; false".into())]
}

fn component(component: &ComponentSource, per: Per, context: &Context) -> Result<Members, String> {
    let with = component.with.source();
    let texts = |key: &str| -> Option<Vec<String>> {
        let items = with.get(key)?.as_array()?.iter();
        items.map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let stdin = with.get("stdin").and_then(Value::as_str);
    let keys = with.as_object().map(|map| map.len()).unwrap_or_default();
    match (component.uses.name().as_str(), per) {
        ("remit/ssh-command", Per::Node) if keys == 1 + usize::from(stdin.is_some()) => {
            let argv = texts("argv").ok_or("a command that is not a list of texts")?;
            on_node(&argv, stdin, context)
        }
        ("remit/run-command", Per::Once) if keys == 3 => {
            let program = with.get("program").and_then(Value::as_str).unwrap_or_default();
            let args = texts("args").ok_or("a command that is not a list of texts")?;
            on_host(program, &args, stdin.unwrap_or_default(), context)
        }
        ("remit/transform", _) => placeholder(with, per),
        (name, _) => Err(format!("the component {name}")),
    }
}

/// A plugin that an import has put a placeholder for.
fn placeholder(with: &Value, per: Per) -> Result<Members, String> {
    let value = with.get("value").filter(|value| value.get("not imported").is_some());
    let kind = value.and_then(|value| value.get("type")).and_then(Value::as_str).unwrap_or_default();
    if kind.is_empty() || kind.contains("${") {
        return Err("the component remit/transform".to_owned());
    }
    Ok(vec![
        ("type".to_owned(), kind.into()),
        ("nodeStep".to_owned(), Tree::Scalar((per == Per::Node).into())),
        ("configuration".to_owned(), map([])),
    ])
}

fn on_node(argv: &[String], stdin: Option<&str>, context: &Context) -> Result<Members, String> {
    let other = || "a command that is not one of a shell".to_owned();
    let [shell, option, script, name, values @ ..] = argv else { return Err(other()) };
    if (shell.as_str(), option.as_str(), name.as_str()) != ("sh", "-c", "sh") {
        return Err(other());
    }
    let Some(stdin) = stdin else {
        return Ok(vec![("exec".to_owned(), context.command(script, values)?.into())]);
    };
    let run = script.strip_prefix(STAGE).ok_or_else(other)?;
    // The interpreter's own words come first; so many are taken off before the script is run.
    let count = run.matches("; shift; ").count();
    let (interpreter, arguments) = values.split_at_checked(count).ok_or_else(other)?;
    if crate::step::run_line(count) != run {
        return Err(other());
    }
    self::script(stdin, interpreter, arguments, context)
}

fn on_host(program: &str, args: &[String], stdin: &str, context: &Context) -> Result<Members, String> {
    let own = crate::step::own_arguments(program).ok_or("a program that is no interpreter")?;
    let arguments = strip(args, own).ok_or("a program with arguments of its own")?;
    let interpreter = if program == "sh" { Vec::new() } else { vec![program.to_owned()] };
    // The first line of a script would be taken for its interpreter.
    if stdin.starts_with("#!") && crate::step::host_program(stdin, &interpreter).as_deref() != Ok(program) {
        return Err("a script whose first line names another interpreter".to_owned());
    }
    let interpreter = if stdin.starts_with("#!") { Vec::new() } else { interpreter };
    self::script(stdin, &interpreter, arguments, context)
}

fn script(
    text: &str,
    interpreter: &[String],
    arguments: &[String],
    context: &Context,
) -> Result<Members, String> {
    let text = context.verbatim(text)?;
    if crate::step::token(&text).is_some() {
        return Err("a script with an `@…@` that Rundeck would replace".to_owned());
    }
    let mut made = vec![("script".to_owned(), Tree::from(text))];
    if !arguments.is_empty() {
        made.push(("args".to_owned(), context.line(arguments)?.into()));
    }
    if !interpreter.is_empty() {
        let words = interpreter.iter().map(|text| super::text::word(text)).collect::<Vec<_>>();
        made.push(("scriptInterpreter".to_owned(), words.join(" ").into()));
    }
    Ok(made)
}

fn reference(job: &JobAction, context: &Context, all: &Exporter<'_>) -> Result<Members, String> {
    if job.tags.is_some() {
        return Err(format!("running {} at other runners", job.job));
    }
    let target = all.sources.iter().find(|source| source.job == job.job);
    let target = target.ok_or_else(|| format!("running {}, which is not exported with it", job.job))?;
    let mut words = Vec::new();
    let given = job.with.source().as_object();
    for (name, value) in given.into_iter().flatten() {
        let text = match value {
            Value::String(text) => match list_of(text) {
                // A whole list is handed on by its name.
                Some(name) if context.delimiters.contains_key(name) => format!("${{option.{name}}}"),
                _ => context.text(text)?,
            },
            Value::Array(items) => {
                let texts = items.iter().map(|item| context.text(item.as_str().unwrap_or_default()));
                texts.collect::<Result<Vec<_>, _>>()?.join(&all.delimiter(target, name))
            }
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err(format!("the option {name} of {}", job.job)),
        };
        words.push(format!("-{name}"));
        words.push(super::text::word(&text));
    }
    let mut inner = vec![("name".to_owned(), Tree::from(job.job.as_str()))];
    inner.push(("group".to_owned(), target.group.as_str().into()));
    inner.push(("useName".to_owned(), "true".into()));
    if !words.is_empty() {
        inner.push(("args".to_owned(), words.join(" ").into()));
    }
    if let Some(nodes) = &job.nodes {
        inner.push(("nodefilters".to_owned(), map([("filter", context.text(nodes.as_str())?.into())])));
    }
    Ok(vec![("jobref".to_owned(), Tree::Map(inner))])
}

/// What stands behind the arguments by which a program reads its script.
fn strip<'a>(args: &'a [String], own: &[&str]) -> Option<&'a [String]> {
    let (first, rest) = args.split_at_checked(own.len())?;
    first.iter().zip(own).all(|(arg, own)| arg == own).then_some(rest)
}

/// The option of `${options.x}` or `${has(options.x) ? options.x : []}`.
fn list_of(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("${")?.strip_suffix('}')?;
    let inside =
        inside.strip_suffix(" : []").and_then(|text| text.split_once(" ? ")).map_or(inside, |(_, path)| path);
    inside.strip_prefix("options.").filter(|name| !name.contains(['.', ' ', '(']))
}
