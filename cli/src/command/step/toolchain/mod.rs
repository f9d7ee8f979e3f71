//! From the source of a step to a component: one file a language. What a toolchain needs beside itself is made in the
//! step's own folder `build`, from the files that pin its version.

pub(in crate::command::step) mod cargo;
mod js;
mod python;
mod world;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use remit_protocol::{
    capability::imports::Profile,
    manifest::{Kind, StepFile},
};

use crate::{
    failure::{Code, Failure, Result},
    files, output,
};

/// What makes the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Toolchain {
    Cargo,
    Python,
    Js,
}

impl Toolchain {
    /// The toolchain of a step's profile; a step without one is Rust's.
    pub(super) fn of(step_file: &StepFile) -> Self {
        match step_file.profile {
            None => Self::Cargo,
            Some(Profile::Python) => Self::Python,
            Some(Profile::Js) => Self::Js,
        }
    }

    /// Builds the component of the step in `folder`.
    pub(super) fn build(self, folder: &Path, step_file: &StepFile) -> Result<PathBuf> {
        if self == Self::Cargo {
            return cargo::build(folder, &cargo::Recipe::default());
        }
        if step_file.kind == Kind::NodeSource {
            return Err(Failure::input(
                "a node source in this language cannot be built: its SDK has steps only",
            )
            .with_remedy("write the node source in Rust: remit step new --lang rust"));
        }
        let folder = folder.canonicalize().map_err(|error| Failure::file(folder, &error))?;
        world::write(&folder, step_file)?;
        match self {
            Self::Cargo => cargo::build(&folder, &cargo::Recipe::default()),
            Self::Python => python::build(&folder),
            Self::Js => js::build(&folder),
        }
    }

    /// The command that runs the unit tests of the step in `folder`.
    pub(super) fn tests(self, folder: &Path) -> Result<Command> {
        match self {
            Self::Cargo => Ok(cargo::tests(folder)),
            Self::Python => python::tests(folder),
            Self::Js => js::tests(folder),
        }
    }
}

/// A toolchain's dependencies, installed into `build` when the file that pins them has changed since the last time.
struct Pinned<'a> {
    /// The folder of the step.
    folder: &'a Path,
    /// The file that pins them, beside `step.toml`.
    file: &'a str,
    /// What has to be there when they are installed, inside of `build`.
    product: &'a str,
}

impl Pinned<'_> {
    /// Runs `install` unless the same file was installed before.
    fn install(&self, install: impl FnOnce() -> Result<()>) -> Result<()> {
        let pinned = files::read(&self.folder.join(self.file), 1 << 20)?;
        let build = self.folder.join("build");
        let stamp = build.join(format!("{}.installed", self.file));
        let same = std::fs::read(&stamp).is_ok_and(|before| before == pinned);
        if same && build.join(self.product).exists() {
            return Ok(());
        }
        output::note(&format!("installing what {} names into build/ …", self.file));
        install()?;
        files::write(&stamp, &pinned, false)
    }
}

/// Runs one command of a toolchain to its end; its words go to standard error, since standard output is the result's.
fn finish(command: &mut Command, failed: &str, remedy: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr())).status();
    let status = status.map_err(|error| {
        Failure::new(Code::Unreachable, format!("{program} cannot be started: {error}"), remedy)
    })?;
    if status.success() { Ok(()) } else { Err(Failure::new(Code::Failed, failed, remedy)) }
}
