//! Rust: cargo builds the component as it builds everything.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{
    failure::{Code, Failure, Result},
    output, programs,
};

#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
}

/// Builds the crate for the components' target and finds its one component.
pub(super) fn build(folder: &Path) -> Result<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| Failure::file(&manifest, &error))?;
    output::note("building for wasm32-wasip2 …");
    let mut cargo = programs::tool("cargo");
    cargo
        .args(["build", "--release", "--target", "wasm32-wasip2", "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(&manifest)
        .stderr(std::process::Stdio::inherit());
    let missing =
        "install Rust from your distribution or rustup, and the target: rustup target add wasm32-wasip2";
    let built = cargo.output().map_err(|error| {
        Failure::new(Code::Unreachable, format!("cargo cannot be started: {error}"), missing)
    })?;
    if !built.status.success() {
        return Err(Failure::new(Code::Failed, "the step does not build", missing));
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let artifact = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<CargoMessage>(line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.manifest_path == manifest)
        .flat_map(|message| message.filenames)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    artifact.ok_or_else(|| {
        Failure::input("cargo built no component")
            .with_remedy("in Cargo.toml, add:\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]")
    })
}

/// The step's native tests.
pub(super) fn tests(folder: &Path) -> Command {
    let mut cargo = programs::tool("cargo");
    cargo.arg("test").arg("--manifest-path").arg(folder.join("Cargo.toml"));
    cargo
}
