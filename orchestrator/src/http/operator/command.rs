//! Commands that are run once, without a job: compiled to a job document of one step, and run like any other.

use axum::{Extension, extract::State, http::StatusCode};
use remit_job::{compile::compile, document::Document, source::JobSource};
use remit_protocol::{
    ProjectName,
    endpoint::Fault,
    operator::{Command, CommandPlace, Plan, Triggered, path},
};
use serde_json::{Value, json};

use super::job::{plan_of, resolve};
use crate::{
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Json, Place},
    },
    scheduler::CommandRun,
};

/// Runs a command.
#[utoipa::path(post, path = path::COMMANDS, tag = "commands", params(("project" = ProjectName, Path)), request_body = Command, responses((status = 201, body = Triggered), (status = 200, body = Triggered)))]
pub(crate) async fn run(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(project): Place<ProjectName>,
    Json(command): Json<Command>,
) -> Result<(StatusCode, Json<Triggered>), Failure> {
    let said = shown(&command.argv);
    let run = wanted(&app, &caller, &project, command).await?;
    let triggered = app.scheduler.command(run).await?;
    app.tokens.execution_of(triggered.execution, &project);
    app.metrics.triggered.add(i64::from(triggered.new));
    if triggered.new {
        app.audit(caller.name(), "command.run", format!("{} {said}", triggered.execution)).await?;
    }
    let status = if triggered.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Triggered { execution: triggered.execution, created: triggered.new })))
}

/// Says what running a command would be, without running it.
#[utoipa::path(post, path = path::COMMAND_PLAN, tag = "commands", params(("project" = ProjectName, Path)), request_body = Command, responses((status = 200, body = Plan)))]
pub(crate) async fn plan(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(project): Place<ProjectName>,
    Json(command): Json<Command>,
) -> Result<Json<Plan>, Failure> {
    let run = wanted(&app, &caller, &project, command).await?;
    let drafted = app.scheduler.draft_command(&run).await?;
    plan_of(&app, drafted).await.map(Json)
}

async fn wanted(
    app: &App,
    caller: &Caller,
    project: &ProjectName,
    mut command: Command,
) -> Result<CommandRun, Failure> {
    super::project::find(app, project).await?;
    let bytes: usize = command.argv.iter().map(String::len).sum();
    if command.argv.len() > Command::MOST_ARGUMENTS || bytes > Command::MOST_BYTES {
        let message = format!(
            "The command has {} arguments of {bytes} bytes; at most {} of {} travel.",
            command.argv.len(),
            Command::MOST_ARGUMENTS,
            Command::MOST_BYTES
        );
        return Err(Failure::invalid(message, "Put it into a script, and run that as a job."));
    }
    if command.argv.first().is_none_or(String::is_empty) {
        return Err(Failure::invalid(
            "The command names no program.",
            "Write the program first, then its arguments.",
        ));
    }
    if let CommandPlace::Nodes { filter, .. } = &mut command.on {
        let saved = super::project::saved_filter(app, project, Some(std::mem::take(filter))).await?;
        *filter = saved.unwrap_or_default();
    }
    let source = JobSource::parse(&source(&command).to_string()).map_err(faults)?;
    let components = resolve(app, &source).await?;
    let document: Document =
        compile(&source, project, &|selector| components.get(&selector.to_string()).cloned())
            .map_err(faults)?;
    Ok(CommandRun { document, started_by: caller.name().to_string(), key: command.idempotency_key })
}

/// The command as people see it: arguments with anything special in them in quotes.
fn shown(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let one = |argument: &String| match !argument.is_empty() && argument.chars().all(plain) {
        true => argument.clone(),
        false => format!("{argument:?}"),
    };
    argv.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The job file of a command, as JSON, which is YAML. Nothing that was typed is read as an expression.
fn source(command: &Command) -> Value {
    let literal = |text: &String| text.replace("${", "$${");
    let argv: Vec<String> = command.argv.iter().map(literal).collect();
    let mut step = match &command.on {
        CommandPlace::Nodes { key, .. } => json!({
            "uses": "remit/ssh-command@1", "per": "node", "with": {"argv": argv}, "secrets": {"key": key},
        }),
        CommandPlace::Runner => json!({
            "uses": "remit/run-command@1",
            "with": {"program": argv.first(), "args": argv.get(1..).unwrap_or_default()},
            "grant": {"exec": [{"program": command.argv.first()}]},
        }),
    };
    step["name"] = "run".into();
    if let Some(timeout) = command.timeout {
        step["timeout"] = timeout.to_string().into();
    }
    let mut description = shown(&command.argv);
    if let Some((cut, _)) = description.char_indices().nth(2000) {
        description.truncate(cut);
        description.push('…');
    }
    let mut job = json!({
        "job": Command::JOB,
        "description": description,
        "runner": {"tags": command.runner_tags},
        "steps": [step],
    });
    if let CommandPlace::Nodes { filter, threads, keep_going, .. } = &command.on {
        let filter = literal(filter);
        job["nodes"] = json!({"filter": filter, "threads": threads, "keep_going": keep_going});
    }
    job
}

fn faults(faults: Vec<Fault>) -> Failure {
    // Lines and columns are those of a file that nobody wrote.
    let plain = |fault: Fault| Fault { line: None, column: None, ..fault };
    Failure::faults("The command was not run.".to_owned(), faults.into_iter().map(plain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(argv: &[&str], on: CommandPlace) -> Command {
        Command {
            argv: argv.iter().map(|text| (*text).to_owned()).collect(),
            on,
            runner_tags: ["dmz".parse().unwrap()].into(),
            timeout: None,
            idempotency_key: None,
        }
    }

    #[test]
    fn what_was_typed_arrives_as_it_was_typed() {
        let argv = [
            "echo",
            "${node.name}",
            "$${x}",
            "it's \"quoted\"",
            "a\nb\u{7}",
            "- x: y",
            "{}",
            "#",
            "é\u{2028}",
        ];
        let on = CommandPlace::Nodes {
            filter: "tags: web".to_owned(),
            key: "keys/prod/deploy".parse().unwrap(),
            threads: 3,
            keep_going: true,
        };
        let parsed = JobSource::parse(&source(&command(&argv, on)).to_string()).unwrap();
        let (_, own) = parsed.steps[0].components().next().unwrap();
        let scope = remit_job::expression::Scope::default();
        assert_eq!(own.with.render(&scope).unwrap()["argv"], json!(argv));
        assert_eq!(parsed.description, shown(&argv.map(str::to_owned)));
    }

    #[test]
    fn people_see_where_an_argument_ends() {
        let argv = ["df", "-h", "/var/lib", "a b", "", "$(x)"].map(str::to_owned);
        assert_eq!(shown(&argv), "df -h /var/lib \"a b\" \"\" \"$(x)\"");
    }
}
