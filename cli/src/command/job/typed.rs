//! Secrets that are typed: read here, sealed here to runners whose keys are pinned, and sent to nobody else.

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use remit_job::{document::Document, options::OptionDefinition};
use remit_protocol::{
    JobName, OptionName, RunnerId, RunnerName, SecretPath, Span, Timestamp,
    digest::Sized,
    limits::{MAX_SECRET, MIN_SECRET},
    operator::{JobView, Plan, PlannedRunner, RunnerStatus, path},
    sealed::{LONGEST_VALIDITY, Sealed, SealedRun},
};
use remit_signing::{
    JobPath,
    run::Order,
    sealing::{NotSealable, Purpose, SealingNote, SealingPublic},
};
use zeroize::Zeroizing;

use super::run::{names, plan_text};
use crate::{
    command::note,
    connection::Connection,
    failure::{Code, Failure, Result},
    output::{harmless, note as say},
    pins::Pins,
    terminal::{CUT, NotTyped, ask_hidden},
};

/// Secrets on the command line. The value itself never stands there.
#[derive(Args)]
pub(super) struct Typed {
    /// A secret option. It is asked for without being shown; NAME=- reads it from standard input, NAME=@FILE from a file. May
    /// be repeated.
    #[arg(long = "secret", value_name = "NAME")]
    secrets: Vec<String>,
    /// Seal secrets for this runner alone, of those that the run may go to. May be repeated.
    #[arg(long = "runner", value_name = "NAME", requires = "secrets")]
    runners: Vec<RunnerName>,
    /// How long what was typed can be used, at most 24 hours: no step gets it later.
    #[arg(long, default_value = "1h", value_name = "TIME", requires = "secrets")]
    secret_valid_for: Span,
}

/// Where a value comes from.
enum From {
    Terminal,
    Input,
    File(PathBuf),
}

/// A typed option, and where its value comes from.
pub(super) struct Wanted {
    pub(super) option: OptionName,
    pub(super) path: SecretPath,
    from: From,
}

/// A runner that is believed, and the key to which it is sealed.
struct Recipient {
    id: RunnerId,
    name: RunnerName,
    key: SealingPublic,
}

/// The job as it is now.
pub(super) async fn document(connection: &Connection, job: &JobName) -> Result<Document> {
    let view: JobView = connection.get(&path::fill(path::JOB, &[&connection.project()?, job])).await?;
    serde_json::from_value(view.document)
        .map_err(|error| Failure::input(format_args!("the job document cannot be read: {error}")))
}

/// Refuses a typed secret that stands on the command line in the clear, before it is sent anywhere. It is not repeated.
pub(super) fn nothing_in_the_clear<'n>(
    options: &[OptionDefinition],
    mut given: impl Iterator<Item = &'n OptionName>,
) -> Result<()> {
    let typed = |name: &&OptionName| {
        options.iter().any(|option| option.name == **name && option.kind.typed().is_some())
    };
    match given.find(typed) {
        Some(name) => Err(Failure::input(format_args!(
            "{name} is a secret that is typed: nothing was sent, but what stands on a command line stands in its history"
        ))
        .with_remedy(format!("give it with --secret {name}; if it was a real one, change it"))),
        None => Ok(()),
    }
}

impl Typed {
    pub(super) fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// What is to be typed, by the job's own options.
    pub(super) fn wanted(&self, document: &Document) -> Result<Vec<Wanted>> {
        if self.secret_valid_for > LONGEST_VALIDITY {
            return Err(Failure::input(format_args!(
                "what is typed can be used for at most {LONGEST_VALIDITY}"
            )));
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        for secret in &self.secrets {
            let (name, from) = match secret.split_once('=') {
                None => (secret.as_str(), From::Terminal),
                Some((name, "-")) => (name, From::Input),
                Some((name, from)) => match from.strip_prefix('@') {
                    Some(file) if !file.is_empty() => (name, From::File(file.into())),
                    // It may be the secret: it is not repeated.
                    _ => {
                        let words = "the value of a secret does not stand on the command line, where others can read it";
                        return Err(Failure::input(words).with_remedy(
                            "give --secret NAME to be asked, NAME=- for standard input, or NAME=@FILE; if it was a real one, change it",
                        ));
                    }
                },
            };
            let option: OptionName = name.parse().map_err(Failure::input)?;
            if wanted.iter().any(|known| known.option == option) {
                return Err(Failure::input(format_args!("the secret {option} is given twice")));
            }
            if matches!(from, From::Input) && wanted.iter().any(|known| matches!(known.from, From::Input)) {
                return Err(Failure::input("one secret can come from standard input, and two are to"));
            }
            let path = typed_path(document, &option)?;
            wanted.push(Wanted { option, path, from });
        }
        Ok(wanted)
    }

    /// Seals what is typed, for the plan's own run and for each runner that it may go to. Nothing is asked for before all of
    /// them are believed.
    pub(super) fn seal(
        &self,
        connection: &Connection,
        (job, plan, document): (&JobName, &Plan, &Document),
        wanted: Vec<Wanted>,
        begins: Option<Timestamp>,
    ) -> Result<SealedRun> {
        let project = connection.project()?;
        let same = (&document.project, &document.job) == (&project, job)
            && (&plan.project, &plan.job) == (&project, job);
        if !same || Sized::of(&document.to_vec()) != plan.definition {
            return Err(Failure::new(
                Code::Refused,
                "the job is another one than its plan says",
                "it may have been saved just now: run it again",
            ));
        }
        let nodes = names(plan)?;
        let recipients = self.recipients(connection, plan)?;
        let order = Order {
            run: plan.execution,
            job: JobPath { project: plan.project.clone(), job: plan.job.clone() },
            definition: plan.definition,
            options: Sized::of(plan.options.as_bytes()),
            nodes: plan.nodes.as_ref().map(|nodes| nodes.set),
        };
        // What is shown is what it is sealed for.
        say(&plan_text(plan, &nodes));
        let issued = Timestamp::from_millis(note::now().as_secs() * 1000);
        let expires = issued.plus(self.secret_valid_for.duration());
        if begins.is_some_and(|begins| begins >= expires) {
            let message = format!(
                "the run begins after {}, until when what is typed can be used",
                expires.to_seconds_text()
            );
            return Err(Failure::input(message)
                .with_remedy("give --secret-valid-for, at most 24h, or run it earlier"));
        }
        let mut values = Vec::new();
        for Wanted { option, path, from } in &wanted {
            let value = read(option, from)?;
            for Recipient { id, key, .. } in &recipients {
                let purpose = Purpose { order: &order, option, path, runner: *id, issued, expires };
                values.push(sealed(&purpose, key, &value)?);
            }
        }
        let names: Vec<&str> = recipients.iter().map(|one| one.name.as_str()).collect();
        let options: Vec<&str> = wanted.iter().map(|one| one.option.as_str()).collect();
        say(&format!(
            "{} sealed to {} until {}",
            options.join(", "),
            names.join(", "),
            expires.to_seconds_text()
        ));
        Ok(SealedRun {
            execution: plan.execution,
            definition: plan.definition,
            options: plan.options.clone(),
            nodes: order.nodes,
            values,
        })
    }

    /// The runners to which it is sealed: those of the plan, or those that are named, each by its pinned key.
    fn recipients(&self, connection: &Connection, plan: &Plan) -> Result<Vec<Recipient>> {
        for name in &self.runners {
            if plan.runners.iter().all(|runner| runner.name != *name) {
                let all: Vec<&str> = plan.runners.iter().map(|runner| runner.name.as_str()).collect();
                return Err(Failure::input(format_args!("the run cannot go to {name}"))
                    .with_remedy(format!("it may go to: {}", all.join(", "))));
            }
        }
        let named = |runner: &&PlannedRunner| {
            if self.runners.is_empty() {
                runner.status != RunnerStatus::Expected
            } else {
                self.runners.contains(&runner.name)
            }
        };
        let chosen: Vec<&PlannedRunner> = plan.runners.iter().filter(named).collect();
        if chosen.is_empty() {
            return Err(Failure::new(
                Code::Refused,
                "there is no runner that the run could go to, so that nothing can be sealed",
                "see why: remit runner list",
            ));
        }
        let pins = Pins::read()?;
        let unknown: Vec<&PlannedRunner> =
            chosen.iter().copied().filter(|one| pins.of(connection.url(), &one.name).is_none()).collect();
        if !unknown.is_empty() {
            let names: Vec<&str> = unknown.iter().map(|one| one.name.as_str()).collect();
            let mut remedy: Vec<String> =
                names.iter().map(|name| format!("remit runner pin {name} KEY")).collect();
            remedy.push(
                "its owner tells the KEY: remit-runner identity. Or leave runners out: --runner NAME"
                    .to_owned(),
            );
            let message = format!("the run may go to {}, whose key is not pinned", names.join(", "));
            return Err(Failure::new(Code::Refused, message, remedy.join("\n")));
        }
        let believed = |one: &PlannedRunner| {
            let pinned = pins.of(connection.url(), &one.name);
            let Some((note, pinned)) = one.sealing.as_ref().zip(pinned) else {
                return Err(Failure::new(
                    Code::Refused,
                    format!("{} has no key yet to which a secret can be sealed", one.name),
                    "let its owner install this version, and start it once",
                ));
            };
            let read = SealingNote::believe(note.as_bytes(), (one.id, &one.name), pinned);
            let read = read.map_err(|error| not_believed(&one.name, &error))?;
            Ok(Recipient { id: one.id, name: one.name.clone(), key: read.key })
        };
        chosen.into_iter().map(believed).collect()
    }
}

fn not_believed(name: &RunnerName, error: &NotSealable) -> Failure {
    let remedy = match error {
        NotSealable::Identity { .. } => format!(
            "somebody may stand in its place: ask its owner. If it was enrolled anew: remit runner pin {name} KEY --replace"
        ),
        NotSealable::Note(_) | NotSealable::Other(..) => {
            "the orchestrator serves what is not the runner's: ask who runs it".to_owned()
        }
    };
    let message = format!("nothing is sealed to {name}: {}", harmless(&error.to_string()));
    Failure::new(Code::Refused, message, remedy)
}

fn typed_path(document: &Document, option: &OptionName) -> Result<SecretPath> {
    let definition = document.options.iter().find(|known| known.name == *option);
    if let Some(path) = definition.and_then(|definition| definition.kind.typed()) {
        return Ok(path.clone());
    }
    let typed = document.options.iter().filter(|known| known.kind.typed().is_some());
    let names: Vec<&str> = typed.map(|known| known.name.as_str()).collect();
    let remedy = match (definition, names.is_empty()) {
        (Some(_), _) => format!("give it with --option {option}=…"),
        (None, true) => "the job types no secret".to_owned(),
        (None, false) => format!("the job types {}", names.join(", ")),
    };
    Err(Failure::input(format_args!("{option} is no secret of {} that is typed", document.job))
        .with_remedy(remedy))
}

fn sealed(purpose: &Purpose<'_>, key: &SealingPublic, value: &[u8]) -> Result<Sealed> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(Failure::input)?;
    purpose.seal(key, value, *seed).map_err(Failure::input)
}

/// Reads a value. One newline at its end is not a part of it.
fn read(option: &OptionName, from: &From) -> Result<Zeroizing<Vec<u8>>> {
    let value = match from {
        From::Terminal => ask(option)?,
        From::Input => {
            let input = std::io::stdin();
            if input.is_terminal() {
                return Err(Failure::input("standard input is a terminal, which would show the secret")
                    .with_remedy(format!("give --secret {option} to be asked for it")));
            }
            whole(input.lock()).map_err(Failure::input)?
        }
        From::File(path) => File::open(path).and_then(whole).map_err(|error| Failure::file(path, &error))?,
    };
    match value.len() {
        length if length < MIN_SECRET => Err(Failure::input(format_args!(
            "{option} has fewer than {MIN_SECRET} bytes: such a value could not be kept out of logs"
        ))),
        length if length > MAX_SECRET => {
            Err(Failure::input(format_args!("{option} has more than {MAX_SECRET} bytes")))
        }
        _ => Ok(value),
    }
}

/// All that there is, if it is not too long, without the newline at its end.
fn whole(source: impl std::io::Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let most = MAX_SECRET + b"\r\n".len() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    source.take(most as u64).read_to_end(&mut bytes)?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// Asks the person at the terminal.
fn ask(option: &OptionName) -> Result<Zeroizing<Vec<u8>>> {
    let elsewhere =
        format!("give --secret {option}=- and the value on standard input, or --secret {option}=@FILE");
    ask_hidden(option.as_str()).map_err(|not| match not {
        NotTyped::NoTerminal => {
            Failure::input(format_args!("there is no terminal at which {option} could be typed"))
                .with_remedy(elsewhere)
        }
        NotTyped::Cut => {
            let message = format!(
                "{option} was typed with {CUT} bytes or more, of which a terminal drops what is behind"
            );
            Failure::input(message).with_remedy(elsewhere)
        }
        NotTyped::Nothing => Failure::new(Code::Input, "nothing was typed, and nothing was run", ""),
        NotTyped::Failed(error) => Failure::file(Path::new("/dev/tty"), &error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let text = serde_json::json!({
            "v": 1, "project": "demo", "job": "x", "runner": {"tags": []},
            "options": [
                {"name": "password", "required": true, "type": {"typed": {"path": "keys/typed/db"}}},
                {"name": "note", "type": {"string": {}}},
            ],
            "steps": [],
        });
        serde_json::from_value(text).unwrap()
    }

    fn typed(secrets: &[&str]) -> Typed {
        Typed {
            secrets: secrets.iter().map(ToString::to_string).collect(),
            runners: Vec::new(),
            secret_valid_for: Span::from_secs(3600),
        }
    }

    #[test]
    fn the_value_never_stands_on_the_command_line() {
        let check = |secrets: &[&str], expect: &str| match typed(secrets).wanted(&document()) {
            Ok(wanted) => assert!(expect.is_empty() && wanted[0].path.as_str() == "keys/typed/db"),
            Err(failure) => {
                let found = failure.to_string();
                assert!(!expect.is_empty() && found.contains(expect), "{found}");
                assert!(!found.contains("hunter2"), "{found}");
            }
        };
        check(&["password"], "");
        check(&["password=-"], "");
        check(&["password=@/run/secret"], "");
        check(&["password=hunter22"], "does not stand on the command line");
        check(&["password=@"], "does not stand on the command line");
        check(&["password="], "does not stand on the command line");
        check(&["password", "password=-"], "given twice");
        check(&["note"], "--option note");
        check(&["other"], "the job types password");
        let clear = |name: &str| {
            let name: OptionName = name.parse().unwrap();
            nothing_in_the_clear(&document().options, std::iter::once(&name))
        };
        assert!(clear("note").is_ok());
        assert!(clear("password").unwrap_err().to_string().contains("--secret password"));
    }

    #[test]
    fn a_value_is_read_without_its_newline_and_has_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("value");
        let found = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            let read = read(&"password".parse().unwrap(), &From::File(file.clone()));
            read.map(|value| value.to_vec()).map_err(|failure| failure.to_string())
        };
        assert_eq!(found(b"correct horse\n").unwrap(), b"correct horse");
        assert_eq!(found(b"correct horse\r\n").unwrap(), b"correct horse");
        assert_eq!(found(b"correct horse\n\n").unwrap(), b"correct horse\n");
        assert!(found(b"hunter2\n").unwrap_err().contains("fewer than 8"));
        assert_eq!(found(&vec![b'x'; 65_536]).unwrap().len(), 65_536);
        assert!(found(&vec![b'x'; 65_537]).unwrap_err().contains("more than 65536 bytes"));
    }
}
