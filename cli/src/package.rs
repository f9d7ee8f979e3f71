//! A built component on disk: `component.wasm`, `manifest.json`, once signed `component.note`, once published
//! `component.tlog-proof`, and once reviewed `verdict-….note`.

use std::path::{Path, PathBuf};

use remit_protocol::{Digest, limits, manifest::Manifest};

use crate::{
    failure::{Failure, Result},
    files,
};

/// The folder of a built component.
pub(crate) struct Package {
    folder: PathBuf,
}

impl Package {
    pub(crate) fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder that the author means: a package, or a crate whose package was built into `dist`.
    pub(crate) fn find(folder: &Path) -> Result<Self> {
        for candidate in [folder.to_owned(), folder.join("dist")] {
            if candidate.join("component.wasm").is_file() {
                return Ok(Self::at(candidate));
            }
        }
        Err(Failure::input(format_args!("{}: no built component is here", folder.display()))
            .with_remedy("build it first: remit step build"))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn wasm_path(&self) -> PathBuf {
        self.folder.join("component.wasm")
    }

    pub(crate) fn manifest_path(&self) -> PathBuf {
        self.folder.join("manifest.json")
    }

    pub(crate) fn note_path(&self) -> PathBuf {
        self.folder.join("component.note")
    }

    /// The transparency log's proof, once it was published.
    pub(crate) fn proof_path(&self) -> PathBuf {
        self.folder.join("component.tlog-proof")
    }

    /// Where a reviewer's note of this identity goes.
    pub(crate) fn verdict_path(&self, identity: &Digest) -> PathBuf {
        self.folder.join(format!("verdict-{}.note", &identity.to_hex()[..16]))
    }

    /// The reviewers' notes that are here.
    pub(crate) fn verdict_paths(&self) -> Result<Vec<PathBuf>> {
        let failed = |error: std::io::Error| Failure::file(&self.folder, &error);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("verdict-") && name.ends_with(".note") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    pub(crate) fn wasm(&self) -> Result<Vec<u8>> {
        files::read(&self.wasm_path(), limits::MAX_COMPONENT)
    }

    pub(crate) fn manifest_bytes(&self) -> Result<Vec<u8>> {
        files::read(&self.manifest_path(), limits::MAX_MANIFEST as u64)
    }

    pub(crate) fn manifest(&self) -> Result<Manifest> {
        Manifest::from_slice(&self.manifest_bytes()?)
            .map_err(|error| Failure::input(format_args!("{}: {error}", self.manifest_path().display())))
    }

    /// The note, if it was signed.
    pub(crate) fn note(&self) -> Result<Option<Vec<u8>>> {
        if self.note_path().is_file() {
            files::read(&self.note_path(), limits::MAX_NOTE as u64).map(Some)
        } else {
            Ok(None)
        }
    }
}
