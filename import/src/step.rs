//! Steps. Commands and scripts become `remit/ssh-command` on nodes and `remit/run-command` on the runner's host; what has
//! no counterpart becomes a step that fails when it is run.

use serde_json::{Map, Value, json};

use crate::{
    command::{self, Options},
    condition::{self, Condition},
    job::{Kind, Names, Report},
    log::Filters,
    reference,
    write::{Tree, map},
    yaml::{text, truthy},
};

/// What steps are imported for.
pub(crate) struct Job<'a> {
    pub(crate) options: &'a Options,
    /// The job is for nodes.
    pub(crate) on_nodes: bool,
    /// The secret that opens nodes.
    pub(crate) key: &'a str,
    /// What the jobs of the file are called here.
    pub(crate) names: &'a Names,
    /// The log filters of all its steps.
    pub(crate) filters: Filters,
    /// Steps after a failure are run.
    pub(crate) keep_going: bool,
}

/// The steps of a job as they are made, one after the other.
pub(crate) struct Steps<'a> {
    job: Job<'a>,
    /// Their names.
    names: Vec<String>,
    made: Vec<Tree>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(job: Job<'a>) -> Self {
        Self { job, names: Vec::new(), made: Vec::new() }
    }

    pub(crate) fn into_tree(self) -> Tree {
        Tree::List(self.made)
    }

    /// Adds a step; of a conditional one, those that it consists of.
    pub(crate) fn add(&mut self, step: &Map<String, Value>, place: &str, report: &mut Report) {
        self.add_under(None, step, place, report);
    }

    fn add_under(
        &mut self,
        outer: Option<&Condition>,
        step: &Map<String, Value>,
        place: &str,
        report: &mut Report,
    ) {
        if !condition::is_conditional(step) {
            return self.add_one(outer, step, None, place, report);
        }
        let groups = step.get("conditionGroups").unwrap_or(&Value::Null);
        let read = Condition::read(groups, self.job.options, place, report);
        let read = read.and_then(|own| Ok((own, condition::sub_steps(step)?)));
        match read {
            Err(why) => self.add_one(outer, step, Some(&why), place, report),
            Ok((own, steps)) => {
                if step.get("errorhandler").is_some_and(truthy) {
                    report.add(
                        Kind::Lost,
                        place,
                        "the error handler of a conditional step: write it at its steps",
                    );
                }
                let both = outer.map_or_else(|| own.clone(), |outer| outer.and(&own));
                for (at, step) in steps.into_iter().enumerate() {
                    let place = format!("{place}.subSteps[{at}]");
                    // Rundeck knows one level within another; more than that is not gone into.
                    if outer.is_some() && condition::is_conditional(step) {
                        self.add_one(
                            Some(&both),
                            step,
                            Some("a third conditional step within one"),
                            &place,
                            report,
                        );
                    } else {
                        self.add_under(Some(&both), step, &place, report);
                    }
                }
            }
        }
    }

    /// Adds one step, or a placeholder for it if there is a reason.
    fn add_one(
        &mut self,
        condition: Option<&Condition>,
        step: &Map<String, Value>,
        not: Option<&str>,
        place: &str,
        report: &mut Report,
    ) {
        let keep_going = self.job.keep_going;
        let guarded = !keep_going && !self.names.is_empty();
        let when = condition.map(|condition| condition.when(guarded)).transpose();
        let usual = (keep_going && !self.names.is_empty()).then(|| "always".to_owned());
        let (when, not) = match (when, not) {
            (Ok(when), not) => (when.or(usual), not.map(str::to_owned)),
            (Err(why), _) => (usual, Some(why)),
        };
        let name = format!("step_{}", self.names.len() + 1);
        let mut members = vec![("name".to_owned(), Tree::from(name.as_str()))];
        members.extend(one(step, not.as_deref(), &self.job, place, report));
        members.extend(when.map(|when| ("when".to_owned(), when.into())));
        self.names.push(name);
        self.made.push(Tree::Map(members));
    }
}

/// What a step has beside its name and its condition.
fn one(
    step: &Map<String, Value>,
    not: Option<&str>,
    job: &Job<'_>,
    place: &str,
    report: &mut Report,
) -> Members {
    let description = text(step.get("description").unwrap_or(&Value::Null));
    let made = match not {
        Some(why) => Err(why.to_owned()),
        None => made(step, job, place, report),
    };
    let mut made = made.unwrap_or_else(|why| placeholder(step, &why, job, place, report));
    let component = made.iter().any(|(key, _)| key == "uses");
    if let Some(handler) = step.get("errorhandler").and_then(Value::as_object) {
        match component {
            true => made.push(("on_error".to_owned(), on_error(handler, job, place, report))),
            false => {
                report.add(Kind::Lost, place, "an error handler of a step that runs a job: not imported");
            }
        }
    }
    let own = Filters::read(step.get("plugins"), place, report);
    if component {
        let log = job.filters.clone().of_step(own, place, report);
        made.extend(log.map(|log| ("log".to_owned(), log)));
    } else if !own.is_empty() {
        report.add(Kind::Lost, place, "log filters of a step that runs a job: its own steps have theirs");
    }
    if !description.is_empty() {
        report.add(Kind::Differs, place, format!("its description is only told here: {description}"));
    }
    made
}

/// The keys of a step with their values.
pub(crate) type Members = Vec<(String, Tree)>;

/// What is run when a step fails. It is of the step's own kind: on its node, or once.
fn on_error(handler: &Map<String, Value>, job: &Job<'_>, place: &str, report: &mut Report) -> Tree {
    let place = format!("{place}.errorhandler");
    let made = made(handler, job, &place, report).and_then(|made| {
        let component = made.iter().any(|(key, _)| key == "uses");
        if component { Ok(made) } else { Err("an error handler that runs a job".to_owned()) }
    });
    let mut made = made.unwrap_or_else(|why| placeholder(handler, &why, job, &place, report));
    made.retain(|(key, _)| key != "per");
    if handler.get("keepgoingOnSuccess").is_some_and(truthy) {
        made.push(("recover".to_owned(), Tree::Scalar(true.into())));
    }
    Tree::Map(made)
}

fn made(
    step: &Map<String, Value>,
    job: &Job<'_>,
    place: &str,
    report: &mut Report,
) -> Result<Members, String> {
    let field = |key: &str| step.get(key).filter(|value| !value.is_null());
    if condition::is_conditional(step) {
        return Err("a conditional step as an error handler".to_owned());
    }
    if let Some(reference) = field("jobref").and_then(Value::as_object) {
        return reference::import(reference, step, job, place, report);
    }
    if let Some(command) = field("exec") {
        let (script, values) = command::shell(&text(command), job.options)?;
        return Ok(if job.on_nodes {
            let argv = ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
            on_node(argv.into_iter().chain(values), None, job)
        } else {
            on_host("sh", &["-s", "--"], values, script, place, report)
        });
    }
    if let Some(script) = field("script") {
        return inline(&text(script), step, job, place, report);
    }
    for key in ["scriptfile", "scripturl"] {
        if let Some(source) = field(key) {
            return Err(format!("a script from {:?}", text(source)));
        }
    }
    Err(format!("the plugin {:?}", text(step.get("type").unwrap_or(&Value::Null))))
}

/// Puts the script into a file of its own on the node, so that its first line names its interpreter as it did before.
pub(crate) const STAGE: &str = r#"f=$(mktemp) && cat >"$f" && chmod 700 "$f" || exit 126; "#;

fn inline(
    script: &str,
    step: &Map<String, Value>,
    job: &Job<'_>,
    place: &str,
    report: &mut Report,
) -> Result<Members, String> {
    let field = |key: &str| text(step.get(key).unwrap_or(&Value::Null));
    if let Some(token) = token(script) {
        return Err(format!(
            "a script with `@{token}@`, which pastes a value into code; read it as an argument"
        ));
    }
    if script.contains("RD_") {
        report.add(
            Kind::Lost,
            place,
            "the script reads `RD_…` variables, which are not set here: hand values over as arguments",
        );
    }
    let line = if field("args").is_empty() { field("argString") } else { field("args") };
    let arguments = command::words(&line)
        .iter()
        .map(|word| command::template(word, job.options))
        .collect::<Result<Vec<_>, _>>()?;
    let interpreter = command::words(&field("scriptInterpreter"));
    let stdin = command::verbatim(script)?;
    let quoted =
        step.get("interpreterArgsQuoted").is_some_and(|value| text(value).eq_ignore_ascii_case("true"));
    if quoted || interpreter.iter().any(|word| word.contains("${")) {
        return Err("an interpreter that gets script and arguments as one text".to_owned());
    }
    if job.on_nodes {
        let count = interpreter.len();
        let run = run_line(count);
        let argv = ["sh".to_owned(), "-c".to_owned(), format!("{STAGE}{run}"), "sh".to_owned()];
        return Ok(on_node(argv.into_iter().chain(interpreter).chain(arguments), Some(stdin), job));
    }
    let program = host_program(script, &interpreter)?;
    let own = own_arguments(&program)
        .ok_or_else(|| format!("a script of the interpreter {program:?} on the server"))?;
    Ok(on_host(&program, own, arguments, stdin, place, report))
}

/// How the staged script is run. The interpreter's own words come first, then the script, then its arguments.
pub(crate) fn run_line(words: usize) -> String {
    if words == 0 {
        return r#""$f" "$@"; s=$?; rm -f "$f"; exit $s"#.to_owned();
    }
    let own: Vec<_> = (1..=words).map(|at| format!("\"$w{at}\"")).collect();
    let take: String = (1..=words).map(|at| format!("w{at}=$1; shift; ")).collect();
    format!(r#"{take}{} "$f" "$@"; s=$?; rm -f "$f"; exit $s"#, own.join(" "))
}

/// The program that runs a script on the runner's host: its interpreter, or what its first line names.
pub(crate) fn host_program(script: &str, interpreter: &[String]) -> Result<String, String> {
    let shebang = script.lines().next().and_then(|line| line.strip_prefix("#!")).unwrap_or("sh");
    let words = if interpreter.is_empty() { command::words(shebang) } else { interpreter.to_vec() };
    match &words[..] {
        [program] => Ok(program.rsplit('/').next().unwrap_or_default().to_owned()),
        [env, program] if env.ends_with("/env") => Ok(program.clone()),
        _ => Err(format!("a script of the interpreter {:?} on the server", words.join(" "))),
    }
}

/// The arguments by which a program reads its script from standard input.
pub(crate) fn own_arguments(program: &str) -> Option<&'static [&'static str]> {
    match program {
        "sh" | "bash" | "dash" | "ksh" => Some(&["-s", "--"]),
        "python" | "python3" | "perl" | "ruby" => Some(&["-"]),
        _ => None,
    }
}

/// The first `@group.key@` of a script.
pub(crate) fn token(script: &str) -> Option<&str> {
    let mut parts = script.split('@').skip(1);
    parts.find(|part| {
        ["option.", "job.", "node.", "data.", "globals.", "unquotedoption.", "secureOption."]
            .iter()
            .any(|group| part.starts_with(group))
            && !part.contains(char::is_whitespace)
    })
}

fn on_node(argv: impl Iterator<Item = String>, stdin: Option<String>, job: &Job<'_>) -> Members {
    let mut with = vec![("argv".to_owned(), argv.map(Tree::from).collect())];
    with.extend(stdin.map(|stdin| ("stdin".to_owned(), stdin.into())));
    vec![
        ("uses".to_owned(), "remit/ssh-command@1".into()),
        ("per".to_owned(), "node".into()),
        ("with".to_owned(), Tree::Map(with)),
        ("secrets".to_owned(), map([("key", job.key.into())])),
    ]
}

fn on_host(
    program: &str,
    own: &[&str],
    arguments: Vec<String>,
    stdin: String,
    place: &str,
    report: &mut Report,
) -> Members {
    let message = format!(
        "runs on the runner's host: its owner has to allow the program `{program}` in `[[ceiling.exec]]`; \
         arguments that are empty or begin with `-` are refused"
    );
    report.add(Kind::Differs, place, message);
    let mut allowed: Vec<Tree> = own.iter().map(|word| Tree::from(*word)).collect();
    if !arguments.is_empty() {
        allowed.push("{text}*".into());
    }
    let args =
        own.iter().map(|word| Tree::from(*word)).chain(arguments.into_iter().map(Tree::from)).collect();
    let rule = map([("program", program.into()), ("args", Tree::List(allowed))]);
    vec![
        ("uses".to_owned(), "remit/run-command@1".into()),
        ("with".to_owned(), map([("program", program.into()), ("args", args), ("stdin", stdin.into())])),
        ("grant".to_owned(), map([("exec", Tree::List(vec![rule]))])),
    ]
}

/// A step that always fails, and says for what it stands.
fn placeholder(
    step: &Map<String, Value>,
    why: &str,
    job: &Job<'_>,
    place: &str,
    report: &mut Report,
) -> Members {
    report.add(Kind::Placeholder, place, format!("{why}: the step fails when it is run; write it anew"));
    let kind = step.get("type").map(text).unwrap_or_default();
    let value = json!({ "not imported": command::verbatim(why).unwrap_or_default(), "type": command::verbatim(&kind).unwrap_or_default() });
    let on_node = job.on_nodes && step.get("nodeStep").is_none_or(truthy) && step.get("jobref").is_none();
    let mut members = vec![("uses".to_owned(), Tree::from("remit/transform@1"))];
    if on_node {
        members.push(("per".to_owned(), "node".into()));
    }
    let with =
        map([("value", value.into()), ("pick", map([("nothing", "/this step was not imported".into())]))]);
    members.push(("with".to_owned(), with));
    members
}
