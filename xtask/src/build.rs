//! Programs, built-in components and hostile guests.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::shell::{cargo, program, read, root, run, say, target};

/// The target that components are built for.
const WASM: &str = "wasm32-wasip2";

/// Installs the components' target if rustup does not have it yet.
pub(crate) fn wasm_target() -> Result<()> {
    let installed = read(program("rustup").args(["target", "list", "--installed"]))
        .context("rustup is needed to install the wasm32-wasip2 target")?;
    if installed.lines().any(|line| line.trim() == WASM) {
        return Ok(());
    }
    run(program("rustup").args(["target", "add", WASM]))
}

/// The folder of the programs of one profile.
pub(crate) fn programs(release: bool) -> PathBuf {
    target().join(if release { "release" } else { "debug" })
}

/// Builds the programs, then the built-in components.
pub(crate) fn all(release: bool) -> Result<()> {
    wasm_target()?;
    run(cargo("build --workspace --bins").args(release.then_some("--release")))?;
    components(release)
}

/// The names of the folders below `folder`, sorted.
fn folders(folder: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join(folder))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds the steps and signs each with the builder key, which is made at the first build and stays on this machine.
pub(crate) fn components(release: bool) -> Result<()> {
    let remit = programs(release).join("remit");
    let keys = target().join("builder");
    let key = keys.join("builder.key");
    if !key.exists() {
        std::fs::create_dir_all(&keys)?;
        run(program(&remit).args(["key", "new", "remit.local/builder", "--out"]).arg(&key))?;
    }
    let out = target().join("components");
    let names = folders("steps")?;
    let packages: Vec<_> = names.iter().flat_map(|name| ["-p".to_owned(), format!("step-{name}")]).collect();
    run(cargo("build --profile guest --target wasm32-wasip2").args(packages))?;
    for name in names {
        let wasm = target().join(format!("{WASM}/guest/step_{}.wasm", name.replace('-', "_")));
        let folder = out.join(&name);
        run(program(&remit)
            .args(["step", "build"])
            .arg(root().join("steps").join(&name))
            .args(["--dependencies", "--wasm"])
            .arg(wasm)
            .arg("--out")
            .arg(&folder))?;
        run(program(&remit).args(["step", "sign"]).arg(&folder).arg("--key").arg(&key))?;
    }
    std::fs::copy(keys.join("builder.vkey"), out.join("builder.vkey"))?;
    say(&format!("components: {}", out.display()));
    Ok(())
}

/// Builds the hostile guests of `tests/guests` into `target/guests`.
pub(crate) fn guests() -> Result<()> {
    wasm_target()?;
    let names = folders("tests/guests")?;
    let packages: Vec<_> = names.iter().flat_map(|name| ["-p".to_owned(), format!("guest-{name}")]).collect();
    if packages.is_empty() {
        return Ok(());
    }
    run(cargo("build --profile guest --target wasm32-wasip2").args(packages))?;
    let out = target().join("guests");
    std::fs::create_dir_all(&out)?;
    for name in names {
        let wasm = target().join(format!("{WASM}/guest/guest_{}.wasm", name.replace('-', "_")));
        std::fs::copy(&wasm, out.join(format!("{name}.wasm"))).with_context(|| wasm.display().to_string())?;
    }
    Ok(())
}
