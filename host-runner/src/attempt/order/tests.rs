//! Every order in which an orchestrator could present a job of five steps and a gate, held against those that a run of it
//! can really come to.

use std::collections::{BTreeMap, BTreeSet};

use remit_job::{
    compile::{ResolvedComponent, compile},
    document::{Document, Step},
    expression::Scope,
    sections::Section,
    source::JobSource,
};
use remit_protocol::{
    ComponentSelector, Digest, Outcome, RefusalCode, SectionNumber, StepIndex, StepName, Timestamp,
    assignment::{Assignment, StepView},
    digest::Sized,
    limits::Limits,
};
use remit_signing::{
    SigningKey, TrustPolicy,
    key::KeyName,
    note,
    run::{ApproveNote, Order},
};
use serde_json::{Value, json};

use super::walk::{Gates, Results, Walk};

const STEPS: [&str; 6] = ["one", "two", "ask", "three", "undo", "tell"];
const GATE: usize = 2;
const ONLY_ON_FAILURE: usize = 4;
const ALWAYS: usize = 5;

/// What an orchestrator presents for each step: nothing, or what it came to. For the gate: an approval, or none.
type Shown = [Option<bool>; STEPS.len()];

fn document() -> Document {
    compiled(
        "job: order\n\
                steps:\n\
                \x20 - { name: one, uses: acme/pure@1 }\n\
                \x20 - { name: two, uses: acme/pure@1 }\n\
                \x20 - { name: ask, approve: \"Go on?\" }\n\
                \x20 - { name: three, uses: acme/pure@1 }\n\
                \x20 - { name: undo, uses: acme/pure@1, when: on-failure }\n\
                \x20 - { name: tell, uses: acme/pure@1, when: always }\n",
    )
}

fn compiled(yaml: &str) -> Document {
    let manifest = json!({ "v": 1, "name": "acme/pure", "version": "1.0.0", "kind": "step", "description": "-",
        "effect": "pure", "imports": [], "requests": {}, "limits": Limits::default(), "input": {}, "output": {} });
    let component = ResolvedComponent {
        version: "1.0.0".parse().unwrap(),
        digest: Digest::of(b"wasm"),
        manifest: serde_json::from_value(manifest).unwrap(),
    };
    let source = JobSource::from_slice(yaml.as_bytes()).unwrap();
    compile(&source, &"demo".parse().unwrap(), &|_: &ComponentSelector| Some(component.clone())).unwrap()
}

/// Whether a step is run, given what the ones before it came to; a step that is skipped is good.
fn due(step: usize, earlier: &[bool]) -> bool {
    match step {
        ALWAYS => true,
        ONLY_ON_FAILURE => !earlier.iter().all(|good| *good),
        _ => earlier.iter().all(|good| *good),
    }
}

/// Walks the job forward in every way it can go, and gathers what can be shown when each step begins.
fn runs(shown: Shown, earlier: &mut Vec<bool>, begun: &mut BTreeSet<(usize, Shown)>) {
    let step = earlier.len();
    if step == STEPS.len() {
        return;
    }
    let outcomes: &[Option<bool>] = match (due(step, earlier), step) {
        (false, _) => &[None],
        (true, GATE) => &[Some(true)],
        (true, _) => {
            begun.insert((step, shown));
            &[Some(true), Some(false)]
        }
    };
    for outcome in outcomes {
        let mut shown = shown;
        shown[step] = *outcome;
        earlier.push(outcome.unwrap_or(true));
        runs(shown, earlier, begun);
        earlier.pop();
    }
}

fn every(shown: &mut Shown, from: usize, each: &mut impl FnMut(&Shown)) {
    if from == STEPS.len() {
        return each(shown);
    }
    let outcomes: &[Option<bool>] =
        if from == GATE { &[None, Some(true)] } else { &[None, Some(true), Some(false)] };
    for outcome in outcomes {
        shown[from] = *outcome;
        every(shown, from + 1, each);
    }
}

fn results(shown: &Shown) -> Results {
    let mut results = Results::new();
    for (number, (name, good)) in (0_u32..).zip(STEPS.iter().zip(shown)) {
        let Some(good) = good.filter(|_| number as usize != GATE) else { continue };
        let outcome = if good { Outcome::Succeeded } else { Outcome::Failed };
        let view = StepView { outcome, outputs: None, nodes: None };
        results.insert(SectionNumber(number), BTreeMap::from([(name.parse().unwrap(), view)]));
    }
    results
}

fn assignment(document: &Document, approval: &str, step: usize, shown: &Shown) -> Assignment {
    // The orchestrator's own word says that all went well, and changes nothing.
    let claimed: Value =
        STEPS.iter().map(|name| ((*name).to_owned(), json!({ "outcome": "succeeded" }))).collect();
    let approvals: Vec<&str> = shown[GATE].iter().map(|_| approval).collect();
    serde_json::from_value(json!({
        "attempt": remit_protocol::AttemptId::from_u128(1), "epoch": 1,
        "execution": remit_protocol::ExecutionId::from_u128(1),
        "project": "demo", "job": "order", "revision": 1, "document": Sized::of(&document.to_vec()),
        "section": step, "first_step": step, "steps": 1, "start": "guarded", "effect": "pure", "options": "{}",
        "approvals": approvals, "earlier": claimed, "started_by": "test",
    }))
    .unwrap()
}

#[test]
fn a_section_is_taken_where_a_run_can_come_to_it_and_nowhere_else() {
    let document = document();
    let key = SigningKey::from_seed(KeyName::new("demo.example/otto").unwrap(), &[7; 32]);
    let policy = TrustPolicy::from_toml(&format!(
        "version = 1\n[[key]]\nvkey = \"{}\"\nholder = \"otto\"\nkinds = [\"approve\"]\n\
         [[approver]]\nprojects = [\"demo\"]\nkeys = [\"demo.example/otto\"]\nthreshold = 1\n",
        key.vkey()
    ))
    .unwrap();
    let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    let order: Order = super::of(&assignment(&document, "", 0, &[None; 6]));
    let approval = ApproveNote {
        order: order.clone(),
        step: STEPS[GATE].parse().unwrap(),
        issued: now,
        expires: now.plus(std::time::Duration::from_secs(60)),
    };
    let approval = String::from_utf8(note::sign(&approval.to_text(), &[&key]).unwrap()).unwrap();
    let mut begun = BTreeSet::new();
    runs([None; 6], &mut Vec::new(), &mut begun);

    let (mut taken, mut refused) = (0, 0);
    for step in (0..STEPS.len()).filter(|step| *step != GATE) {
        every(&mut [None; 6], 0, &mut |shown| {
            let assignment = assignment(&document, &approval, step, shown);
            let gates = Gates { order: &order, run: None, policy: &policy, now };
            let walk = Walk {
                document: &document,
                before: Scope::before_steps(&assignment),
                said: &assignment.earlier,
                approvals: &assignment.approvals,
                nodes: None,
                results: Some(results(shown)),
                gates: Some(gates),
                jobs: Box::new(|_, step, _| panic!("{} runs no job", step.name)),
            };
            let found = walk.to_the_section(assignment.first_step);
            // What is shown of steps that are skipped, or come later, has no say.
            let mut counts = [None; 6];
            let mut earlier = Vec::new();
            for at in 0..step {
                counts[at] = shown[at].filter(|_| due(at, &earlier));
                earlier.push(counts[at].unwrap_or(true));
            }
            let expect = begun.contains(&(step, counts));
            assert_eq!(found.is_ok(), expect, "{} after {shown:?}: {found:?}", STEPS[step]);
            match found {
                Ok(_) => taken += 1,
                Err(not) => {
                    let codes = [RefusalCode::Order, RefusalCode::Gate].map(Outcome::Refused);
                    assert!(codes.contains(&not.outcome), "{not:?}");
                    refused += 1;
                }
            }
        });
    }
    assert!(taken > 100 && refused > 1000, "{taken} taken, {refused} refused: too little was tried");
}

/// A way through a job of which these sections are shown, and whose jobs come to this.
fn walk<'a>(
    document: &'a Document,
    said: &'a BTreeMap<StepName, StepView>,
    shown: &[(u32, &str, Outcome)],
    jobs: Outcome,
) -> Walk<'a> {
    let mut results = Results::new();
    for (section, name, outcome) in shown {
        let view = StepView { outcome: *outcome, outputs: Some(json!(name)), nodes: None };
        results.insert(SectionNumber(*section), BTreeMap::from([(name.parse().unwrap(), view)]));
    }
    let of_job = move |_: &Section, _: &Step, _: &Scope| {
        Ok(StepView { outcome: jobs, outputs: Some(json!("below")), nodes: None })
    };
    Walk {
        document,
        before: Scope::default(),
        said,
        approvals: &[],
        nodes: Some(Sized::of(br#"{"nodes":[]}"#)),
        results: Some(results),
        gates: None,
        jobs: Box::new(of_job),
    }
}

#[test]
fn a_job_is_walked_to_its_end() {
    fn check(
        steps: &[&str],
        shown: &[(u32, &str, Outcome)],
        jobs: Outcome,
        expect: Result<(Outcome, Value), &str>,
    ) {
        let (head, steps) = steps.split_at(usize::from(steps[0].starts_with("nodes")));
        let steps: String = steps.iter().map(|step| format!("  - {{ {step} }}\n")).collect();
        let document = compiled(&format!("job: order\n{}\nsteps:\n{steps}", head.concat()));
        let said = BTreeMap::new();
        let found = walk(&document, &said, shown, jobs).to_the_end();
        match (found, expect) {
            (Ok((outcome, given)), Ok(expect)) => {
                assert_eq!((outcome, Value::Object(given)), expect, "{steps}");
            }
            (Err(not), Err(part)) => {
                assert_eq!(not.outcome, Outcome::Refused(RefusalCode::Order));
                assert!(not.message.contains(part), "{}", not.message);
            }
            (found, _) => panic!("{steps}: {found:?}"),
        }
    }
    use Outcome::{Failed, Skipped, Succeeded};
    let (one, two) = ("name: one, uses: acme/pure@1", "name: two, uses: acme/pure@1");
    let both = json!({ "one": "one", "two": "two" });
    check(&[one, two], &[(0, "one", Succeeded), (1, "two", Succeeded)], Skipped, Ok((Succeeded, both)));
    check(&[one, two], &[(0, "one", Succeeded)], Skipped, Err("no result that a believed runner signed"));
    check(&[one, two], &[(0, "one", Failed)], Skipped, Ok((Failed, json!({ "one": "one" }))));
    check(&[one, two], &[(0, "two", Succeeded)], Skipped, Err("leaves steps out"));
    // A gate of which nobody says anything.
    check(&["name: ask, approve: \"Go on?\""], &[], Skipped, Err("has not ended"));
    // What comes behind a halt is skipped, whatever its condition.
    let always = "name: two, uses: acme/pure@1, when: always";
    check(&["name: stop, halt: succeeded", always], &[], Skipped, Ok((Succeeded, json!({}))));
    check(&["name: stop, halt: failed", always], &[], Skipped, Ok((Failed, json!({}))));
    let not_due = "name: stop, halt: failed, when: on-failure";
    check(&[not_due, one], &[(1, "one", Succeeded)], Skipped, Ok((Succeeded, json!({ "one": "one" }))));
    // Jobs within.
    let job = "name: below, job: other";
    let below = json!({ "below": "below", "two": "two" });
    check(&[job, two], &[(1, "two", Succeeded)], Succeeded, Ok((Succeeded, below)));
    check(&[job, two], &[(1, "two", Succeeded)], Failed, Ok((Failed, json!({ "below": "below" }))));
    // Nodes, of which there are none.
    let each = "name: one, uses: acme/pure@1, per: node";
    check(&["nodes: { filter: \".*\" }", each], &[], Skipped, Ok((Succeeded, json!({}))));
    check(&["nodes: { filter: \".*\", on_empty: fail }", each], &[], Skipped, Ok((Failed, json!({}))));
}

#[test]
fn a_step_behind_a_job_is_due_by_what_the_job_came_to() {
    fn check(jobs: Outcome, step: u32, expect: Result<&Value, &str>) {
        let document = compiled(
            "job: order\nsteps:\n\
             \x20 - { name: below, job: other }\n\
             \x20 - { name: then, uses: acme/pure@1 }\n\
             \x20 - { name: undo, uses: acme/pure@1, when: on-failure }\n",
        );
        let said = BTreeMap::new();
        let found = walk(&document, &said, &[], jobs).to_the_section(StepIndex(step));
        match (found, expect) {
            (Ok((earlier, _)), Ok(expect)) => {
                assert_eq!(earlier[&"below".parse().unwrap()].outputs.as_ref(), Some(expect));
            }
            (Err(not), Err(part)) => assert!(not.message.contains(part), "{}", not.message),
            (found, _) => panic!("{jobs:?} {step}: {:?}", found.map(|(earlier, _)| earlier)),
        }
    }
    check(Outcome::Succeeded, 1, Ok(&json!("below")));
    check(Outcome::Skipped, 1, Ok(&json!("below")));
    check(Outcome::Failed, 1, Err("is not due"));
    check(Outcome::Lost, 1, Err("is not due"));
    check(Outcome::Failed, 2, Ok(&json!("below")));
    check(Outcome::Succeeded, 2, Err("no result"));
}
