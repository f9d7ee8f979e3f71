//! Rust: cargo builds the component, always by one recipe, so that whoever has the source and the same toolchain gets the same
//! bytes: paths are named `/src`, `/cargo` and `/target` wherever they are, one unit of code generation, no symbols, and no
//! flags from the environment.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{
    command::step::bill::{Metadata, Package},
    failure::{Code, Failure, Result},
    output, programs,
};

const TARGET: &str = "wasm32-wasip2";
const MISSING: &str =
    "install Rust from your distribution or rustup, and the target: rustup target add wasm32-wasip2";
/// Variables that would change what is built.
const FLAGS: [&str; 4] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS"];

#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
}

/// How it is built, beyond what is always so.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::command::step) struct Recipe<'a> {
    /// Where cargo keeps its downloads, if not where it does of itself.
    pub(in crate::command::step) home: Option<&'a Path>,
    /// `Cargo.lock` is taken as it is.
    pub(in crate::command::step) locked: bool,
}

/// Builds the crate for the components' target and finds its one component.
pub(in crate::command::step) fn build(folder: &Path, recipe: &Recipe<'_>) -> Result<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| Failure::file(&manifest, &error))?;
    let metadata = metadata(&manifest, &["--no-deps"])?;
    output::note("building for wasm32-wasip2 …");
    let mut cargo = programs::tool("cargo");
    cargo
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(&manifest)
        .args(["--config", "profile.release.codegen-units=1", "--config", "profile.release.strip=true"])
        .arg("--config")
        .arg(remaps(&metadata, recipe)?)
        .stderr(std::process::Stdio::inherit());
    for name in FLAGS {
        cargo.env_remove(name);
    }
    if recipe.locked {
        cargo.arg("--locked");
    }
    if let Some(home) = recipe.home {
        cargo.env("CARGO_HOME", home);
    }
    let built = cargo.output().map_err(|error| cannot_start(&error))?;
    if !built.status.success() {
        return Err(Failure::new(Code::Failed, "the step does not build", MISSING));
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

fn cannot_start(error: &std::io::Error) -> Failure {
    Failure::new(Code::Unreachable, format!("cargo cannot be started: {error}"), MISSING)
}

/// The setting that names paths the same wherever they are. Of several that fit, the compiler takes the last one.
fn remaps(metadata: &Metadata, recipe: &Recipe<'_>) -> Result<String> {
    let home = match recipe.home {
        Some(home) => home.to_owned(),
        None => self::home()?,
    };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let sources = real(&home.join("registry"));
    let named = [
        (metadata.workspace_root.clone(), "/src"),
        (metadata.target_directory.clone(), "/target"),
        (sources, "/cargo/registry"),
        (home.clone(), "/cargo"),
        (compiler_sources()?, "/rustc/std"),
    ];
    let flags = named.iter().map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    let flags: Vec<String> = flags.collect();
    // JSON's texts are TOML's texts.
    let list = serde_json::to_string(&flags).map_err(Failure::input)?;
    Ok(format!("target.{TARGET}.rustflags={list}"))
}

/// What cargo says of a crate.
fn metadata(manifest: &Path, more: &[&str]) -> Result<Metadata> {
    let mut cargo = programs::tool("cargo");
    cargo.args(["metadata", "--format-version", "1", "--filter-platform", TARGET]).args(more);
    cargo.arg("--manifest-path").arg(manifest).stderr(std::process::Stdio::inherit());
    let said = cargo.output().map_err(|error| cannot_start(&error))?;
    if !said.status.success() {
        return Err(Failure::new(Code::Failed, "cargo does not know what the crate is made of", MISSING));
    }
    serde_json::from_slice(&said.stdout).map_err(Failure::input)
}

/// The packages that the crate in `folder` is made of.
pub(in crate::command::step) fn packages(folder: &Path) -> Result<Vec<Package>> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| Failure::file(&manifest, &error))?;
    metadata(&manifest, &[])?.list(&manifest)
}

/// The root of the workspace that the crate in `folder` belongs to; its own packages have to lie in it.
pub(in crate::command::step) fn workspace(folder: &Path) -> Result<PathBuf> {
    let metadata = metadata(&folder.join("Cargo.toml"), &[])?;
    if let Some(outside) = metadata.outside() {
        return Err(Failure::input(format_args!(
            "{} is taken from outside of the workspace {}",
            outside.display(),
            metadata.workspace_root.display()
        ))
        .with_remedy(
            "move it below the workspace's root: what lies elsewhere does not give the same bytes",
        ));
    }
    Ok(metadata.workspace_root)
}

/// The compiler, as a manifest names it.
pub(in crate::command::step) fn toolchain() -> Result<String> {
    rustc(&["--version"])
}

/// Where the compiler would look for the sources of its own library.
fn compiler_sources() -> Result<PathBuf> {
    Ok(Path::new(&rustc(&["--print", "sysroot"])?).join("lib/rustlib/src/rust"))
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let said = programs::tool("rustc").args(arguments).output().map_err(|error| cannot_start(&error))?;
    let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    if said.status.success() && !text.is_empty() {
        Ok(text)
    } else {
        Err(Failure::new(Code::Unreachable, "rustc does not say its version", MISSING))
    }
}

/// Where cargo keeps its downloads.
pub(in crate::command::step) fn home() -> Result<PathBuf> {
    programs::cargo_home().ok_or_else(|| Failure::input("neither CARGO_HOME nor HOME is set"))
}

/// The step's native tests.
pub(super) fn tests(folder: &Path) -> Command {
    let mut cargo = programs::tool("cargo");
    cargo.arg("test").arg("--manifest-path").arg(folder.join("Cargo.toml"));
    cargo
}
