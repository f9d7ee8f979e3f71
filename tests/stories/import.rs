//! Moving in: a job file of Rundeck becomes jobs that can be saved and run.

use super::{run, site};

const JOBS: &str = "\
- name: Say hi
  sequence:
    commands:
      - exec: echo hi
      - type: some-plugin
        configuration: { a: b }
";

#[test]
fn an_imported_job_runs_and_what_could_not_be_imported_fails() {
    let folder = tempfile::tempdir().unwrap();
    let ceiling =
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"sh\"\npath = \"/bin/sh\"\nargs = [\"-s\", \"--\"]\n";
    let stack = site(folder.path(), ceiling);
    let (file, into) = (folder.path().join("jobs.yaml"), folder.path().join("imported"));
    std::fs::write(&file, JOBS).unwrap();
    let [file, into] = [file, into].map(|path| path.display().to_string());
    let imported = stack.remit(&["import", "rundeck", "jobs", &file, "--into", &into]).unwrap();
    assert_eq!(imported.code, 0, "{imported:?}");
    assert!(imported.out.contains("some-plugin"), "{imported:?}");
    stack.json(&["job", "apply", &into]).unwrap();
    let shown = run(&stack, &["say_hi"]);
    assert_eq!(shown["steps"][0]["run"]["output"]["stdout"], "hi\n", "{shown:#}");
    assert_eq!(shown["steps"][1]["outcome"], "failed", "{shown:#}");
    assert_eq!(shown["summary"]["outcome"], "failed", "{shown:#}");
}
