//! Every order in which an orchestrator could present a job of five steps and a gate, held against those that a run of it
//! can really come to.

use std::collections::{BTreeMap, BTreeSet};

use remit_job::{
    compile::{ResolvedComponent, compile},
    document::Document,
    source::JobSource,
};
use remit_protocol::{
    ComponentSelector, Digest, Outcome, RefusalCode, SectionNumber, Timestamp,
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
    let yaml = "job: order\n\
                steps:\n\
                \x20 - { name: one, uses: acme/pure@1 }\n\
                \x20 - { name: two, uses: acme/pure@1 }\n\
                \x20 - { name: ask, approve: \"Go on?\" }\n\
                \x20 - { name: three, uses: acme/pure@1 }\n\
                \x20 - { name: undo, uses: acme/pure@1, when: on-failure }\n\
                \x20 - { name: tell, uses: acme/pure@1, when: always }\n";
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
                assignment: &assignment,
                results: Some(results(shown)),
                gates: Some(gates),
            };
            let found = walk.to_the_section();
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
