//! Files that were given for options of a job, as they lie on this host for one attempt.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use remit_protocol::OptionName;
use tempfile::TempPath;

/// The files by option. They are gone with the last run that may read them.
#[derive(Debug, Default)]
pub struct OptionFiles(BTreeMap<OptionName, Place>);

#[derive(Debug)]
enum Place {
    /// Gone with this.
    Own(TempPath),
    /// Somebody else's, who outlives the run.
    Lent(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Own(path) => path,
            Self::Lent(path) => path,
        }
    }
}

impl OptionFiles {
    /// Keeps `bytes`, whose digest was computed, below `directory`.
    ///
    /// # Errors
    /// There is no room.
    pub fn keep(&mut self, option: OptionName, bytes: &[u8], directory: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix("option-").tempfile_in(directory)?;
        file.write_all(bytes)?;
        self.0.insert(option, Place::Own(file.into_temp_path()));
        Ok(())
    }

    /// True if there is a file for this option.
    pub fn has(&self, option: &OptionName) -> bool {
        self.0.contains_key(option)
    }

    /// The names of the files in their directory.
    pub(crate) fn names(&self) -> BTreeMap<OptionName, String> {
        let name = |place: &Place| place.path().file_name().map(|name| name.to_string_lossy().into_owned());
        self.0.iter().filter_map(|(option, place)| Some((option.clone(), name(place)?))).collect()
    }

    /// The same files in another process: by name, right below `directory`, and nowhere else.
    pub(crate) fn lent(names: BTreeMap<OptionName, String>, directory: &Path) -> Self {
        let plain = names.into_iter().filter(|(_, name)| name.starts_with("option-") && !name.contains('/'));
        Self(plain.map(|(option, name)| (option, Place::Lent(directory.join(name)))).collect())
    }

    pub(super) fn path(&self, option: &str) -> Option<PathBuf> {
        let found = self.0.iter().find(|(name, _)| name.as_str() == option);
        found.map(|(_, place)| place.path().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_lent_by_name_and_from_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let option = |name: &str| OptionName::new(name).unwrap();
        let mut own = OptionFiles::default();
        own.keep(option("archive"), b"bytes", directory.path()).unwrap();
        let mut names = own.names();
        for (name, file) in
            [("up", "option-/../../identity.json"), ("other", "journal"), ("root", "/etc/passwd")]
        {
            names.insert(option(name), file.to_owned());
        }
        let lent = OptionFiles::lent(names, directory.path());
        assert_eq!(std::fs::read(lent.path("archive").unwrap()).unwrap(), b"bytes");
        assert!(["up", "other", "root"].into_iter().all(|name| lent.path(name).is_none()));
        drop(lent);
        assert!(own.path("archive").unwrap().is_file());
        let path = own.path("archive").unwrap();
        drop(own);
        assert!(!path.exists());
    }
}
