//! `remit step sign`.

use std::path::PathBuf;

use clap::Args;
use remit_protocol::{Span, Timestamp, digest::Sized};
use remit_signing::{
    component::{ComponentNote, MAX_VALIDITY},
    note::{self, UnverifiedNote},
    verify,
};
use serde::Serialize;

use crate::{
    command::{key, note as note_command},
    failure::{Failure, Result},
    files,
    output::Output,
    package::Package,
};

#[derive(Args)]
pub(crate) struct Sign {
    /// The package, or the crate that it was built in.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The private key; a second holder signs the same note with another one.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// How long the note is valid, at most 400 days. It can be signed again without a new build.
    #[arg(long, default_value = "365d")]
    valid_for: Span,
}

#[derive(Serialize)]
struct Signed {
    component: String,
    note: String,
    key: String,
    expires: Timestamp,
    file: PathBuf,
}

impl Sign {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let package = Package::find(&self.folder)?;
        let key = key::load(&self.key)?;
        let manifest_bytes = package.manifest_bytes()?;
        let manifest = package.manifest()?;
        let wasm = package.wasm()?;
        // Nobody stands for bytes that no registry and no runner will take.
        verify::check_wasm(&wasm, &manifest).map_err(|refusal| note_command::refused(&refusal))?;
        let (component, manifest_sized) = (Sized::of(&wasm), Sized::of(&manifest_bytes));
        let same = |existing: &ComponentNote| {
            existing.component == component
                && existing.manifest == manifest_sized
                && existing.expires > note_command::now()
        };
        let existing = package.note()?.and_then(|bytes| {
            let unverified = UnverifiedNote::parse(&bytes).ok()?;
            ComponentNote::parse(&unverified).ok().filter(same).map(|parsed| (bytes, parsed))
        });
        let (bytes, says) = match existing {
            Some((bytes, says)) => {
                (note::add_signature(&bytes, &key).map_err(|refusal| note_command::refused(&refusal))?, says)
            }
            None => {
                if self.valid_for.duration() > MAX_VALIDITY {
                    return Err(Failure::input("a component note is valid for at most 400 days"));
                }
                let second = Timestamp::from_millis(note_command::now().as_secs() * 1000);
                let says = ComponentNote {
                    name: manifest.name,
                    version: manifest.version,
                    component,
                    manifest: manifest_sized,
                    source: None,
                    not_before: second,
                    expires: second.plus(self.valid_for.duration()),
                };
                (
                    note::sign(&says.to_text(), &[&key])
                        .map_err(|refusal| note_command::refused(&refusal))?,
                    says,
                )
            }
        };
        files::write(&package.note_path(), &bytes, false)?;
        let identity =
            UnverifiedNote::parse(&bytes).map_err(|refusal| note_command::refused(&refusal))?.identity();
        let signed = Signed {
            component: format!("{}@{}", says.name, says.version),
            note: identity.to_string(),
            key: key.name().to_string(),
            expires: says.expires,
            file: package.note_path(),
        };
        output.print(&signed, |signed| {
            format!(
                "{} signed by {}\nnote {}\nvalid until {}",
                signed.component, signed.key, signed.note, signed.expires
            )
        });
        Ok(())
    }
}
