//! Secrets that were typed: carried to the runners that they are sealed for, and opened by nobody here.
//!
//! The id of the execution, its document, option values and nodes are bound into each seal, so they are fixed beforehand:
//! the caller has them from the plan. What does not fit to that is refused here as a courtesy; it is the runner that cannot
//! open it.

use std::collections::{BTreeMap, BTreeSet};

use remit_job::{document::Document, options};
use remit_protocol::{
    ExecutionId, OptionName, RunnerId, RunnerName, SecretPath, Timestamp,
    assignment::OptionValues,
    digest::{self, Digest},
    sealed::{LONGEST_VALIDITY, MAX_SEALED, MAX_SEALED_BYTES, Sealed, SealedRun},
};
use remit_signing::{JobPath, run::Order, sealing::SealingNote};

use super::{
    Scheduler, Trigger, TriggerError,
    session::SessionError,
    trigger::{Triggered, fault},
};
use crate::execution::SealedTo;

/// What to do about nearly everything that can be wrong.
const ANEW: &str = "run it anew with `remit job run JOB --secret OPTION`";

/// The run that secrets were sealed for, if it is this job as it is now.
pub(super) fn of_a_sealed_run(
    sealed: &SealedRun,
    trigger: &Trigger,
    document: digest::Sized,
) -> Result<(Order, OptionValues), TriggerError> {
    if sealed.definition != document {
        return Err(fault("sealed", "the job has changed since the secret was sealed", ANEW));
    }
    let options = OptionValues::try_from(sealed.options.clone())
        .map_err(|error| fault("sealed.options", error.to_string(), ANEW))?;
    let order = Order {
        run: sealed.execution,
        job: JobPath { project: trigger.project.clone(), job: trigger.job.clone() },
        definition: sealed.definition,
        options: options.sized(),
        nodes: sealed.nodes,
    };
    Ok((order, options))
}

fn digest_of(values: &[Sealed]) -> Digest {
    Digest::of(&serde_json::to_vec(values).unwrap_or_default())
}

/// For whom values are sealed: each of the typed options for each of the runners, once.
fn sealed_to(
    values: &[Sealed],
    typed: &[(&OptionName, &SecretPath)],
    names: impl Fn(RunnerId) -> Option<RunnerName>,
    (now, begins): (Timestamp, Timestamp),
) -> Result<SealedTo, TriggerError> {
    let wrong = |message: String| Err(fault("sealed", message, ANEW));
    let bytes: usize = values.iter().map(|sealed| sealed.value.travels_as()).sum();
    if values.len() > MAX_SEALED || bytes > MAX_SEALED_BYTES {
        let message = format!(
            "{} sealed values of {bytes} bytes, at most {MAX_SEALED} of {MAX_SEALED_BYTES} bytes travel",
            values.len()
        );
        return Err(fault("sealed", message, "name fewer runners: `--runner NAME`"));
    }
    let mut found = BTreeSet::new();
    let mut runners = BTreeMap::new();
    let mut until = Timestamp::from_millis(u64::MAX);
    for sealed in values {
        let Sealed { option, path, runner, issued, expires, .. } = sealed;
        if !typed.contains(&(option, path)) {
            return wrong(format!(
                "the job types nothing for {option} that arrives at {path}, or it was not given"
            ));
        }
        if !found.insert((option, *runner)) {
            return wrong(format!("two values are sealed for {option}"));
        }
        if *expires <= begins.max(now) || expires.since(*issued) > LONGEST_VALIDITY.duration() {
            return wrong(format!("what was typed for {option} is good until {}", expires.to_seconds_text()));
        }
        let Some(name) = names(*runner) else {
            return wrong(format!("there is no runner {runner}, for which {option} is sealed"));
        };
        runners.insert(*runner, name);
        until = until.min(*expires);
    }
    if runners.is_empty() {
        return wrong("nothing is sealed for anybody".to_owned());
    }
    for (option, _) in typed {
        if let Some(name) = runners.iter().find(|(id, _)| !found.contains(&(*option, **id))) {
            return wrong(format!("{option} is not sealed for {}, and something else is", name.1));
        }
    }
    Ok(SealedTo { digest: digest_of(values), runners, until })
}

impl Scheduler {
    /// What a trigger brings for the typed options among its values; none if nothing is typed, or nothing is sealed yet.
    pub(super) fn sealed_for(
        &self,
        trigger: &Trigger,
        (document, values): (&Document, &OptionValues),
    ) -> Result<Option<SealedTo>, TriggerError> {
        let Some(sealed) = &trigger.sealed else { return Ok(None) };
        let typed = options::typed(&document.options, values);
        if typed.is_empty() {
            let message = "the job types no secret, or none was given";
            return Err(fault("sealed", message, "leave it out"));
        }
        let now = self.now();
        let state = self.state();
        let name = |id| state.runners.get(&id).map(|known| known.runner.name.clone());
        sealed_to(&sealed.values, &typed, name, (now, trigger.not_before.unwrap_or(now))).map(Some)
    }

    /// The execution that the very same sealed values have begun before.
    pub(super) async fn begun_with(
        &self,
        trigger: &Trigger,
        sealed: &SealedRun,
    ) -> Result<Option<Triggered>, TriggerError> {
        let Some(known) = self.store().execution(sealed.execution).await? else { return Ok(None) };
        let same = (&known.head.project, &known.head.job) == (&trigger.project, &trigger.job)
            && known.head.sealed.is_some_and(|to| to.digest == digest_of(&sealed.values));
        if same {
            return Ok(Some(Triggered { execution: known.id, new: false }));
        }
        Err(fault("sealed", "there is an execution of this id", ANEW))
    }
}

/// A run whose typed secrets nobody has sealed does not begin.
pub(super) fn nothing_is_missing(
    document: &Document,
    head: &crate::execution::Head,
) -> Result<(), TriggerError> {
    match (options::typed(&document.options, &head.options).first(), &head.sealed) {
        (Some((option, _)), None) => {
            let message = format!("the secret {option} is typed by whoever runs the job, and was not");
            Err(fault(&format!("options.{option}"), message, &format!("run it with `--secret {option}`")))
        }
        _ => Ok(()),
    }
}

/// What was typed for one execution is not there for another one.
pub(super) fn typed_before(
    document: &Document,
    (id, values): (ExecutionId, &OptionValues),
) -> Result<(), TriggerError> {
    match options::typed(&document.options, values).first() {
        Some((option, _)) => {
            let message = format!("what was typed for {option} was for execution {id} alone");
            let remedy = format!(
                "run the job anew and type it again: `remit job run {} --secret {option}`",
                document.job
            );
            Err(fault(&format!("options.{option}"), message, &remedy))
        }
        None => Ok(()),
    }
}

/// The note on a runner's sealing key, if its own identity key has signed it.
pub(super) fn told_by(
    note: Option<String>,
    id: RunnerId,
    key: Option<[u8; 32]>,
) -> Result<Option<String>, SessionError> {
    let Some(note) = note else { return Ok(None) };
    match SealingNote::read(note.as_bytes()) {
        Ok(read) if Some(read.identity.as_bytes()) == key.as_ref() && read.runner == id => Ok(Some(note)),
        _ => Err(SessionError::Invalid("the note on its sealing key is not its own")),
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::sealed::SealedBytes;

    use super::*;

    fn time(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn sealed(option: &str, runner: u128, expires: u64) -> Sealed {
        Sealed {
            option: option.parse().unwrap(),
            path: SecretPath::new(format!("keys/typed/{option}")).unwrap(),
            runner: RunnerId::from_u128(runner),
            issued: time(100),
            expires: time(expires),
            value: SealedBytes::new(vec![7; 60]).unwrap(),
        }
    }

    #[test]
    fn each_typed_option_is_sealed_for_each_runner_once() {
        let options: [(OptionName, SecretPath); 2] = ["a", "b"]
            .map(|name| (name.parse().unwrap(), SecretPath::new(format!("keys/typed/{name}")).unwrap()));
        let typed: Vec<_> = options.iter().map(|(name, path)| (name, path)).collect();
        let names = |id: RunnerId| (id.to_u128() < 3).then(|| "one".parse().unwrap());
        let found =
            |values: &[Sealed], begins: u64| sealed_to(values, &typed, names, (time(200), time(begins)));
        let whole = [sealed("a", 1, 900), sealed("b", 1, 800), sealed("a", 2, 900), sealed("b", 2, 900)];
        let to = found(&whole, 0).unwrap();
        assert_eq!((to.runners.len(), to.until, to.digest), (2, time(800), digest_of(&whole)));
        let bad = |values: &[Sealed], begins: u64, words: &str| {
            let error = found(values, begins).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        bad(&[], 0, "nothing is sealed");
        bad(&whole[..3], 0, "b is not sealed for one");
        bad(&[&whole[..], &whole[..1]].concat(), 0, "two values");
        bad(&[sealed("c", 1, 900)], 0, "types nothing for c");
        bad(&[Sealed { path: whole[1].path.clone(), ..whole[0].clone() }], 0, "types nothing for a");
        bad(&[sealed("a", 1, 200), whole[1].clone()], 0, "good until");
        bad(&whole, 800, "good until");
        bad(&[sealed("a", 1, 100 + 86_401), whole[1].clone()], 0, "good until");
        bad(&[sealed("a", 9, 900), sealed("b", 9, 900)], 0, "no runner");
        bad(&vec![whole[0].clone(); 257], 0, "257 sealed values");
        let long = Sealed { value: SealedBytes::new(vec![7; 65_000]).unwrap(), ..whole[0].clone() };
        bad(&vec![long; 4], 0, "bytes travel");
    }
}
