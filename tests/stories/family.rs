//! Signed runs that go through jobs that run jobs, over two runners that want everything signed.

use std::path::PathBuf;

use harness::{Stack, builder_trust};
use serde_json::Value;

use super::{begin, ended, run};

const SIGNED: &str = "require_signed = [\"job\", \"run\"]\n\n[ceiling]\n";

/// A site with two runners, each other's peers; dora writes its jobs, and ivy begins its runs.
struct Site {
    folder: tempfile::TempDir,
    stack: Stack,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trust = builder_trust().unwrap();
        let mut stack = Stack::start(&folder.path().join("site"), &trust).unwrap();
        stack.json(&["project", "create", "demo"]).unwrap();
        stack.publish_built_in().unwrap();
        let mut lines = String::new();
        for (name, kind) in [("dora", "job"), ("ivy", "run")] {
            let key = folder.path().join(name).display().to_string();
            let made = stack.json(&["key", "new", &format!("ops.example/{name}"), "--out", &key]).unwrap();
            lines +=
                &format!("\n[[key]]\nvkey = {}\nholder = \"{name}\"\nkinds = [\"{kind}\"]\n", made["vkey"]);
        }
        lines += "\n[[author]]\nprojects = [\"demo\"]\nkeys = [\"ops.example/dora\"]\nthreshold = 1\n\
                  \n[[initiator]]\nprojects = [\"demo\"]\nkeys = [\"ops.example/ivy\"]\nthreshold = 1\n";
        for name in ["hub", "edge"] {
            stack.runner(name, &[name], SIGNED, &trust).unwrap();
            let place = stack.runner_named(name).unwrap().folder.clone();
            let shown = stack.runner_program(&place, &["identity", "--output", "json"], "").unwrap();
            lines += &format!("\n[[peer]]\nvkey = {}\n", shown.json().unwrap()["key"]);
        }
        let policy = trust.replace("version = 1", "version = 2") + &lines;
        for name in ["hub", "edge"] {
            std::fs::write(stack.runner_named(name).unwrap().folder.join("trust.toml"), &policy).unwrap();
        }
        std::fs::write(folder.path().join("trust.toml"), policy).unwrap();
        Self { folder, stack }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes a job, signs it as its author does, and saves it.
    fn job(&self, name: &str, version: u32, yaml: &str) {
        let file: PathBuf = self.folder.path().join(name).with_extension("yaml");
        std::fs::write(&file, format!("job: {name}\n{yaml}")).unwrap();
        let (file, key, trust) = (file.display().to_string(), self.path("dora"), self.path("trust.toml"));
        let version = version.to_string();
        let sign = ["job", "sign", &file, "--key", &key, "--trust", &trust, "--version", &version];
        self.stack.json(&sign).unwrap();
        self.stack.json(&["job", "apply", &file, "--accept-wider"]).unwrap();
    }

    /// Runs a job that ivy signs.
    fn signed(&self, name: &str) -> Value {
        run(&self.stack, &[name, "--sign", &self.path("ivy")])
    }
}

const LEAF: &str = "runner: { tags: [hub] }\noptions: { what: { type: string, required: true } }\nsteps:\n\
                    \x20 - { name: leaf, uses: remit/transform@1, with: { value: \"leaf of ${options.what}\" } }\n";

/// A job that runs another one between two of its own steps.
const SITE: &str = "runner: { tags: [edge] }\noptions: { site: { type: string, required: true }, with: { type: string, default: x } }\nsteps:\n\
                    \x20 - { name: go, uses: remit/transform@1, with: { value: \"${options.site}-${options.with}\" } }\n\
                    \x20 - { name: deeper, job: leaf, with: { what: \"${steps.go.outputs.value}\" } }\n\
                    \x20 - { name: done, uses: remit/transform@1, with: { value: \"${steps.deeper.outputs.leaf.value}\" } }\n";

const ALL: &str = "runner: { tags: [hub] }\nsteps:\n\
                   \x20 - { name: find, uses: remit/transform@1, with: { value: [north, south] } }\n\
                   \x20 - { name: sites, job: site, for_each: steps.find.outputs.value, with: { site: \"${item}\" } }\n\
                   \x20 - { name: undo, uses: remit/transform@1, with: { value: 1 }, when: on-failure }\n\
                   \x20 - { name: both, uses: remit/transform@1, with: { value: \"${steps.sites.outputs.map(s, s.done.value).join('+')}\" } }\n";

#[test]
fn a_signed_run_goes_through_the_jobs_that_it_runs() {
    let mut site = Site::new();
    site.job("leaf", 1, LEAF);
    site.job("site", 1, SITE);
    site.job("all", 1, ALL);

    // Nobody signed it, nor the jobs that it would run.
    assert_eq!(run(&site.stack, &["all"])["summary"]["outcome"], "refused(E_RUN)");
    assert_eq!(run(&site.stack, &["leaf", "-o", "what=x"])["summary"]["outcome"], "refused(E_RUN)");

    let shown = site.signed("all");
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    let both = &shown["steps"][3]["run"]["output"]["value"];
    assert_eq!(both, "leaf of north-x+leaf of south-x", "{shown:#}");
    assert_eq!(
        (&shown["steps"][2]["outcome"], shown["children"].as_array().unwrap().len()),
        (&"skipped".into(), 2)
    );

    // What the orchestrator knows of those that have ended it has after a restart, too.
    let ivy = site.path("ivy");
    let id = begin(&site.stack, &["all", "--sign", &ivy]);
    site.stack.kill_orchestrator().unwrap();
    site.stack.restart_orchestrator().unwrap();
    assert_eq!(ended(&site.stack, &id)["summary"]["outcome"], "succeeded");
}

#[test]
fn a_step_behind_jobs_that_did_not_end_well_is_not_run() {
    let site = Site::new();
    // The transform fails where there is nothing at the place that it is to pick.
    let fails = "runner: { tags: [edge] }\nsteps:\n\
                 \x20 - { name: go, uses: remit/transform@1, with: { value: {}, pick: { a: /a } } }\n";
    site.job("site", 1, fails);
    let all = "runner: { tags: [hub] }\nsteps:\n\
               \x20 - { name: sites, job: site }\n\
               \x20 - { name: then, uses: remit/transform@1, with: { value: 1 } }\n\
               \x20 - { name: undo, uses: remit/transform@1, with: { value: \"${steps.sites.outcome}\" }, when: on-failure }\n";
    site.job("all", 1, all);
    let shown = site.signed("all");
    assert_eq!(shown["summary"]["outcome"], "failed", "{shown:#}");
    assert_eq!(shown["steps"][1]["outcome"], "skipped");
    assert_eq!(shown["steps"][2]["run"]["output"]["value"], "failed", "{shown:#}");

    // A default that depends on the clock is nobody's signed word.
    let dated = "runner: { tags: [edge] }\noptions: { day: { type: date, default: \"${date('%Y-%m-%d')}\" } }\nsteps:\n\
                 \x20 - { name: go, uses: remit/transform@1, with: { value: \"${options.day}\" } }\n";
    site.job("site", 2, dated);
    let shown = site.signed("all");
    assert_eq!(shown["steps"][0]["outcome"], "refused(E_RUN)", "{shown:#}");
    let id = shown["children"][0]["execution"].as_str().unwrap().to_owned();
    let child = ended(&site.stack, &id);
    let why = child["steps"][0]["run"]["message"].as_str().unwrap();
    assert!(why.contains("name their values in its `with`"), "{why}");
}

#[test]
fn a_schedule_of_a_signed_job_begins_the_jobs_that_it_runs() {
    let site = Site::new();
    site.job("leaf", 1, LEAF);
    let often = "runner: { tags: [hub] }\nschedules:\n\
                 \x20 - { name: often, cron: \"*/10 * * * * *\" }\nsteps:\n\
                 \x20 - { name: below, job: leaf, with: { what: clock } }\n\
                 \x20 - { name: then, uses: remit/transform@1, with: { value: \"${steps.below.outputs.leaf.value}\" } }\n";
    site.job("tick", 1, often);
    let id = harness::wait_for("a time of the schedule", || {
        let listed = site.stack.json(&["execution", "list", "--job", "tick", "--state", "ended"])?;
        Ok(listed["items"][0]["id"].as_str().map(str::to_owned))
    })
    .unwrap();
    site.stack.json(&["schedule", "disable", "tick", "often"]).unwrap();
    let shown = ended(&site.stack, &id);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(shown["steps"][1]["run"]["output"]["value"], "leaf of clock");
}

#[test]
fn without_signed_jobs_nothing_is_believed_of_the_jobs_that_a_run_runs() {
    let mut site = Site::new();
    site.job("leaf", 1, LEAF);
    site.job(
        "one",
        1,
        "runner: { tags: [hub] }\nsteps:\n  - { name: below, job: leaf, with: { what: x } }\n",
    );
    let hub = site.stack.runner_named("hub").unwrap();
    hub.terminate().unwrap();
    let file = hub.folder.join("runner.toml");
    let config = std::fs::read_to_string(&file).unwrap().replace("[\"job\", \"run\"]", "[\"run\"]");
    std::fs::write(file, config).unwrap();
    site.stack.restart_runner("hub").unwrap();
    let shown = site.signed("one");
    let child = shown["children"][0]["execution"].as_str().map(|id| ended(&site.stack, id));
    let child = child.unwrap_or_else(|| panic!("it has no child: {shown:#}"));
    let why = child["steps"][0]["run"]["message"].as_str().unwrap();
    assert!(why.contains("only where jobs have to be signed, too"), "{why}");
}
