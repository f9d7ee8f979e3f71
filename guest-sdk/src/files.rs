//! Reading what the runner's owner gave a name, the scratch directory, and files that stay with the execution.
//!
//! ```
//! use remit_sdk::{files, Context, Fail};
//!
//! fn motd(_: (), _: &Context) -> Result<String, Fail> {
//!     Ok(files::read_to_string("motd", "", 64 << 10)?)
//! }
//! # let fake = remit_sdk::fake::Fake::new().file("motd", "", "Welcome");
//! # assert_eq!(fake.run(|context| motd((), context)).result.unwrap(), "Welcome");
//! ```

use std::{io, path::PathBuf};

use crate::{Refusal, host};

/// Most bytes of one read.
const READ: u32 = 64 << 10;

/// A file that is open for reading.
#[derive(Debug)]
pub struct File(host::File);

impl File {
    /// Reads the next bytes, at most `max` and at most 64 KiB; none at the end.
    pub fn next(&mut self, max: u32) -> Result<Vec<u8>, Refusal> {
        self.0.read(max)
    }
}

impl io::Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(buffer.len()).unwrap_or(READ).min(READ);
        let bytes = self.0.read(max).map_err(io::Error::other)?;
        let Some(part) = buffer.get_mut(..bytes.len()) else {
            return Err(io::Error::other("the host gave more bytes than were asked for"));
        };
        part.copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

/// Opens a file below `name`; `path` is empty when the name is a file itself.
pub fn open(name: &str, path: &str) -> Result<File, Refusal> {
    host::open(name, path).map(File)
}

/// The regular files below `name`, as relative paths, sorted. A name that is a file itself has one entry, the empty path.
pub fn entries(name: &str) -> Result<Vec<String>, Refusal> {
    host::entries(name)
}

/// Reads a whole file; one of more than `max` bytes is an error.
pub fn read(name: &str, path: &str, max: usize) -> Result<Vec<u8>, Refusal> {
    let mut file = host::open(name, path)?;
    let mut all = Vec::new();
    loop {
        let bytes = file.read(READ)?;
        if bytes.is_empty() {
            return Ok(all);
        }
        if all.len() + bytes.len() > max {
            return Err(Refusal::Failed(format!("{} is larger than {max} bytes", place(name, path))));
        }
        all.extend_from_slice(&bytes);
    }
}

/// Reads a whole file of UTF-8 text; one of more than `max` bytes is an error.
pub fn read_to_string(name: &str, path: &str, max: usize) -> Result<String, Refusal> {
    String::from_utf8(read(name, path, max)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Refusal::Failed(format!("{} is not UTF-8 text: byte {at} does not fit", place(name, path)))
    })
}

fn place(name: &str, path: &str) -> String {
    if path.is_empty() { format!("the file {name:?}") } else { format!("the file {path:?} of {name:?}") }
}

/// The scratch directory: empty at the start, gone after the step, used through `std::fs`. It wants `scratch = true` in
/// `[[files]]`.
pub fn scratch() -> PathBuf {
    host::scratch()
}

/// An artifact: a file that stays with the execution, for people to download. It wants `artifacts = true` in `[[files]]`.
/// Dropped before [`keep`](Self::keep), nothing of it stays.
///
/// ```
/// use std::io::Write as _;
///
/// use remit_sdk::{Context, Fail, files::Artifact};
///
/// fn report(_: (), _: &Context) -> Result<(), Fail> {
///     let mut report = Artifact::text("report.csv")?;
///     writeln!(report, "host,free")?;
///     Ok(report.keep()?)
/// }
/// # let kept = remit_sdk::fake::Fake::new().run(|context| report((), context)).artifacts;
/// # assert_eq!(kept["report.csv"], b"host,free\n");
/// ```
#[derive(Debug)]
pub struct Artifact(host::Artifact);

/// Most bytes of one write to an artifact.
const WRITE: usize = 256 << 10;

impl Artifact {
    /// Begins a text: the host replaces secrets in it.
    pub fn text(name: &str) -> Result<Self, Refusal> {
        host::Artifact::create(name, false).map(Self)
    }

    /// Begins anything else. One that holds a secret is not kept.
    pub fn binary(name: &str) -> Result<Self, Refusal> {
        host::Artifact::create(name, true).map(Self)
    }

    /// It is whole, and stays with the execution, however the step ends.
    pub fn keep(self) -> Result<(), Refusal> {
        self.0.keep()
    }
}

impl io::Write for Artifact {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..WRITE).unwrap_or(bytes);
        self.0.write(piece).map_err(io::Error::other)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
