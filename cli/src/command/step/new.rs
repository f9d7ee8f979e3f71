//! `remit step new`: a step that builds anywhere, with the SDK and the WIT beside it.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};
use remit_protocol::ComponentName;

use crate::{
    failure::{Failure, Result},
    files,
    output::Output,
};

static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../wit");

#[derive(Args)]
pub(crate) struct New {
    /// The step's name; `namespace/name`, or a name alone for the namespace `my`.
    name: String,
    /// Where the step goes; default: a folder of that name.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// The language that it is written in.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Python,
    Js,
}

impl Language {
    /// The language's own folder in the SDK's; Rust has no other.
    fn folder(self) -> Option<&'static str> {
        match self {
            Self::Rust => None,
            Self::Python => Some("python"),
            Self::Js => Some("js"),
        }
    }

    /// Folders in the SDK's that a step in Rust does not need: those of other languages, and what the built-in steps share.
    const OTHER: [&str; 5] = ["python", "js", "kubernetes", "nodes", "sftp"];

    /// Writes the language's SDK to `sdk`.
    fn write_sdk(self, sdk: &Path) -> Result<()> {
        let theirs = |path: &Path| {
            let own = ["template", "tests"].iter().any(|own| path.starts_with(own));
            let other = Self::OTHER.iter().any(|other| path.starts_with(other));
            !own && !other && !path.components().any(|part| part.as_os_str() == "__pycache__")
        };
        match self.folder() {
            None => write_all(&SDK, &sdk.join("guest-sdk"), &theirs, &<[u8]>::to_vec),
            Some(name) => write_all(held(name)?, &sdk.join(name), &theirs, &<[u8]>::to_vec),
        }
    }
}

/// A folder of the SDK.
fn held(name: &str) -> Result<&'static Dir<'static>> {
    SDK.get_dir(name).ok_or_else(|| Failure::input(format_args!("this program holds no {name}")))
}

impl New {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let full = if self.name.contains('/') { self.name.clone() } else { format!("my/{}", self.name) };
        let name = ComponentName::new(full).map_err(Failure::input)?;
        let folder = self.path.unwrap_or_else(|| PathBuf::from(name.name()));
        if folder.exists() {
            return Err(Failure::input(format_args!("{}: exists already", folder.display())));
        }
        let sdk = folder.join("sdk");
        write_all(&WIT, &sdk.join("wit"), &|_| true, &<[u8]>::to_vec)?;
        self.lang.write_sdk(&sdk)?;
        let template = match self.lang.folder() {
            None => held("template")?,
            Some(own) => held(&format!("{own}/template"))?,
        };
        let filled = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace("{{namespace}}", name.namespace())
                .replace("{{name}}", name.name())
                .into_bytes()
        };
        write_all(template, &folder, &|path| path.extension().is_none_or(|kind| kind != "pyc"), &filled)?;
        output.print(&serde_json::json!({ "component": name, "folder": folder }), |_| {
            format!(
                "{name} is in {0}\nnext:\n  cd {0}\n  remit step test\n  remit step build\n  remit step run --input '{{\"name\": \"world\"}}'",
                folder.display()
            )
        });
        Ok(())
    }
}

/// Where a file of the template goes, if not to its own name: there it would be taken for the real thing.
const RENAMED: [(&str, &str); 2] = [("sdk.toml", "sdk/Cargo.toml"), ("gitignore", ".gitignore")];

/// Writes a folder that this program holds.
fn write_all(
    folder: &Dir<'_>,
    to: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    filled: &dyn Fn(&[u8]) -> Vec<u8>,
) -> Result<()> {
    let base = folder.path().to_owned();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        for file in folder.files() {
            let inside = file.path().strip_prefix(&base).unwrap_or(file.path());
            if wanted(inside) {
                let renamed = RENAMED.iter().find(|(from, _)| inside == Path::new(from));
                let path = renamed.map_or(inside, |(_, target)| Path::new(target));
                files::write(&to.join(path), &filled(file.contents()), false)?;
            }
        }
    }
    Ok(())
}
