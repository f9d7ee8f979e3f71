//! What somebody tries who has broken out of a worker: one thing in a process of its own, with a worker's bars around it or
//! without them.

use std::{
    fs,
    io::{self, Error, ErrorKind},
    net::TcpStream,
    path::Path,
    process::Command,
};

use anyhow::Result;

use crate::confine::{
    Confinement,
    worker::{self as bars, Files},
};

/// Tries it, and says what came of that. What only an attacker would call ends the process instead.
///
/// # Errors
/// The bars cannot be put up.
pub fn probe(confined: bool, what: &str, at: &str) -> Result<String> {
    if confined {
        bars::begin()?;
        bars::leave_namespaces();
        // What the kernel lacks shows in the report: the row fails.
        bars::bar_files(&Files::None, Confinement::WherePossible)?;
        bars::seal(&Files::None, Confinement::WherePossible)?;
    }
    Ok(match attempt(what, at) {
        Ok(()) => "it was done".to_owned(),
        Err(error) => format!("refused: {error}"),
    })
}

#[expect(clippy::disallowed_methods, reason = "it plays an attacker")]
fn attempt(what: &str, at: &str) -> io::Result<()> {
    match what {
        "connect" => TcpStream::connect(at).map(drop),
        "read" => fs::read(at).map(drop),
        "list" => fs::read_dir(at)?.next().transpose().map(drop),
        "write" => fs::write(Path::new(at), b"mine"),
        "start" => match Command::new(at).status()?.success() {
            true => Ok(()),
            false => Err(ErrorKind::Other.into()),
        },
        _ => Err(Error::new(ErrorKind::InvalidInput, "there is no such probe")),
    }
}
