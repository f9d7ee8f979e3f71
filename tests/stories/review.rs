//! Reviewers: what has to be looked at runs when enough of them stand for it, and not when one stands against it.

use std::path::Path;

use harness::{Stack, builder_trust};
use remit_signing::{KeyName, SigningKey};

use super::{apply, run};

const REVIEWERS: [&str; 3] = ["ann", "ben", "cleo"];

/// Makes the reviewers' keys in `folder`, and gives the lines of a trust policy that name them.
fn keys(folder: &Path) -> String {
    let mut lines = String::new();
    for (seed, name) in (1..).zip(REVIEWERS) {
        let key = SigningKey::from_seed(KeyName::new(format!("sec.example/{name}")).unwrap(), &[seed; 32]);
        std::fs::write(folder.join(format!("{name}.key")), key.to_private_text().as_bytes()).unwrap();
        lines += &format!("\n[[key]]\nvkey = \"{}\"\nholder = {name:?}\nkinds = [\"verdict\"]\n", key.vkey());
    }
    lines
}

const REVIEW: &str = "\n[[review]]\nnamespaces = [\"remit\"]\ncriteria = \"safe-to-run\"\n\
    keys = [\"sec.example/ann\", \"sec.example/ben\", \"sec.example/cleo\"]\nthreshold = 2\n";

fn job(component: &str, with: &str) -> String {
    format!("job: {component}\nsteps:\n  - {{ name: one, uses: remit/{component}@1, with: {with} }}\n")
}

fn outcome(stack: &Stack, job: &str) -> String {
    run(stack, &[job])["summary"]["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn what_reviewers_stand_for_runs_until_one_stands_against_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let known = builder_trust().unwrap() + &keys(folder.path());
    let mut stack = Stack::start(&folder.path().join("site"), &known).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.publish_built_in().unwrap();
    let key = stack.json(&["log", "key"]).unwrap()["key"].as_str().unwrap().to_owned();
    let log = format!("\n[log]\nrequire = \"required\"\nkeys = [{key:?}]\n");
    let trust = known + REVIEW + &log;
    stack.runner("local", &[], "[ceiling]\n", &trust).unwrap();
    apply(&stack, folder.path(), &job("transform", "{ value: 1 }"));
    assert_eq!(outcome(&stack, "transform"), "refused(E_VERDICT)");

    let package = place("package");
    let fetched = stack.json(&["component", "fetch", "remit/transform@1.0.0", "--out", &package]).unwrap();
    assert_eq!(fetched["verdicts"], 0);
    let verdict = |by: &str, more: &[&str]| {
        let key = place(&format!("{by}.key"));
        let given = ["step", "verdict", &package, "--key", &key, "--criteria", "safe-to-run", "--publish"];
        stack.json(&[&given, more].concat()).unwrap()
    };
    verdict("ann", &[]);
    assert_eq!(outcome(&stack, "transform"), "refused(E_VERDICT)");
    std::fs::write(place("report"), "I looked at all of it.").unwrap();
    verdict("ben", &["--report", &place("report")]);
    assert_eq!(outcome(&stack, "transform"), "succeeded");
    let shown = stack.json(&["component", "show", "remit/transform@1.0.0"]).unwrap();
    assert_eq!(shown["verdicts"].as_array().unwrap().len(), 2, "{shown:#}");

    // Whoever reviews nothing here is not listened to.
    let stranger = stack.json(&["key", "new", "eve", "--out", &place("eve.key")]).unwrap();
    assert!(stranger["vkey"].is_string());
    let given =
        ["step", "verdict", &package, "--key", &place("eve.key"), "--criteria", "safe-to-run", "--publish"];
    let refused = stack.remit(&given).unwrap();
    assert!(refused.code != 0 && refused.err.contains("Too few trusted holders"), "{refused:?}");

    // What is in use already is looked at again later: a restart stands for that here.
    verdict("cleo", &["--fail"]);
    stack.runner_named("local").unwrap().kill().unwrap();
    stack.restart_runner("local").unwrap();
    let shown = run(&stack, &["transform"]);
    assert_eq!(shown["summary"]["outcome"], "refused(E_VERDICT)", "{shown:#}");
    assert!(shown.to_string().contains("cleo has looked at remit/transform@1.0.0"), "{shown:#}");

    let runner = stack.runner_named("local").unwrap().folder.clone();
    let trail = std::fs::read_to_string(runner.join("state/audit/000001.jsonl")).unwrap();
    assert!(trail.contains("\"verdicts\":[\"sha256:"), "{trail}");
}

#[test]
fn an_exemption_is_debt_that_its_owner_sees() {
    let folder = tempfile::tempdir().unwrap();
    let known = builder_trust().unwrap() + &keys(folder.path());
    let mut stack = Stack::start(&folder.path().join("site"), &known).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.publish_built_in().unwrap();
    let shown = stack.json(&["component", "show", "remit/transform@1.0.0"]).unwrap();
    let digest = &shown["summary"]["digest"];
    let exemption = |until: &str| {
        format!(
            "\n[[exemption]]\ncomponent = \"remit/transform@1.0.0\"\ndigest = {digest}\ncriteria = \"safe-to-run\"\n\
             reason = \"in use since before there were reviews\"\nuntil = \"{until}\"\n"
        )
    };
    let trust = known + REVIEW;
    stack.runner("local", &[], "[ceiling]\n", &(trust.clone() + &exemption("2999-12-31"))).unwrap();
    let source = job("transform", "{ value: 1 }");
    apply(&stack, folder.path(), &source);
    assert_eq!(outcome(&stack, "transform"), "succeeded");

    let runner = stack.runner_named("local").unwrap().folder.clone();
    let at = |name: &str| runner.join(name).display().to_string();
    let doctor =
        stack.runner_program(&runner, &["doctor", "--quick", "--config", "runner.toml"], "").unwrap();
    assert!(doctor.out.contains("remit/transform@1.0.0 runs without a review by safe-to-run"), "{doctor:?}");
    let file = folder.path().join("job.yaml").display().to_string();
    let explain = ["policy", "explain", &file, "--runner", &at("runner.toml"), "--trust", &at("trust.toml")];
    let explained = stack.json(&explain).unwrap();
    let debt = &explained["exemptions"][0];
    assert_eq!((&debt["holds"], &debt["used"]), (&true.into(), &true.into()), "{explained:#}");
    let trail = std::fs::read_to_string(runner.join("state/audit/000001.jsonl")).unwrap();
    assert!(trail.contains("\"exempt\":[\"safe-to-run until 2999-12-31"), "{trail}");

    let later = trust.replace("version = 1", "version = 2") + &exemption("2020-12-31");
    std::fs::write(at("trust.toml"), later).unwrap();
    assert_eq!(outcome(&stack, "transform"), "refused(E_VERDICT)");
    let refused = stack.remit(&explain).unwrap();
    assert!(refused.code == 4 && refused.out.contains("HAS RUN OUT"), "{refused:?}");
}
