//! Retry: what follows an outcome. Inside an attempt the runner decides, across attempts and for a job as a whole the
//! orchestrator; all of it here.
//!
//! `failed` and `timed-out` are tried again inside the attempt, by the job's rule. `interrupted` and `lost` end the
//! attempt; whether there is another one is a question of the retry class: what cannot do harm twice is handed out again,
//! and the class `effect` waits for a person. Nothing else is ever tried again.

use remit_protocol::{Outcome, Span, capability::Effect, report::backoff};

use crate::document::{Retry, RetryOutcome};

/// How often a section is handed out in all after `interrupted` or `lost`, where the job says nothing.
pub const ATTEMPTS: u32 = 3;
/// The wait before the second hand-out, where the job says nothing; it doubles.
const DELAY: Span = Span::from_secs(5);

/// What follows the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The outcome stands.
    Stop,
    /// Hand the section out again.
    Again {
        /// After this time.
        after: Span,
    },
    /// Wait for a person.
    Hold,
}

fn listed(outcome: Outcome) -> Option<RetryOutcome> {
    match outcome {
        Outcome::Failed => Some(RetryOutcome::Failed),
        Outcome::TimedOut => Some(RetryOutcome::TimedOut),
        Outcome::Interrupted => Some(RetryOutcome::Interrupted),
        Outcome::Lost => Some(RetryOutcome::Lost),
        Outcome::Succeeded
        | Outcome::Refused(_)
        | Outcome::Trapped
        | Outcome::OverLimit(_)
        | Outcome::Cancelled
        | Outcome::HostFault
        | Outcome::Skipped
        | Outcome::NotStarted => None,
    }
}

/// Whether the runner runs a step again inside the attempt after its `tries`-th try came to `outcome`, and after which
/// wait.
pub fn inside(outcome: Outcome, tries: u32, rule: Option<&Retry>) -> Option<Span> {
    let rule = rule?;
    let wanted =
        listed(outcome).filter(|kind| matches!(kind, RetryOutcome::Failed | RetryOutcome::TimedOut))?;
    let again = rule.outcomes.contains(&wanted) && tries < rule.attempts;
    again.then(|| backoff(rule.delay, rule.backoff, tries))
}

/// Whether another execution of a job follows when the `tries`-th one came to `outcome`, and after which wait.
pub fn whole(outcome: Outcome, tries: u32, rule: &Retry) -> Option<Span> {
    let again = rule.outcomes.contains(&listed(outcome)?) && tries < rule.attempts;
    again.then(|| backoff(rule.delay, rule.backoff, tries))
}

/// What follows when the `attempts`-th attempt at a section of class `effect` came to `outcome`. `rules` are those of
/// all steps of the section: the job has asked for another attempt only if each of them has.
pub fn across<'a>(
    outcome: Outcome,
    attempts: u32,
    effect: Effect,
    rules: impl IntoIterator<Item = Option<&'a Retry>>,
) -> Next {
    let Some(kind @ (RetryOutcome::Interrupted | RetryOutcome::Lost)) = listed(outcome) else {
        return Next::Stop;
    };
    let asked = strictest(kind, rules);
    match (effect, kind, asked) {
        // Whether a lost one has changed the world is not known: no rule of a job may answer that.
        (Effect::Effect, RetryOutcome::Lost, _) | (Effect::Effect, _, None) => Next::Hold,
        (_, _, Some((most, delay, factor))) if attempts < most => {
            Next::Again { after: backoff(delay, factor, attempts) }
        }
        (_, _, None) if attempts < ATTEMPTS => Next::Again { after: backoff(DELAY, 2.0, attempts) },
        _ => Next::Stop,
    }
}

/// The fewest attempts and the longest wait of rules that all list `kind`; `None` if one does not.
fn strictest<'a>(
    kind: RetryOutcome,
    rules: impl IntoIterator<Item = Option<&'a Retry>>,
) -> Option<(u32, Span, f64)> {
    let mut strictest: Option<(u32, Span, f64)> = None;
    for rule in rules {
        let rule = rule.filter(|rule| rule.outcomes.contains(&kind))?;
        let (most, delay, factor) = strictest.unwrap_or((rule.attempts, rule.delay, rule.backoff));
        strictest = Some((most.min(rule.attempts), delay.max(rule.delay), factor.max(rule.backoff)));
    }
    strictest
}

#[cfg(test)]
mod tests {
    use remit_protocol::{RefusalCode, report::Limit};

    use super::*;

    fn rule(attempts: u32, outcomes: &[RetryOutcome]) -> Retry {
        Retry {
            attempts,
            outcomes: outcomes.iter().copied().collect(),
            delay: Span::from_secs(5),
            backoff: 2.0,
        }
    }

    #[test]
    fn inside_an_attempt_only_what_the_step_said_is_tried_again() {
        let both = rule(3, &[RetryOutcome::Failed, RetryOutcome::TimedOut]);
        let all = rule(
            3,
            &[RetryOutcome::Failed, RetryOutcome::TimedOut, RetryOutcome::Interrupted, RetryOutcome::Lost],
        );
        let check = |outcome, tries, rule: Option<&Retry>, expect: Option<u64>| {
            assert_eq!(
                inside(outcome, tries, rule),
                expect.map(Span::from_secs),
                "{outcome} {tries} {rule:?}"
            );
        };
        check(Outcome::Failed, 1, None, None);
        check(Outcome::Failed, 1, Some(&both), Some(5));
        check(Outcome::TimedOut, 2, Some(&both), Some(10));
        check(Outcome::Failed, 3, Some(&both), None);
        check(Outcome::Failed, 1, Some(&rule(3, &[RetryOutcome::TimedOut])), None);
        for never in [
            Outcome::Succeeded,
            Outcome::Refused(RefusalCode::Ceiling),
            Outcome::Trapped,
            Outcome::OverLimit(Limit::Memory),
            Outcome::Cancelled,
            Outcome::HostFault,
            Outcome::Interrupted,
            Outcome::Lost,
            Outcome::Skipped,
            Outcome::NotStarted,
        ] {
            check(never, 1, Some(&all), None);
        }
    }

    #[test]
    fn a_job_is_run_again_after_what_its_rule_lists() {
        let listed = rule(3, &[RetryOutcome::Failed, RetryOutcome::Lost]);
        let check = |outcome, tries, expect: Option<u64>| {
            assert_eq!(whole(outcome, tries, &listed), expect.map(Span::from_secs), "{outcome} {tries}");
        };
        check(Outcome::Failed, 1, Some(5));
        check(Outcome::Lost, 2, Some(10));
        check(Outcome::Failed, 3, None);
        for never in
            [Outcome::Succeeded, Outcome::Cancelled, Outcome::TimedOut, Outcome::Refused(RefusalCode::Grant)]
        {
            check(never, 1, None);
        }
    }

    #[test]
    fn across_attempts_the_class_decides() {
        let lost = rule(2, &[RetryOutcome::Lost, RetryOutcome::Interrupted]);
        let again = |seconds| Next::Again { after: Span::from_secs(seconds) };
        let check = |outcome, attempts, effect, rules: &[Option<&Retry>], expect| {
            assert_eq!(
                across(outcome, attempts, effect, rules.iter().copied()),
                expect,
                "{outcome} {attempts} {effect:?} {rules:?}"
            );
        };
        check(Outcome::Lost, 1, Effect::Read, &[None], again(5));
        check(Outcome::Lost, 2, Effect::Pure, &[None], again(10));
        check(Outcome::Lost, 3, Effect::Pure, &[None], Next::Stop);
        check(Outcome::Interrupted, 1, Effect::Idempotent, &[None], again(5));
        check(Outcome::Lost, 1, Effect::Effect, &[None], Next::Hold);
        check(Outcome::Interrupted, 1, Effect::Effect, &[None], Next::Hold);
        // A rule may ask for more where it is known that nothing is running any more, never where that is not known.
        check(Outcome::Interrupted, 1, Effect::Effect, &[Some(&lost)], again(5));
        check(Outcome::Interrupted, 2, Effect::Effect, &[Some(&lost)], Next::Stop);
        check(Outcome::Lost, 1, Effect::Effect, &[Some(&lost)], Next::Hold);
        check(Outcome::Interrupted, 1, Effect::Effect, &[Some(&lost), None], Next::Hold);
        check(Outcome::Lost, 2, Effect::Read, &[Some(&lost)], Next::Stop);
        for never in
            [Outcome::Failed, Outcome::TimedOut, Outcome::HostFault, Outcome::Cancelled, Outcome::Succeeded]
        {
            check(never, 1, Effect::Pure, &[Some(&lost)], Next::Stop);
        }
    }
}
