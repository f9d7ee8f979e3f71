//! An author's way in another language: a new step, tested, built, run here, signed, published, run by a runner.
//!
//! The toolchains come from pip and npm, at the versions that the templates pin. A machine without them, or without a way
//! to their registries, fails here and says what to install.

use std::path::Path;

use harness::{Ended, Stack, builder_trust, trust_lines};

use super::{apply, run};

fn expect(stack: &Stack, folder: &Path, arguments: &[&str], code: i32) -> Ended {
    let mut remit = stack.remit_command();
    let output = remit.args(arguments).current_dir(folder).output().unwrap();
    let ended = Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
    ended
}

/// From an empty folder to an execution; `inert` is an interface that the language's profile has to account for.
fn story(language: &str, inert: &str) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let builder = builder_trust().unwrap();
    let bare = Stack::start(&here.join("bare"), &builder).unwrap();
    expect(&bare, here, &["key", "new", "my.example/release", "--out", "my.key"], 0);
    let vkey = std::fs::read_to_string(here.join("my.vkey")).unwrap();
    drop(bare);
    let trust = format!("{builder}\n{}", trust_lines("my", vkey.trim(), "me").unwrap());
    let mut stack = Stack::start(&here.join("site"), &trust).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.runner("local", &[], "[ceiling]\n", &trust).unwrap();
    expect(&stack, here, &["step", "new", "hello", "--lang", language], 0);
    let step = here.join("hello");
    expect(&stack, &step, &["step", "test"], 0);
    expect(&stack, &step, &["step", "build"], 0);
    let ran = expect(&stack, &step, &["step", "run", "--input", r#"{"name": "Ada"}"#], 0);
    assert!(ran.out.contains("Hello, Ada!"), "{ran:?}");
    let wrong = expect(&stack, &step, &["step", "run", "--input", r#"{"nom": "Ada"}"#], 1);
    assert!(wrong.out.contains("does not fit"), "{wrong:?}");
    expect(&stack, &step, &["step", "sign", "--key", "../my.key"], 0);
    let shown = expect(&stack, &step, &["step", "inspect"], 0);
    let inert = shown.out.lines().any(|line| line.contains("inert") && line.contains(inert));
    assert!(inert && shown.out.contains(&format!("profile  {language}")), "{shown:?}");
    expect(&stack, &step, &["step", "publish"], 0);
    apply(&stack, here, "job: hi\nsteps:\n  - { name: hi, uses: my/hello@0.1, with: { name: Grace } }\n");
    let shown = run(&stack, &["hi"]);
    assert_eq!(shown["steps"][0]["run"]["output"]["greeting"], "Hello, Grace!", "{shown:#}");
    // Without its profile the same component is one that imports what nobody asked for.
    let file = step.join("step.toml");
    let strict: String = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("profile"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&file, strict).unwrap();
    let mut remit = stack.remit_command();
    let refused = remit
        .args(["step", "build", "--wasm", "dist/component.wasm", "--out", "strict"])
        .current_dir(&step)
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("wasi:"), "{said}");
    assert!(!step.join("strict/component.wasm").exists());
}

#[test]
#[ignore = "downloads a toolchain of some hundred megabytes: `cargo xtask test` runs it where that can be had"]
fn a_python_step_goes_from_an_empty_folder_to_a_runner() {
    story("python", "wasi:sockets/tcp");
}

#[test]
#[ignore = "downloads a toolchain of some hundred megabytes: `cargo xtask test` runs it where that can be had"]
fn a_javascript_step_goes_from_an_empty_folder_to_a_runner() {
    story("js", "wasi:filesystem/types");
}

#[test]
fn a_machine_without_the_toolchain_is_told_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let stack = Stack::start(&here.join("site"), &builder_trust().unwrap()).unwrap();
    let empty = here.join("empty");
    std::fs::create_dir(&empty).unwrap();
    for (language, expect_words) in [("python", "apt install python3-venv"), ("js", "apt install nodejs npm")]
    {
        expect(&stack, here, &["step", "new", language, "--lang", language], 0);
        let mut remit = stack.remit_command();
        let built =
            remit.args(["step", "build", language]).env("PATH", &empty).current_dir(here).output().unwrap();
        assert!(!built.status.success(), "{language}");
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(said.contains("cannot be started") && said.contains(expect_words), "{said}");
    }
}
