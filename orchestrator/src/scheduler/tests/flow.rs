//! Gates, halts, groups and jobs that run jobs.

use remit_protocol::SectionNumber;

use super::*;
use crate::execution::{Answer, Undecidable};

fn answer(section: u32, agrees: bool, by: &str) -> Answer {
    Answer { section: SectionNumber(section), agrees, by: by.to_owned(), note: None, why: "no".to_owned() }
}

const GATED: &str = "
job: sample
steps:
  - name: ask
    approve: { question: \"Really, ${execution.started_by}?\", needed: 2, by: another }
    timeout: 1h
  - { name: go, uses: test/pure@1 }
  - { name: tidy, uses: test/pure@1, when: on-failure }
";

#[tokio::test]
async fn a_gate_opens_when_enough_others_agree() {
    let house = House::new(samples::document(GATED)).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    house.expect(id, ExecutionState::Held).await;
    let why = house.scheduler.why_waiting(id).remove(0).reason.to_string();
    assert_eq!(why, "it waits for 2 approvals: Really, test?");
    let say = async |agrees, by: &str| house.scheduler.at_gate(id, answer(0, agrees, by)).await;
    assert_eq!(say(true, "test").await, Err(ControlError::Undecidable(Undecidable::Own(SectionNumber(0)))));
    say(true, "ann").await.unwrap();
    say(true, "ann").await.unwrap();
    house.expect(id, ExecutionState::Held).await;
    // What one has said is not forgotten.
    let house = house.restart().await;
    runner.open(&house, vec![]).await.unwrap();
    house.scheduler.at_gate(id, answer(0, true, "bob")).await.unwrap();
    let assignment = runner.assigned(&house).await;
    assert_eq!(assignment.earlier[&"ask".parse().unwrap()].outcome, Outcome::Succeeded);
    runner.finish_step(&house, &assignment, Outcome::Succeeded).await;
    let record = house.ended(id, Outcome::Succeeded).await;
    let names: Vec<&str> = record.approvals.iter().map(|approval| approval.by.as_str()).collect();
    assert_eq!(names, ["ann", "bob"]);
}

#[tokio::test]
async fn a_gate_that_is_refused_or_not_answered_is_closed() {
    let house = House::new(samples::document(GATED)).await;
    let mut runner = house.runner("one").await;
    let refused = house.trigger().await;
    house.scheduler.at_gate(refused, answer(0, false, "ann")).await.unwrap();
    let assignment = runner.assigned(&house).await;
    assert_eq!(assignment.first_step, StepIndex(2), "on-failure");
    runner.finish_step(&house, &assignment, Outcome::Succeeded).await;
    house.ended(refused, Outcome::Failed).await;
    let late = house.trigger().await;
    house.later(3599).await;
    house.expect(late, ExecutionState::Held).await;
    house.later(1).await;
    let record = house.record(late).await;
    assert_eq!(record.sections[0].state, SectionState::Ended(Outcome::TimedOut));
    let gone = house.scheduler.at_gate(late, answer(0, true, "ann")).await;
    assert!(matches!(gone, Err(ControlError::Undecidable(Undecidable::NotHeld(..)))), "{gone:?}");
    let none = house.scheduler.at_gate(late, answer(1, true, "ann")).await;
    assert!(matches!(none, Err(ControlError::Undecidable(Undecidable::NoGate(_)))), "{none:?}");
}

#[tokio::test]
async fn a_halt_ends_the_execution_as_it_says() {
    for (how, outcome) in [("succeeded", Outcome::Succeeded), ("failed", Outcome::Failed)] {
        let yaml = format!(
            "job: sample\nsteps:\n  - {{ name: stop, halt: {how}, message: nothing to do }}\n  - {{ name: go, uses: test/pure@1, when: always }}\n"
        );
        let house = House::new(samples::document(&yaml)).await;
        let mut runner = house.runner("one").await;
        let id = house.trigger().await;
        let record = house.ended(id, outcome).await;
        assert_eq!(record.sections[1].state, SectionState::Ended(Outcome::Skipped));
        assert!(runner.poll(&house).await.is_empty());
    }
}

#[tokio::test]
async fn a_group_runs_side_by_side_and_is_waited_for() {
    let yaml = "
job: sample
steps:
  - parallel:
      - { name: a, uses: test/pure@1 }
      - { name: b, uses: test/pure@1 }
  - { name: after, uses: test/pure@1 }
";
    let house = House::new(samples::document(yaml)).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let mut beside: Vec<Assignment> = runner
        .poll(&house)
        .await
        .into_iter()
        .map(|command| match command {
            Command::Run(assignment) => *assignment,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(beside.len(), 2);
    runner.finish_step(&house, &beside.remove(0), Outcome::Failed).await;
    assert!(runner.poll(&house).await.is_empty(), "the other one has not ended");
    // What failed beside it is nothing to a step that had begun, and all to the one behind.
    runner.finish_step(&house, &beside.remove(0), Outcome::Succeeded).await;
    let record = house.ended(id, Outcome::Failed).await;
    assert_eq!(record.sections[2].state, SectionState::Ended(Outcome::Skipped));
}

fn parent(more: &str) -> Document {
    samples::document(&format!(
        "job: sample\nsteps:\n  - {{ name: sites, job: child, with: {{ site: \"${{item}}\" }}, for_each: \"['a', 'b']\" }}\n{more}"
    ))
}

fn child() -> Document {
    samples::document(
        "job: child\noptions: { site: { type: string, required: true } }\nsteps:\n  - { name: go, uses: test/pure@1 }\n",
    )
}

impl House {
    async fn children(&self, id: ExecutionId) -> Vec<crate::store::Child> {
        self.store.children(id, SectionNumber(0)).await.unwrap()
    }
}

impl Fake {
    /// Ends the step of an assignment, with what it gives.
    pub(super) async fn finish_step(&self, house: &House, assignment: &Assignment, outcome: Outcome) {
        let Event::StepEnded(mut end) = ended(assignment.first_step.0, None, outcome) else { unreachable!() };
        end.output = outcome.is_good().then(|| (*assignment.options).clone().into());
        let events = vec![Event::StepEnded(end), finished(outcome)];
        let report = AttemptReport { first_event: 1, events, ..about(assignment) };
        self.say(house, report).await.unwrap();
    }
}

#[tokio::test]
async fn a_job_runs_jobs_and_sees_what_they_gave() {
    let house = House::new(child()).await;
    house
        .job(&parent(
            "  - { name: after, uses: test/pure@1, when: \"steps.sites.outputs[1].go.site == 'b'\" }\n",
        ))
        .await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    // What was due when the orchestrator stopped is due when it is back, and done once.
    let house = house.restart().await;
    runner.open(&house, vec![]).await.unwrap();
    house.scheduler.reconcile().await.unwrap();
    let children = house.children(id).await;
    assert_eq!(children.iter().map(|child| child.item).collect::<Vec<_>>(), [0, 1]);
    house.scheduler.reconcile().await.unwrap();
    for command in runner.poll(&house).await {
        let Command::Run(assignment) = command else { panic!("{command:?}") };
        assert_eq!(assignment.job.as_str(), "child");
        runner.finish_step(&house, &assignment, Outcome::Succeeded).await;
    }
    house.scheduler.reconcile().await.unwrap();
    let assignment = runner.assigned(&house).await;
    assert_eq!(assignment.execution, id);
    assert_eq!(
        assignment.earlier[&"sites".parse().unwrap()].outputs,
        Some(serde_json::json!([{ "go": { "site": "a" } }, { "go": { "site": "b" } }]))
    );
    runner.finish_step(&house, &assignment, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
}

#[tokio::test]
async fn a_child_that_fails_fails_its_parent_and_goes_with_it() {
    let house = House::new(child()).await;
    house.job(&parent("")).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    house.scheduler.reconcile().await.unwrap();
    let commands = runner.poll(&house).await;
    for (command, outcome) in commands.into_iter().zip([Outcome::Succeeded, Outcome::Failed]) {
        let Command::Run(assignment) = command else { panic!("{command:?}") };
        runner.finish_step(&house, &assignment, outcome).await;
    }
    house.scheduler.reconcile().await.unwrap();
    house.ended(id, Outcome::Failed).await;
    let cancelled = house.trigger().await;
    house.scheduler.reconcile().await.unwrap();
    house.scheduler.cancel(cancelled, CancelMode::Force, "ann").await.unwrap();
    house.scheduler.reconcile().await.unwrap();
    for child in house.children(cancelled).await {
        assert_eq!(house.record(child.id).await.stop, Some(Outcome::Cancelled));
    }
}

#[tokio::test]
async fn a_child_that_cannot_be_made_says_why() {
    let house = House::new(parent("")).await;
    let id = house.trigger().await;
    house.scheduler.reconcile().await.unwrap();
    let refused = Outcome::Refused(remit_protocol::RefusalCode::Parameter);
    house.ended(id, refused).await;
    let filter = ResultFilter { limit: 10, ..ResultFilter::default() };
    let message = house.store.results(id, filter).await.unwrap().remove(0).ended.message;
    assert!(message.contains("the job child cannot be run"), "{message}");
}
