//! Reading below the paths that the owner named: the effect behind `remit:files/named`.
//!
//! The named path itself is the owner's word and is opened as it stands. Below it the kernel resolves (`openat2`): nothing
//! leaves the directory, no symbolic link is followed, and only regular files are opened.

use std::{fs, io, io::Read as _, os::fd::OwnedFd, path::PathBuf};

use async_trait::async_trait;
use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2},
    io::Errno,
};

/// Most entries of a listing.
const MAX_ENTRIES: usize = 10_000;
/// Deepest directory that is listed.
const MAX_DEPTH: usize = 32;

/// The path behind a name.
pub(super) struct Entry(pub(super) PathBuf);

/// Why a path cannot be opened or listed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is absolute, has a `..`, or goes through a symbolic link.
    #[error("the path leaves the named directory")]
    Outside,
    /// It is a directory, a device, a pipe or a socket.
    #[error("it is not a regular file")]
    NotAFile,
    /// More than a listing shows.
    #[error("there are more than {MAX_ENTRIES} files, or directories deeper than {MAX_DEPTH}")]
    TooMany,
    /// The operating system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::XDEV | Errno::LOOP => Self::Outside,
            other => Self::Io(other.into()),
        }
    }
}

/// Whatever shows the files below named paths.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// The regular files below `root`, relative, sorted; the empty path if it is a file itself.
    async fn entries(&self, root: PathBuf) -> Result<Vec<String>, OpenError>;
    /// Opens a file below `root`; the empty path for `root` itself.
    async fn open(&self, root: PathBuf, path: String) -> Result<Box<dyn Read>, OpenError>;
}

/// A file that is open for reading.
#[async_trait]
pub trait Read: Send {
    /// The next bytes, at most `max`; none at the end.
    async fn read(&mut self, max: u32) -> io::Result<Vec<u8>>;
}

/// Reads with this process's rights.
pub struct Local;

#[async_trait]
impl Shelf for Local {
    async fn entries(&self, root: PathBuf) -> Result<Vec<String>, OpenError> {
        blocking(move || list(&root)).await
    }

    async fn open(&self, root: PathBuf, path: String) -> Result<Box<dyn Read>, OpenError> {
        blocking(move || open_below(&root, &path)).await.map(|file| Box::new(Some(file)) as Box<dyn Read>)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| OpenError::Io(io::Error::other(error)))?
}

#[async_trait]
impl Read for Option<fs::File> {
    async fn read(&mut self, max: u32) -> io::Result<Vec<u8>> {
        let mut file = self.take().ok_or_else(|| io::Error::other("a read of this file was broken off"))?;
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            (&mut file).take(u64::from(max)).read_to_end(&mut bytes).map(|_| (file, bytes))
        });
        let (file, bytes) = read.await.map_err(io::Error::other)??;
        *self = Some(file);
        Ok(bytes)
    }
}

/// Without `O_NONBLOCK` opening a pipe would wait for a writer.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

fn kind(file: &OwnedFd) -> Result<FileType, OpenError> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

fn below(directory: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, OpenError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(directory, path, flags, Mode::empty(), resolve)?)
}

fn open_below(root: &std::path::Path, path: &str) -> Result<fs::File, OpenError> {
    if path.contains('\0') || path.starts_with('/') || path.split('/').any(|segment| segment == "..") {
        return Err(OpenError::Outside);
    }
    let top = open(root, OPEN, Mode::empty())?;
    let file = if path.is_empty() { top } else { below(&top, path, OPEN)? };
    match kind(&file)? {
        FileType::RegularFile => Ok(fs::File::from(file)),
        _ => Err(OpenError::NotAFile),
    }
}

fn list(root: &std::path::Path) -> Result<Vec<String>, OpenError> {
    let top = rustix::fs::openat(CWD, root, OPEN, Mode::empty())?;
    let mut found = Vec::new();
    match kind(&top)? {
        FileType::RegularFile => found.push(String::new()),
        FileType::Directory => walk(&top, "", 0, &mut found)?,
        _ => return Err(OpenError::NotAFile),
    }
    found.sort();
    Ok(found)
}

/// Names that are not UTF-8 cannot be asked for and are left out.
fn walk(directory: &OwnedFd, prefix: &str, depth: usize, found: &mut Vec<String>) -> Result<(), OpenError> {
    if depth > MAX_DEPTH {
        return Err(OpenError::TooMany);
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = match entry.file_type() {
            FileType::Unknown => match below(directory, name, OFlags::PATH | OFlags::CLOEXEC) {
                Ok(file) => kind(&file)?,
                Err(OpenError::Outside) => continue,
                Err(error) => return Err(error),
            },
            known => known,
        };
        match kind {
            FileType::RegularFile if found.len() >= MAX_ENTRIES => return Err(OpenError::TooMany),
            FileType::RegularFile => found.push(path),
            FileType::Directory => {
                let inner = below(directory, name, OPEN | OFlags::DIRECTORY)?;
                walk(&inner, &format!("{path}/"), depth + 1, found)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/deep.txt"), "deep").unwrap();
        fs::write(root.join("top.txt"), "top").unwrap();
        fs::write(tree.path().join("outside.txt"), "outside").unwrap();
        symlink("../outside.txt", root.join("out")).unwrap();
        symlink("top.txt", root.join("in")).unwrap();
        symlink("a", root.join("dir")).unwrap();
        symlink("/proc/self/environ", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        tree
    }

    #[test]
    fn only_regular_files_below_the_name_are_opened() {
        let tree = tree();
        let check = |path: &str, expect: Result<&str, &str>| {
            let found = open_below(&tree.path().join("root"), path);
            let found = match found {
                Ok(file) => Ok(io::read_to_string(file).unwrap()),
                Err(OpenError::Outside) => Err("outside"),
                Err(OpenError::NotAFile) => Err("not a file"),
                Err(_) => Err("other"),
            };
            assert_eq!(found.as_deref().map_err(|e| *e), expect, "{path:?}");
        };
        check("top.txt", Ok("top"));
        check("a/b/deep.txt", Ok("deep"));
        check("./a//b/deep.txt", Ok("deep"));
        check("../outside.txt", Err("outside"));
        check("a/../../outside.txt", Err("outside"));
        check("/etc/hostname", Err("outside"));
        check("out", Err("outside"));
        check("in", Err("outside"));
        check("dir/b/deep.txt", Err("outside"));
        check("magic", Err("outside"));
        check("loop", Err("outside"));
        check("top.txt\0x", Err("outside"));
        check("pipe", Err("not a file"));
        check("a", Err("not a file"));
        check("", Err("not a file"));
        check("absent", Err("other"));
    }

    #[test]
    fn a_listing_shows_regular_files_only() {
        let tree = tree();
        assert_eq!(list(&tree.path().join("root")).unwrap(), ["a/b/deep.txt", "top.txt"]);
        assert_eq!(list(&tree.path().join("outside.txt")).unwrap(), [""]);
        let file = open_below(&tree.path().join("outside.txt"), "").unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), "outside");
        assert!(matches!(list(&tree.path().join("root/pipe")), Err(OpenError::NotAFile)));
    }
}
