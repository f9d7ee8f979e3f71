//! Files that were given for options of a job, as they lie on this host for one attempt.

use std::{collections::BTreeMap, io, io::Write as _, path::Path, path::PathBuf};

use remit_protocol::OptionName;
use tempfile::TempPath;

/// The files by option. They are gone with the last run that may read them.
#[derive(Debug, Default)]
pub struct OptionFiles(BTreeMap<OptionName, TempPath>);

impl OptionFiles {
    /// Keeps `bytes`, whose digest was computed, below `directory`.
    ///
    /// # Errors
    /// There is no room.
    pub fn keep(&mut self, option: OptionName, bytes: &[u8], directory: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix("option-").tempfile_in(directory)?;
        file.write_all(bytes)?;
        self.0.insert(option, file.into_temp_path());
        Ok(())
    }

    /// True if there is a file for this option.
    pub fn has(&self, option: &OptionName) -> bool {
        self.0.contains_key(option)
    }

    pub(super) fn path(&self, option: &str) -> Option<PathBuf> {
        let found = self.0.iter().find(|(name, _)| name.as_str() == option);
        found.map(|(_, path)| path.to_path_buf())
    }
}
