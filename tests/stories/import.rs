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

#[test]
#[expect(clippy::disallowed_methods, reason = "an archive of another writer than our reader's own")]
fn an_archive_moves_in_with_its_references() {
    let folder = tempfile::tempdir().unwrap();
    let ceiling = "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"sh\"\npath = \"/bin/sh\"\nargs = [\"-s\", \"--\", \"{text}*\"]\n";
    let stack = site(folder.path(), ceiling);
    let child = "<joblist><job><name>child</name><context><options><option name='who' required='true'/></options></context>\
                 <sequence><command><exec>echo hello ${option.who}; exit 3</exec><errorhandler keepgoingOnSuccess='true'>\
                 <exec>echo handled</exec></errorhandler></command></sequence></job></joblist>";
    let parent = "<joblist><job><name>parent</name><sequence><command><jobref name='child'><arg line='-who \"a;  b\"'/></jobref>\
                  </command></sequence></job></joblist>";
    let archive = folder.path().join("demo.rdproject.jar");
    let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED)\n\
                  z.writestr('META-INF/MANIFEST.MF', 'Rundeck-Archive-Project-Name: demo\\n')\n\
                  z.writestr('rundeck-demo/jobs/job-1.xml', sys.argv[2])\nz.writestr('rundeck-demo/jobs/job-2.xml', sys.argv[3])\nz.close()\n";
    let made = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(&archive)
        .args([child, parent])
        .status();
    assert!(made.unwrap().success(), "install python3");
    let into = folder.path().join("moved");
    let [archive, into] = [archive, into].map(|path| path.display().to_string());
    let moved = stack.json(&["import", "rundeck", "archive", &archive, "--into", &into]).unwrap();
    assert_eq!((&moved["imported"], &moved["placeholders"]), (&2.into(), &0.into()), "{moved:#}");
    // The one that is referred to first.
    stack.json(&["job", "apply", &format!("{into}/jobs")]).unwrap();
    // Out again in Rundeck's form, and in: the same files.
    let [file, again] = ["out.yaml", "again"].map(|name| folder.path().join(name).display().to_string());
    stack.json(&["export", "jobs", "--format", "rundeck", "--into", &file, "--strict"]).unwrap();
    stack.json(&["import", "rundeck", "jobs", &file, "--into", &again]).unwrap();
    for name in ["child.yaml", "parent.yaml"] {
        let read = |folder: &str| std::fs::read_to_string(std::path::Path::new(folder).join(name)).unwrap();
        assert_eq!(read(&again), read(&format!("{into}/jobs")), "{name}");
    }
    let kept = folder.path().join("kept").display().to_string();
    stack.json(&["export", "jobs", "--into", &kept, "child"]).unwrap();
    assert!(std::path::Path::new(&kept).join("child.yaml").is_file());
    let shown = run(&stack, &["parent"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    let child = stack.json(&["execution", "list"]).unwrap();
    let child = child["items"].as_array().unwrap().iter().find(|one| one["job"] == "child").unwrap().clone();
    let shown = stack.json(&["execution", "show", child["id"].as_str().unwrap()]).unwrap();
    assert_eq!(shown["options"]["who"], "a;  b", "{shown:#}");
    let message = shown["steps"][0]["run"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("recovered by its error handler"), "{shown:#}");
}
