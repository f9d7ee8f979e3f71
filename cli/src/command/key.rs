//! `remit key`: keys that sign.

use std::path::PathBuf;

use clap::Subcommand;
use remit_signing::key::{KeyName, SigningKey};
use serde::Serialize;

use crate::{
    failure::{Failure, Result},
    files,
    output::Output,
};

#[derive(Subcommand)]
pub(crate) enum Key {
    /// Make a key pair: the private key in FILE (mode 0600), the public key beside it, with the ending `.vkey`.
    New {
        /// A name such as `acme.example/release-1`.
        name: String,
        /// Where the private key goes; default: the last part of the name and `.key`.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the public key of a private key file.
    Show {
        /// The private key.
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct Made {
    name: String,
    vkey: String,
    private_key: PathBuf,
}

impl Key {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        match self {
            Self::New { name, out } => {
                let out = out.unwrap_or_else(|| {
                    PathBuf::from(format!("{}.key", name.rsplit('/').next().unwrap_or("new")))
                });
                if out.exists() {
                    return Err(Failure::input(format_args!("{}: exists already", out.display())));
                }
                let name = KeyName::new(name).map_err(Failure::input)?;
                let mut seed = zeroize::Zeroizing::new([0; 32]);
                getrandom::fill(seed.as_mut_slice()).map_err(Failure::input)?;
                let key = SigningKey::from_seed(name, &seed);
                let private = zeroize::Zeroizing::new(format!("{}\n", key.to_private_text().as_str()));
                files::write(&out, private.as_bytes(), true)?;
                let vkey = key.vkey().to_string();
                files::write(&out.with_extension("vkey"), format!("{vkey}\n").as_bytes(), false)?;
                let made = Made { name: key.name().to_string(), vkey, private_key: out };
                output.print(&made, |made| {
                    format!("private key: {}\npublic key:  {}", made.private_key.display(), made.vkey)
                });
            }
            Self::Show { file } => {
                let key = load(&file)?;
                let shown =
                    Made { name: key.name().to_string(), vkey: key.vkey().to_string(), private_key: file };
                output.print(&shown, |shown| shown.vkey.clone());
            }
        }
        Ok(())
    }
}

/// Reads a private key file.
pub(crate) fn load(file: &std::path::Path) -> Result<SigningKey> {
    let text = zeroize::Zeroizing::new(files::read_text(file)?);
    SigningKey::from_private_text(text.trim_end())
        .map_err(|error| Failure::input(format_args!("{}: {error}", file.display())))
}
