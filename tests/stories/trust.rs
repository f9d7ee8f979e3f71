//! What the owner of a runner believes: it holds at once, and does not go back.

use super::{apply, run, site};

fn outcome(stack: &harness::Stack) -> String {
    run(stack, &["one"])["summary"]["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn a_revocation_holds_without_a_restart_and_nothing_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    assert_eq!(outcome(&stack), "succeeded");
    let component = &stack.json(&["component", "show", "remit/transform@1.0.0"]).unwrap();
    let digest = component["summary"]["digest"].as_str().unwrap();

    let file = stack.runner_named("local").unwrap().folder.join("trust.toml");
    let first = std::fs::read_to_string(&file).unwrap();
    let policy = |version: u32, more: &str| {
        std::fs::write(&file, first.replace("version = 1", &format!("version = {version}")) + more).unwrap();
    };
    policy(2, &format!("\n[revoked]\ncomponents = [{digest:?}]\n"));
    assert_eq!(outcome(&stack), "refused(E_REVOKED_COMPONENT)");

    stack.runner_named("local").unwrap().kill().unwrap();
    policy(1, "");
    stack.restart_runner("local").unwrap();
    assert_eq!(outcome(&stack), "refused(E_ROLLBACK)");

    policy(3, "");
    assert_eq!(outcome(&stack), "refused(E_REVOKED_COMPONENT)");

    policy(3, "nonsense");
    assert_eq!(outcome(&stack), "refused(E_POLICY)");
}
