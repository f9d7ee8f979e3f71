//! Typed secrets: whom they reach, for how long, and what does not begin without them.

use remit_protocol::{
    digest,
    operator::{Again, Repeat},
    sealed::{Sealed, SealedBytes, SealedRun},
};

use super::*;

fn typed() -> Document {
    samples::document(
        "job: sample\noptions:\n  password: { type: secret, typed: keys/typed/db, required: true }\nsteps:\n  \
         - { name: plain, uses: test/pure@1 }\n  \
         - { name: call, uses: test/keyed@1, secrets: { token: \"${options.password}\" } }\n",
    )
}

/// The job, where its secret is to be typed.
fn asked() -> Trigger {
    let given = [("password".parse().unwrap(), "keys/typed/db".into())];
    Trigger { options: given.into(), ..sample() }
}

/// The job with its secret sealed for these runners, for so many seconds.
async fn sealed(house: &House, runners: &[&Fake], seconds: u64) -> Trigger {
    let plan = house.scheduler.draft(&asked()).await.unwrap();
    let issued = Timestamp::from_millis(house.clock.now().as_secs() * 1000);
    let value = |runner: &&Fake| Sealed {
        option: "password".parse().unwrap(),
        path: "keys/typed/db".parse().unwrap(),
        runner: runner.id,
        issued,
        expires: issued.plus(Duration::from_secs(seconds)),
        value: SealedBytes::new(vec![7; 60]).unwrap(),
    };
    let run = SealedRun {
        execution: plan.id,
        definition: plan.head.document,
        options: plan.head.options.text().to_owned(),
        nodes: None,
        values: runners.iter().map(value).collect(),
    };
    Trigger { sealed: Some(run), ..asked() }
}

fn refused(error: &TriggerError, words: &str) {
    let TriggerError::Faults(faults) = error else { panic!("{error:?}") };
    let found = format!("{} {} {}", faults[0].place, faults[0].message, faults[0].remedy);
    assert!(found.contains(words), "{found}");
}

#[tokio::test]
async fn it_goes_to_those_for_whom_it_is_sealed_and_to_the_step_that_uses_it() {
    let house = House::new(typed()).await;
    let mut one = house.runner("one").await;
    let mut two = house.runner("two").await;
    let begun = house.scheduler.trigger(sealed(&house, &[&two], 3600).await).await.unwrap();
    let id = begun.execution;
    assert!(one.poll(&house).await.is_empty());
    let plain = two.assigned(&house).await;
    assert!(plain.sealed.is_empty(), "this step does not use it");
    two.finish(&house, &plain, Outcome::Succeeded).await;
    let house = house.restart().await;
    two.open(&house, vec![]).await.unwrap();
    one.open(&house, vec![]).await.unwrap();
    house.later(6).await;
    assert!(one.poll(&house).await.is_empty());
    let call = two.assigned(&house).await;
    assert_eq!(call.sealed.iter().map(|one| one.runner).collect::<Vec<_>>(), [two.id]);
    assert_eq!(call.options["password"], "keys/typed/db");
    assert_eq!(house.store.sealed(id).await.unwrap().len(), 1);
    let events = vec![ended(1, None, Outcome::Failed), finished(Outcome::Failed)];
    two.say(&house, AttemptReport { first_event: 1, events, ..about(&call) }).await.unwrap();
    let record = house.ended(id, Outcome::Failed).await;
    assert!(house.store.sealed(id).await.unwrap().is_empty(), "forgotten with the end");
    let names: Vec<_> =
        record.head.sealed.unwrap().runners.into_values().map(|name| name.to_string()).collect();
    assert_eq!(names, ["two"]);

    // What was typed was for that run alone.
    for how in [Repeat::Resume, Repeat::Rerun { nodes: Default::default() }] {
        let again = Trigger { again: Some(Again { execution: id, how }), ..sample() };
        refused(&house.scheduler.trigger(again).await.unwrap_err(), "remit job run sample --secret password");
    }
}

#[tokio::test]
async fn nothing_begins_without_what_has_to_be_typed() {
    let house = House::new(typed()).await;
    let one = house.runner("one").await;
    let failed = async |trigger: Trigger, words: &str| {
        refused(&house.scheduler.trigger(trigger).await.unwrap_err(), words);
    };
    failed(sample(), "--secret password").await;
    failed(asked(), "--secret password").await;
    let clear = [("password".parse().unwrap(), "correct horse".into())];
    let error = house.scheduler.trigger(Trigger { options: clear.into(), ..sample() }).await.unwrap_err();
    refused(&error, "--secret");
    assert!(!format!("{error:?}").contains("horse"), "{error:?}");

    let good = sealed(&house, &[&one], 3600).await;
    let with = |change: fn(&mut SealedRun)| {
        let mut run = good.sealed.clone().unwrap();
        change(&mut run);
        Trigger { sealed: Some(run), ..good.clone() }
    };
    failed(with(|run| run.definition = digest::Sized::of(b"other")), "has changed").await;
    failed(with(|run| run.values.clear()), "nothing is sealed").await;
    failed(with(|run| run.values[0].runner = RunnerId::from_u128(9)), "there is no runner").await;
    failed(with(|run| run.values[0].option = "other".parse().unwrap()), "types nothing").await;
    let late =
        Trigger { not_before: Some(house.clock.now().plus(Duration::from_secs(4000))), ..good.clone() };
    failed(late, "good until").await;

    let begun = house.scheduler.trigger(good.clone()).await.unwrap();
    assert!(begun.new);
    let again = house.scheduler.trigger(good.clone()).await.unwrap();
    assert_eq!((again.execution, again.new), (begun.execution, false), "the same request");
    let other = with(|run| run.values[0].value = SealedBytes::new(vec![8; 60]).unwrap());
    failed(other, "an execution of this id").await;
}

#[tokio::test]
async fn why_it_waits_is_said_where_those_who_can_open_it_are_gone() {
    let house = House::new(typed()).await;
    let one = house.runner("one").await;
    let _two = house.runner("two").await;
    let id = {
        let trigger = sealed(&house, &[&one], 3600).await;
        house.store.delete_runner(one.id).await.unwrap();
        let begun = house.scheduler.trigger(trigger).await.unwrap();
        house.scheduler.runner_changed(one.id).await.unwrap();
        begun.execution
    };
    // What it had is lost with it, and waits to be handed out again.
    house.later(200).await;
    house.later(200).await;
    let why: Vec<String> = house.scheduler.why_waiting(id).iter().map(|one| one.reason.to_string()).collect();
    assert!(why.iter().any(|why| why.contains("sealed for none of the runners")), "{why:?}");
}
