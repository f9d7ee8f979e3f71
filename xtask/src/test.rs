//! All that CI checks, in the order in which it fails soonest.

use anyhow::Result;

use crate::{
    build,
    shell::{cargo, run, say},
};

/// A check and its name.
type Check = (&'static str, fn() -> Result<()>);

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
        ("demo", || crate::demo::run(true)),
    ];
    for (name, check) in checks {
        say(&format!("── {name}"));
        check()?;
    }
    say("all checks passed");
    Ok(())
}
