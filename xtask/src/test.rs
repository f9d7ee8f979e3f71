//! All that CI checks, in the order in which it fails soonest.

use anyhow::Result;

use crate::{
    build,
    shell::{cargo, program, run, say},
};

/// A check and its name.
type Check = (&'static str, fn() -> Result<()>);

/// The stories that download the toolchains of Python and JavaScript: where their registries answer, as with advisories.
fn other_languages() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, arguments) in [
        ("npm", ["view", "@bytecodealliance/componentize-js", "version"].as_slice()),
        ("python3", &["-m", "pip", "download", "--quiet", "--no-deps", "componentize-py==0.25.1"]),
    ] {
        let answered = program(name).args(arguments).current_dir(folder.path()).output();
        if !answered.is_ok_and(|answered| answered.status.success()) {
            say(&format!("NOT RUN: the registry of {name} cannot be reached from here"));
            return Ok(());
        }
    }
    run(&mut cargo("test --workspace --quiet --test stories languages -- --ignored"))
}

/// Runs every check; the first failure ends the run.
pub(crate) fn all() -> Result<()> {
    build::wasm_target()?;
    let checks: &[Check] = &[
        ("format", || run(&mut cargo("fmt --all --check"))),
        ("dependencies", || run(&mut cargo("deny --log-level error check bans licenses sources"))),
        ("lints, host", || {
            run(cargo("clippy --workspace --all-targets --quiet -- -D warnings").env_remove("RUSTFLAGS"))
        }),
        ("lints, guests", || {
            run(&mut cargo(
                "clippy --quiet --target wasm32-wasip2 -p remit-sdk -p step-* -p guest-* --lib --examples -- -D warnings",
            ))
        }),
        ("documents", || {
            let mut doc = cargo("doc --workspace --no-deps --document-private-items --quiet");
            run(doc.env("RUSTDOCFLAGS", "-D warnings"))
        }),
        ("programs and components", || build::all(false)),
        ("hostile guests", build::guests),
        ("tests", || run(&mut cargo("test --workspace --quiet"))),
        ("steps in other languages", other_languages),
        ("demo", || crate::demo::run(true)),
    ];
    for (name, check) in checks {
        say(&format!("── {name}"));
        check()?;
    }
    say("all checks passed");
    Ok(())
}
