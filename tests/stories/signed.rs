//! Jobs that their authors sign: what was signed is what runs, and it does not go back.

use std::path::{Path, PathBuf};

use super::{run, site};

/// A site whose runner wants signed jobs of project `demo`, by one key or by two holders.
struct Signed {
    folder: tempfile::TempDir,
    stack: harness::Stack,
}

impl Signed {
    fn new(threshold: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut stack = site(folder.path(), "require_signed = [\"job\"]\n\n[ceiling]\n");
        let mut lines = String::new();
        for name in ["one", "two"] {
            let made = stack.json(&[
                "key",
                "new",
                &format!("ops.example/{name}"),
                "--out",
                &key(folder.path(), name),
            ]);
            let vkey = made.unwrap()["vkey"].as_str().unwrap().to_owned();
            lines += &format!("\n[[key]]\nvkey = {vkey:?}\nholder = {name:?}\nkinds = [\"job\"]\n");
        }
        lines += &format!(
            "\n[[author]]\nprojects = [\"demo\"]\nkeys = [\"ops.example/one\", \"ops.example/two\"]\nthreshold = {threshold}\n"
        );
        let trust = stack.runner_named("local").unwrap().folder.join("trust.toml");
        let policy = std::fs::read_to_string(&trust).unwrap().replace("version = 1", "version = 2") + &lines;
        std::fs::write(&trust, &policy).unwrap();
        std::fs::write(folder.path().join("trust.toml"), policy).unwrap();
        Self { folder, stack }
    }

    fn job(&self) -> PathBuf {
        self.folder.path().join("greet.yaml")
    }

    /// Writes the job so that it gives `value`.
    fn write(&self, value: u32) {
        let job = format!(
            "job: greet\nsteps:\n  - {{ name: one, uses: remit/transform@1, with: {{ value: {value} }} }}\n"
        );
        std::fs::write(self.job(), job).unwrap();
    }

    fn sign(&self, by: &str, version: &str) {
        let (key, trust) = (key(self.folder.path(), by), self.folder.path().join("trust.toml"));
        let job = self.job().display().to_string();
        let signed = [
            "job",
            "sign",
            &job,
            "--key",
            &key,
            "--trust",
            &trust.display().to_string(),
            "--version",
            version,
        ];
        self.stack.json(&signed).unwrap();
    }

    fn apply(&self) -> harness::Ended {
        self.stack.remit(&["job", "apply", &self.job().display().to_string()]).unwrap()
    }

    /// How a run ends, and what the step gives.
    fn outcome(&self) -> (String, serde_json::Value) {
        let shown = run(&self.stack, &["greet"]);
        let outcome = shown["summary"]["outcome"].as_str().unwrap().to_owned();
        (outcome, shown["steps"][0]["run"]["output"]["value"].clone())
    }
}

fn key(folder: &Path, name: &str) -> String {
    folder.join(format!("{name}.key")).display().to_string()
}

#[test]
fn a_signed_job_runs_and_an_older_version_of_it_does_not() {
    let site = Signed::new(1);
    site.write(1);
    assert_eq!(site.apply().code, 0);
    assert_eq!(site.outcome().0, "refused(E_JOB_UNSIGNED)");

    site.sign("one", "7");
    let first =
        ["json", "note"].map(|end| std::fs::read(site.job().with_extension(format!("job.{end}"))).unwrap());
    assert_eq!(site.apply().code, 0);
    assert_eq!(site.outcome(), ("succeeded".to_owned(), 1.into()));

    // The file was changed and not signed again: nobody is shown one job and runs another.
    site.write(2);
    let refused = site.apply();
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("not what was signed") && refused.err.contains("job sign"), "{refused:?}");

    site.sign("one", "8");
    assert_eq!(site.apply().code, 0);
    assert_eq!(site.outcome(), ("succeeded".to_owned(), 2.into()));

    // Whoever owns the orchestrator may serve the old note again, rightly signed as it is.
    site.write(1);
    for (end, bytes) in ["json", "note"].iter().zip(first) {
        std::fs::write(site.job().with_extension(format!("job.{end}")), bytes).unwrap();
    }
    assert_eq!(site.apply().code, 0);
    assert_eq!(site.outcome().0, "refused(E_ROLLBACK)");
}

#[test]
fn two_authors_stand_for_one_job() {
    let site = Signed::new(2);
    site.write(1);
    site.sign("one", "1");
    assert_eq!(site.apply().code, 0);
    assert_eq!(site.outcome().0, "refused(E_THRESHOLD)");
    site.sign("one", "1");
    assert_eq!(site.apply().code, 0);
    assert_eq!(site.outcome().0, "refused(E_THRESHOLD)");
    site.sign("two", "1");
    assert_eq!(site.apply().code, 0);
    assert_eq!(site.outcome().0, "succeeded");
}
