//! The other programs of this installation: they stand beside this one.

use std::{path::PathBuf, process::Command};

use crate::failure::{Code, Failure, Result};

/// `remit-runner` or `remit-orchestrator`, ready to be given arguments.
#[expect(clippy::disallowed_methods, reason = "the command line's own way to its sister programs")]
pub(crate) fn sister(name: &str) -> Result<Command> {
    let own = std::env::current_exe().unwrap_or_default();
    let path = own.with_file_name(name);
    if !path.is_file() {
        return Err(Failure::new(
            Code::Unreachable,
            format!("{name} is not beside {}", own.display()),
            format!("install {name} in the same folder as remit"),
        ));
    }
    Ok(Command::new(path))
}

/// Any program of the author's toolchain.
#[expect(clippy::disallowed_methods, reason = "authors build with the tools of their language")]
pub(crate) fn tool(name: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(name)
}

/// Where cargo keeps what it downloads.
#[expect(clippy::disallowed_methods, reason = "the author's own toolchain says where it is in this way")]
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let own = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    own.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

/// Where the built-in components are: beside the programs, or where a package puts them.
pub(crate) fn components() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let folder = own.parent()?;
    [folder.join("../components"), folder.join("../share/remit/components"), folder.join("components")]
        .into_iter()
        .find(|path| path.join("builder.vkey").is_file())
}
