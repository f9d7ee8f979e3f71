//! A component that starts programs.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/step", "../../../wit/exec"],
        inline: "
            package guest:exec;
            world guest {
                include remit:step/step@0.1.0;
                import remit:exec/run@0.1.1;
            }
        ",
        world: "guest:exec/guest",
        generate_all,
    });
}

use bindings::{
    exports::remit::step::main::{End, Guest},
    remit::{
        exec::run::{Child, Chunk, Exit},
        step::{
            log::{self, Level},
            types::{CapabilityError, Failure},
        },
    },
};

struct Exec;
bindings::export!(Exec with_types_in bindings);

impl Guest for Exec {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    /// `run PROGRAM ARG …` gives output and exit; `wait …` does not read; `feed BYTES PROGRAM …` has standard input;
    /// `set NAME=VALUE PROGRAM …` sets a variable for it;
    /// `leave SCRIPT` starts the program `group` with a script, logs what it says first, and spins without dropping it.
    fn run(input: String) -> Result<String, End> {
        let text = input.trim_matches('"');
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let answer = match words.split_first() {
            Some((act, rest)) if act == "run" => run(rest, &[]),
            Some((act, rest)) if act == "wait" => wait(rest),
            Some((act, rest)) if act == "set" => set(rest),
            Some((act, _)) if act == "leave" => leave(text.strip_prefix("leave ").unwrap_or_default()),
            Some((act, rest)) if act == "feed" => match rest.split_first() {
                Some((bytes, rest)) => run(rest, &vec![b'f'; bytes.parse().unwrap_or_default()]),
                None => Ok(String::new()),
            },
            _ => Err(CapabilityError::Failed("no such act".to_owned())),
        };
        answer.map(|text| format!("{text:?}")).map_err(|error| {
            let message = match error {
                CapabilityError::Denied(why) => format!("denied: {why}"),
                CapabilityError::OverLimit(why) => format!("over limit: {why}"),
                CapabilityError::Cancelled => return End::Cancelled,
                CapabilityError::Failed(why) => format!("failed: {why}"),
            };
            End::Failed(Failure { message, fields: Vec::new() })
        })
    }
}

fn start(words: &[String], stdin: &[u8]) -> Result<Child, CapabilityError> {
    match words.split_first() {
        Some((program, arguments)) => Child::start(program, arguments, stdin),
        None => Err(CapabilityError::Failed("no program".to_owned())),
    }
}

fn ending(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}

fn set(words: &[String]) -> Result<String, CapabilityError> {
    let [variable, program, arguments @ ..] = words else {
        return Err(CapabilityError::Failed("no program".to_owned()));
    };
    let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
    output(&Child::start_with(program, arguments, &[(name.to_owned(), value.to_owned())], &[])?)
}

fn run(words: &[String], stdin: &[u8]) -> Result<String, CapabilityError> {
    output(&start(words, stdin)?)
}

fn output(child: &Child) -> Result<String, CapabilityError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(chunk) = child.read()? {
        match chunk {
            Chunk::Stdout(bytes) => out.extend(bytes),
            Chunk::Stderr(bytes) => err.extend(bytes),
        }
    }
    let text = |bytes: &[u8]| {
        if bytes.len() > 10_000 {
            bytes.len().to_string()
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        }
    };
    Ok(format!("{}|{}|{}", text(&out), text(&err), ending(&child.wait()?)))
}

fn wait(words: &[String]) -> Result<String, CapabilityError> {
    let child = start(words, &[])?;
    Ok(format!("{} {}", ending(&child.wait()?), ending(&child.wait()?)))
}

fn leave(script: &str) -> Result<String, CapabilityError> {
    let child = Child::start("group", &["-c".to_owned(), script.to_owned()], &[])?;
    if let Some(Chunk::Stdout(bytes)) = child.read()? {
        log::write(Level::Info, &String::from_utf8_lossy(&bytes), &[]);
    }
    loop {
        std::hint::black_box(&child);
    }
}
