//! Files that people give and get.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::failure::{Code, Failure, Result};

/// Reads at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| Failure::file(path, &error))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Failure::file(path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::input(format_args!("{}: larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Reads text of at most 1 MiB.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = read(path, 1 << 20)?;
    String::from_utf8(bytes).map_err(|_| Failure::input(format_args!("{}: not UTF-8 text", path.display())))
}

/// Writes through a temporary file and a rename; `private` files are for their owner only.
pub(crate) fn write(path: &Path, bytes: &[u8], private: bool) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error: std::io::Error| Failure::file(path, &error);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    let mode = if private { 0o600 } else { 0o644 };
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.persist(path).map_err(|error| Failure::file(path, &error.error))?;
    Ok(())
}

/// A file that arrives in pieces, and has its name only when all of it is there.
pub(crate) struct Arriving {
    file: tempfile::NamedTempFile,
    to: PathBuf,
}

impl Arriving {
    /// Begins the file `to`.
    pub(crate) fn begin(to: &Path) -> Result<Self> {
        let folder = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::NamedTempFile::new_in(folder).map_err(|error| Failure::file(to, &error))?;
        Ok(Self { file, to: to.to_owned() })
    }

    /// Appends a piece.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(|error| Failure::file(&self.to, &error))
    }

    /// Gives it its name.
    pub(crate) fn finish(self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let Self { file, to } = self;
        let mode = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(mode).map_err(|error| Failure::file(&to, &error))?;
        file.persist(&to).map_err(|error| Failure::file(&to, &error.error))?;
        Ok(())
    }
}

/// Writes files that are not there yet, or none of them.
pub(crate) fn write_new(files: &[(PathBuf, String)]) -> Result<()> {
    if let Some((there, _)) = files.iter().find(|(path, _)| path.exists()) {
        let message = format!("{} is there already, and nothing was written", there.display());
        return Err(Failure::new(Code::Input, message, "give --into another place"));
    }
    for (path, text) in files {
        write(path, text.as_bytes(), false)?;
    }
    Ok(())
}
