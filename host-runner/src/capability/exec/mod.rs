//! `exec`: starting the programs that the remit names, with arguments that fit its patterns. Never a shell.
//!
//! A program runs outside the sandbox, as the runner's user: the owner who listed it trusts it. What it gets is the
//! permit's environment and directory and nothing of the runner's own; it ends with the step.

use remit_protocol::{
    capability::{
        Denial, Side,
        exec::{ExecPermit, matches_all},
    },
    report::{Level, Limit},
};
use wasmtime::component::{HasSelf, Linker, Resource};

use super::{
    Fault,
    bindings::remit::exec::run::{self, Chunk, Host, HostChild},
};
use crate::{
    broker::{Answer, Broker, Call, Handle, Held, Used},
    launcher::{Exit, Program, Running, Source},
    report::redact::Stream,
    sandbox::State,
};

/// Most arguments of a program, and most bytes of all of them.
const MAX_ARGUMENTS: usize = 1024;
const MAX_ARGUMENT_BYTES: usize = 128 << 10;
/// Most variables that a step may set.
const MAX_VARIABLES: usize = 256;
/// Largest chunk that a guest is handed.
const MAX_CHUNK: usize = 64 << 10;

/// A program, as the guest holds it.
pub struct Child(Handle);

/// A program that a run has started.
pub(crate) struct Started {
    /// None once the run was cancelled: the program is being ended.
    running: Option<Box<dyn Running>>,
    output: Stream,
    error: Stream,
    ended: bool,
    /// What is left of a piece that redaction made longer than a chunk.
    rest: Option<(Source, Vec<u8>)>,
}

impl Started {
    /// Cuts a piece to the size of a chunk and keeps the rest.
    fn chunk(&mut self, source: Source, mut bytes: Vec<u8>) -> (Source, Vec<u8>) {
        if bytes.len() > MAX_CHUNK {
            self.rest = Some((source, bytes.split_off(MAX_CHUNK)));
        }
        (source, bytes)
    }
}

/// Links `remit:exec/run`.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    run::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// The permit for `program` with `arguments`; or which side lacks it.
fn permitted<'a>(
    permits: &'a [ExecPermit],
    program: &str,
    arguments: &[String],
) -> Result<&'a ExecPermit, Denial> {
    let mut fitting = permits.iter().filter(|permit| permit.matches(program, arguments));
    if let Some(first) = fitting.next() {
        let secret = |permit: &ExecPermit| permit.secret.clone();
        return match fitting.find(|other| secret(other) != secret(first)) {
            None => Ok(first),
            Some(_) => Err(denial(program, arguments, Side::Grant, Some("two rules with different secrets"))),
        };
    }
    let named = permits.iter().filter(|permit| permit.program == program);
    // The ceiling's patterns stand first: where they fit, it is the grant's that do not.
    let ceiling_fits = named
        .clone()
        .any(|permit| permit.args.first().is_some_and(|patterns| matches_all(patterns, arguments)));
    let side = if named.clone().next().is_some() && !ceiling_fits { Side::Ceiling } else { Side::Grant };
    Err(denial(program, arguments, side, None))
}

fn denial(program: &str, arguments: &[String], side: Side, why: Option<&str>) -> Denial {
    let quoted =
        arguments.iter().take(32).map(|argument| format!("{argument:?}")).collect::<Vec<_>>().join(", ");
    let quoted: String = quoted.chars().take(1000).collect();
    let remedy = match (why, side) {
        (Some(_), _) => "one rule only for this program and these arguments".to_owned(),
        (None, Side::Ceiling) => {
            format!(
                "[[ceiling.exec]]\nprogram = {program:?}\npath = \"/usr/bin/{program}\"\nargs = [{quoted}]"
            )
        }
        (None, _) => format!("grant:\n  exec: [{{ program: {program:?}, args: [{quoted}] }}]"),
    };
    let arguments = if quoted.is_empty() { String::new() } else { format!(" with {quoted}") };
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    Denial { permission: format!("exec {program}{arguments}{why}"), side, remedy }
}

/// Refuses the first variable that the owner does not let a step set.
fn check_variables(permit: &ExecPermit, variables: &[(String, String)]) -> Result<(), Denial> {
    let Some((name, _)) = variables.iter().find(|(name, _)| !permit.takes_variable(name)) else {
        return Ok(());
    };
    let name: String = name.chars().take(80).collect();
    let remedy = if permit.env.contains_key(&name) {
        format!("# the owner has set {name} for {}", permit.program)
    } else {
        format!(
            "[[ceiling.exec]]\nprogram = {:?}\n# beside what stands there\nvariables = [{name:?}]",
            permit.program
        )
    };
    let permission = format!("exec {} with the variable {name:?}", permit.program);
    Err(Denial { permission, side: Side::Ceiling, remedy })
}

/// Refuses what no program can be handed.
fn check_sizes(args: &[String], variables: &[(String, String)]) -> Result<(), Fault> {
    let bytes: usize = args.iter().map(String::len).sum();
    if args.len() > MAX_ARGUMENTS || bytes > MAX_ARGUMENT_BYTES || args.iter().any(|a| a.contains('\0')) {
        return Err(Fault::failed("too many or too long arguments, or one with a NUL"));
    }
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    let nul = variables.iter().any(|(_, value)| value.contains('\0'));
    if variables.len() > MAX_VARIABLES || bytes > MAX_ARGUMENT_BYTES || nul {
        return Err(Fault::failed("too many or too long variables, or one with a NUL"));
    }
    Ok(())
}

impl Broker {
    /// What to start: the permit's path, environment and directory, and its secret, read now.
    async fn program(
        &mut self,
        permit: ExecPermit,
        arguments: Vec<String>,
        stdin: Vec<u8>,
    ) -> Result<Program, Fault> {
        let secret = match permit.secret {
            None => None,
            Some((given, bound)) => match self.secrets.resolve(&bound.path).await {
                Ok(value) => {
                    self.redactor.add([(&bound.path, &value)]);
                    Some((given, value))
                }
                Err(error) => {
                    let _ = self.log.write(Level::Error, &error.to_string(), Vec::new());
                    return Err(Fault::failed(format_args!("the secret {} cannot be had", bound.name)));
                }
            },
        };
        Ok(Program {
            path: permit.path,
            arguments,
            environment: permit.env,
            secret,
            directory: permit.cwd,
            stdin,
        })
    }
}

impl Broker {
    pub(crate) async fn start_program(
        &mut self,
        program: String,
        args: Vec<String>,
        variables: Vec<(String, String)>,
        stdin: Vec<u8>,
    ) -> Result<Handle, Fault> {
        if self.cancel.is_cancelled() {
            return Err(Fault::cancelled());
        }
        check_sizes(&args, &variables)?;
        let permit = match permitted(self.remit.exec(), &program, &args) {
            Ok(permit) => permit.clone(),
            Err(denial) => return Err(Fault::denied(&self.account, denial)),
        };
        if let Err(denial) = check_variables(&permit, &variables) {
            return Err(Fault::denied(&self.account, denial));
        }
        self.account.charge(Limit::Processes, 1)?;
        self.account.charge(Limit::Egress, u64::try_from(stdin.len()).unwrap_or(u64::MAX))?;
        self.log.used(Used::Program { program, arguments: args.clone() });
        let mut program = self.program(permit, args, stdin).await?;
        program.environment.extend(variables);
        let path = program.path.display().to_string();
        let running = self
            .effects
            .exec
            .start(program)
            .await
            .map_err(|error| Fault::failed(format_args!("{path} could not be started: {error}")))?;
        self.handles.keep(Held::Program(Started {
            running: Some(running),
            output: self.redactor.stream(),
            error: self.redactor.stream(),
            ended: false,
            rest: None,
        }))
    }

    pub(crate) async fn read_program(&mut self, child: Handle) -> Result<Option<(Source, Vec<u8>)>, Fault> {
        let child = self.handles.program(child)?;
        if let Some((source, rest)) = child.rest.take() {
            return Ok(Some(child.chunk(source, rest)));
        }
        loop {
            let Some(running) = &mut child.running else { return Err(Fault::cancelled()) };
            let piece = tokio::select! {
                biased;
                () = self.cancel.cancelled() => {
                    child.running = None;
                    return Err(Fault::cancelled());
                }
                piece = running.read() => piece.map_err(Fault::failed)?,
            };
            let (source, bytes) = match piece {
                Some((source, bytes)) => {
                    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    self.account.charge(Limit::Ingress, length)?;
                    let mut redacted = Vec::with_capacity(bytes.len());
                    match source {
                        Source::Output => child.output.push(&bytes, &mut redacted),
                        Source::Error => child.error.push(&bytes, &mut redacted),
                    }
                    (source, redacted)
                }
                None if child.ended => return Ok(None),
                None => {
                    // Both streams have ended: what redaction held back comes out, one stream a call.
                    let mut rest = Vec::new();
                    child.output.finish(&mut rest);
                    if rest.is_empty() {
                        child.ended = true;
                        child.error.finish(&mut rest);
                        (Source::Error, rest)
                    } else {
                        (Source::Output, rest)
                    }
                }
            };
            if !bytes.is_empty() {
                return Ok(Some(child.chunk(source, bytes)));
            }
        }
    }

    pub(crate) async fn wait_for_program(&mut self, child: Handle) -> Result<Exit, Fault> {
        let child = self.handles.program(child)?;
        let Some(running) = &mut child.running else { return Err(Fault::cancelled()) };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {
                child.running = None;
                Err(Fault::cancelled())
            }
            exit = running.wait() => exit.map_err(Fault::failed),
        }
    }
}

impl Host for State {}

impl HostChild for State {
    async fn start(
        &mut self,
        program: String,
        args: Vec<String>,
        stdin: Vec<u8>,
    ) -> Result<Resource<Child>, Fault> {
        self.start_with(program, args, Vec::new(), stdin).await
    }

    async fn start_with(
        &mut self,
        program: String,
        args: Vec<String>,
        variables: Vec<(String, String)>,
        stdin: Vec<u8>,
    ) -> Result<Resource<Child>, Fault> {
        let call = Call::Start { program, args, variables, stdin };
        let handle = self.ask(call).await?.opened()?;
        Ok(self.table.push(Child(handle))?)
    }

    async fn read(&mut self, child: Resource<Child>) -> Result<Option<Chunk>, Fault> {
        let Child(handle) = *self.table.get(&child)?;
        let piece = self.ask(Call::Output(handle)).await?.piece()?;
        Ok(piece.map(|(source, bytes)| match source {
            Source::Output => Chunk::Stdout(bytes),
            Source::Error => Chunk::Stderr(bytes),
        }))
    }

    async fn wait(&mut self, child: Resource<Child>) -> Result<run::Exit, Fault> {
        let Child(handle) = *self.table.get(&child)?;
        match self.ask(Call::Wait(handle)).await? {
            Answer::Ended(Exit::Code(code)) => Ok(run::Exit::Code(code)),
            Answer::Ended(Exit::Signal(signal)) => Ok(run::Exit::Signal(signal)),
            other => Err(other.unexpected()),
        }
    }

    async fn drop(&mut self, child: Resource<Child>) -> wasmtime::Result<()> {
        let Child(handle) = self.table.delete(child)?;
        self.broker.release(handle);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(program: &str, ceiling: &[&str], grant: Option<&[&str]>) -> ExecPermit {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        ExecPermit {
            program: program.to_owned(),
            path: format!("/usr/bin/{program}").into(),
            args: std::iter::once(patterns(ceiling)).chain(grant.map(patterns)).collect(),
            cwd: None,
            env: std::collections::BTreeMap::from([("LANG".to_owned(), "C".to_owned())]),
            variables: vec!["REMIT_*".to_owned().try_into().unwrap(), "LANG".to_owned().try_into().unwrap()],
            secret: None,
        }
    }

    #[test]
    fn a_step_sets_the_variables_that_the_owner_lets_it_set() {
        fn check(name: &str, remedy: Option<&str>) {
            let variables = [("REMIT_A".to_owned(), "x".to_owned()), (name.to_owned(), String::new())];
            let found = check_variables(&permit("ls", &[], None), &variables);
            match (found, remedy) {
                (Ok(()), None) => {}
                (Err(denial), Some(remedy)) => {
                    assert!(denial.remedy.contains(remedy), "{name}: {denial}");
                    assert_eq!(denial.side, Side::Ceiling);
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
        check("REMIT_B", None);
        check("REMIT_", Some("variables = [\"REMIT_\"]"));
        check("PATH", Some("variables = [\"PATH\"]"));
        check("LANG", Some("the owner has set LANG for ls"));
    }

    #[test]
    fn a_refusal_names_the_side_that_lacks_it() {
        fn check(program: &str, arguments: &[&str], expect: Option<Side>) {
            let permits = [permit("ls", &["{text}"], Some(&["-l"])), permit("ls", &["-l"], None)];
            let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
            let found = permitted(&permits, program, &arguments).err().map(|denial| denial.side);
            assert_eq!(found, expect, "{program} {arguments:?}");
        }
        check("ls", &["-l"], None);
        check("ls", &["tmp"], Some(Side::Grant));
        check("ls", &["-a"], Some(Side::Ceiling));
        check("ls", &[], Some(Side::Ceiling));
        check("sh", &["-c"], Some(Side::Grant));
    }

    #[test]
    fn a_refusal_prints_lines_to_paste() {
        let denial = permitted(&[], "ls", &["a b".to_owned()]).unwrap_err();
        assert_eq!(denial.permission, "exec ls with \"a b\"");
        assert_eq!(denial.remedy, "grant:\n  exec: [{ program: \"ls\", args: [\"a b\"] }]");
    }
}
