//! An auditor's look at a step: what is verified, what its owner would permit, what it is made of, and that its source
//! gives it.

use std::path::Path;

use harness::{Ended, Stack, builder_trust};

/// Runs `remit` in a folder, without any orchestrator.
fn remit(stack: &Stack, folder: &Path, arguments: &[&str]) -> Ended {
    let output = stack.remit_command().args(arguments).current_dir(folder).output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn expect(stack: &Stack, folder: &Path, arguments: &[&str], code: i32) -> Ended {
    let ended = remit(stack, folder, arguments);
    assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
    ended
}

#[test]
fn a_built_in_is_inspected_against_a_policy_and_a_ceiling() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let stack = Stack::start(&here.join("site"), &builder_trust().unwrap()).unwrap();
    std::fs::write(here.join("trust.toml"), builder_trust().unwrap()).unwrap();
    let config = |ceiling: &str| {
        let text = format!(
            "[orchestrator]\nurl = \"https://a.example\"\n[runner]\nstate = \"state\"\ntrust = \"trust.toml\"\n[ceiling]\n{ceiling}"
        );
        std::fs::write(here.join("runner.toml"), text).unwrap();
    };
    config("[[ceiling.exec]]\nprogram = \"uname\"\npath = \"/usr/bin/uname\"\n");
    let package = harness::components().join("run-command").display().to_string();
    let look = ["step", "inspect", &package, "--trust", "trust.toml", "--ceiling", "runner.toml"];
    let shown = expect(&stack, here, &[&look[..], &["--output", "json"]].concat(), 0).json().unwrap();
    assert_eq!(shown["schema"], 2);
    assert_eq!(shown["verified"]["quorum"], serde_json::json!({ "needed": 1, "of": 1 }), "{shown:#}");
    assert_eq!(shown["ceiling"]["requests"][0]["answer"], "open", "{shown:#}");
    assert_eq!(shown["ceiling"]["unused"], serde_json::json!([]));
    assert!(shown["claimed"]["packages"].as_u64() > Some(3), "{shown:#}");
    assert!(shown["claimed"]["produced_by"].to_string().contains("wit-component"), "{shown:#}");
    let text = expect(&stack, here, &look, 0).out;
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}"));
    assert!(at("verified by the trust policy") < at("by the runner's ceiling"));
    assert!(at("by the runner's ceiling") < at("claimed by its signers"));

    let bill = expect(&stack, here, &["step", "inspect", &package, "--sbom"], 0).out;
    let bill: serde_json::Value = serde_json::from_str(&bill).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    let names: Vec<_> = bill["components"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert!(
        names.iter().any(|name| **name == "remit-sdk") && names.iter().any(|name| **name == "serde"),
        "{names:?}"
    );

    // Each end has its own exit code.
    let other = "version = 1\n";
    std::fs::write(here.join("nobody.toml"), other).unwrap();
    let refused = expect(&stack, here, &["step", "inspect", &package, "--trust", "nobody.toml"], 4);
    assert!(
        refused.out.contains("REFUSED by the trust policy") && !refused.out.contains("verified by"),
        "{refused:?}"
    );
    std::fs::create_dir(here.join("empty")).unwrap();
    expect(&stack, here, &["step", "inspect", "empty"], 8);
    expect(&stack, here, &["step", "inspect", "none"], 3);
    std::fs::create_dir(here.join("damaged")).unwrap();
    for file in ["manifest.json", "component.note"] {
        std::fs::copy(Path::new(&package).join(file), here.join("damaged").join(file)).unwrap();
    }
    std::fs::write(here.join("damaged/component.wasm"), "\0asm nothing").unwrap();
    expect(&stack, here, &["step", "inspect", "damaged"], 3);
    let source = harness::components().join("http-request").display().to_string();
    config("[[ceiling.http]]\nhost = \"a.example\"\nmethods = [\"GET\"]\npaths = [\"/\"]\n");
    expect(&stack, here, &["step", "inspect", &source, "--ceiling", "runner.toml"], 0);
}

#[test]
fn a_steps_source_gives_its_bytes_wherever_it_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let stack = Stack::start(&here.join("site"), &builder_trust().unwrap()).unwrap();
    expect(&stack, here, &["step", "new", "hello"], 0);
    let step = here.join("hello");
    expect(&stack, &step, &["step", "build"], 0);
    let same = expect(&stack, &step, &["step", "rebuild", "--output", "json"], 0).json().unwrap();
    assert_eq!((&same["same"], &same["reproducible"]), (&true.into(), &true.into()), "{same:#}");
    assert_eq!(same["builds"], serde_json::json!([same["published"], same["published"]]));
    let bill = expect(&stack, &step, &["step", "inspect", "--sbom"], 0);
    let place = here.display().to_string();
    let wasm = std::fs::read(step.join("dist/component.wasm")).unwrap();
    assert!(!bill.out.contains(&place));
    assert!(
        !wasm.windows(place.len()).any(|part| part == place.as_bytes()),
        "a path of this machine is in the bytes"
    );

    // What was published is not what the source says.
    let source = std::fs::read_to_string(step.join("src/lib.rs")).unwrap();
    assert!(source.contains("Hello, "), "{source}");
    std::fs::write(step.join("src/lib.rs"), source.replacen("Hello, ", "Hullo, ", 1)).unwrap();
    let other = expect(&stack, &step, &["step", "rebuild"], 4);
    assert!(other.out.contains("differs    1 ") && other.err.contains("not what is published"), "{other:?}");
    let manifest = std::fs::read_to_string(step.join("dist/manifest.json")).unwrap();
    std::fs::write(step.join("dist/manifest.json"), manifest.replace("rustc 1.", "rustc 0.")).unwrap();
    let elsewhere = expect(&stack, &step, &["step", "rebuild"], 3);
    assert!(elsewhere.err.contains("it was built with rustc 0."), "{elsewhere:?}");
}
