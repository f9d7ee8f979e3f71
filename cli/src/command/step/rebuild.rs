//! `remit step rebuild`: whether the published bytes are what the source gives. It is built twice, in two places that share no
//! path, and all three have to be the same.

use std::path::{Path, PathBuf};

use clap::Args;
use remit_protocol::Digest;
use remit_signing::sections::{self, Section};
use serde::Serialize;

use super::{
    bill,
    build::{describe, read_step_file},
    toolchain::{Toolchain, cargo},
};
use crate::{
    failure::{Code, Failure, Result},
    files,
    output::{self, Output, one_line},
    package::Package,
};

/// Most bytes that a source may have, without what is built.
const MAX_SOURCE: u64 = 1 << 30;
/// Most files of a source.
const MAX_FILES: u32 = 100_000;
/// What is built, or not the source's: it is not copied.
const LEFT_OUT: [&str; 4] = ["target", "dist", ".git", "node_modules"];

/// Exit code 0: both builds give the published bytes; 4: they give others; 1: the two builds differ from one another; 3: it
/// cannot be built here as it was.
#[derive(Args)]
pub(crate) struct Rebuild {
    /// The folder of the step's source.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The published package, as of `remit component fetch`; absent: what was built in that folder.
    #[arg(long, value_name = "PACKAGE")]
    against: Option<PathBuf>,
}

/// Schema 1 of `--output json`.
#[derive(Serialize)]
struct Rebuilt {
    schema: u32,
    component: String,
    toolchain: String,
    published: Digest,
    builds: Vec<Digest>,
    /// The builds are the same.
    reproducible: bool,
    /// And the same as what is published, with its manifest.
    same: bool,
    /// What is different, section by section.
    differences: Vec<String>,
}

impl Rebuild {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let step_file = read_step_file(&self.folder.join("step.toml"))?;
        if Toolchain::of(&step_file) != Toolchain::Cargo {
            return Err(Failure::input(
                "the toolchains of Python and JavaScript do not give the same bytes twice",
            )
            .with_remedy("rebuilding is for steps in Rust: review what these hold instead"));
        }
        let published = Package::find(self.against.as_deref().unwrap_or(&self.folder))?;
        let (wasm, manifest) = (published.wasm()?, published.manifest()?);
        let component = format!("{}@{}", manifest.name, manifest.version);
        let toolchain = same_toolchain(manifest.toolchain.as_deref())?;
        let source = Source::find(&self.folder)?;
        let places = tempfile::tempdir().map_err(Failure::input)?;
        let home = second_home(&places.path().join("home"))?;
        let rooms = [places.path().join("a"), places.path().join("another/place/of/it")];
        let mut builds = Vec::new();
        for (room, home) in rooms.iter().zip([None, Some(home.as_path())]) {
            let folder = source.copy(room)?;
            let recipe = cargo::Recipe { home, locked: true };
            let built = cargo::build(&folder, &recipe)?;
            let bytes = files::read(&built, remit_protocol::limits::MAX_COMPONENT)?;
            builds.push((bill::embed(&bytes, cargo::packages(&folder)?), built));
        }
        let mut differences = Vec::new();
        let [(one, path), (two, _)] = &builds[..] else { return Err(Failure::input("nothing was built")) };
        let reproducible = one == two;
        if reproducible {
            differences.extend(different(&wasm, one)?);
            let mut again = describe(
                step_file,
                remit_signing::wasm::interfaces(one).map_err(Failure::input)?.import_names(),
                path,
            )?;
            again.toolchain = Some(toolchain.clone());
            if again.to_vec() != published.manifest_bytes()? {
                differences
                    .push("manifest.json: step.toml and the built component give another one".to_owned());
            }
        } else {
            differences.extend(different(one, two)?);
        }
        let rebuilt = Rebuilt {
            schema: 1,
            component,
            toolchain,
            published: Digest::of(&wasm),
            builds: builds.iter().map(|(bytes, _)| Digest::of(bytes)).collect(),
            reproducible,
            same: reproducible && differences.is_empty(),
            differences,
        };
        output.print(&rebuilt, text);
        verdict(&rebuilt)
    }
}

fn verdict(rebuilt: &Rebuilt) -> Result<()> {
    if !rebuilt.reproducible {
        let remedy =
            "look for paths, times and randomness in build scripts and macros: the sections above hold them";
        return Err(Failure::new(Code::Failed, "the two builds differ from one another", remedy));
    }
    if !rebuilt.same {
        let remedy = "this source, with this Cargo.lock, is not what was published: ask the publisher for the one that is";
        return Err(Failure::new(Code::Refused, "the builds are not what is published", remedy));
    }
    Ok(())
}

fn text(rebuilt: &Rebuilt) -> String {
    let mut lines = vec![
        format!("{} built twice with {}", rebuilt.component, one_line(&rebuilt.toolchain)),
        format!("  published  {}", rebuilt.published),
    ];
    lines.extend(rebuilt.builds.iter().map(|digest| format!("  built      {digest}")));
    lines.extend(rebuilt.differences.iter().map(|line| format!("  differs    {}", one_line(line))));
    if rebuilt.same {
        lines.push("the published bytes are what this source gives".to_owned());
    }
    lines.join("\n")
}

/// The toolchain of the manifest, if it is the one here.
fn same_toolchain(named: Option<&str>) -> Result<String> {
    let Some(named) = named else {
        return Err(Failure::input("the manifest does not name the toolchain that built the component")
            .with_remedy("`remit step build` names it, unless it is given a wasm that was built elsewhere"));
    };
    let here = cargo::toolchain()?;
    if here == named {
        return Ok(here);
    }
    let version = named.split(' ').nth(1).unwrap_or(named);
    Err(Failure::input(format_args!("it was built with {}, and here is {here}", one_line(named)))
        .with_remedy(format!("use that one: RUSTUP_TOOLCHAIN={} remit step rebuild", one_line(version))))
}

/// A second home of cargo: other paths to the same downloaded sources.
fn second_home(home: &Path) -> Result<PathBuf> {
    let own = cargo::home()?;
    std::fs::create_dir_all(home).map_err(|error| Failure::file(home, &error))?;
    for name in ["registry", "git", "config.toml", "config"] {
        let from = own.join(name);
        if from.exists() {
            std::os::unix::fs::symlink(&from, home.join(name))
                .map_err(|error| Failure::file(&from, &error))?;
        }
    }
    Ok(home.to_owned())
}

/// The workspace of a crate, and where in it the crate is.
struct Source {
    root: PathBuf,
    inside: PathBuf,
}

impl Source {
    fn find(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().map_err(|error| Failure::file(folder, &error))?;
        let root = cargo::workspace(&folder)?;
        if !root.join("Cargo.lock").is_file() {
            return Err(Failure::input(format_args!("{}: there is no Cargo.lock", root.display()))
                .with_remedy(
                    "only a source that says the version of each package gives the same bytes again",
                ));
        }
        let inside = folder.strip_prefix(&root).map(Path::to_owned).map_err(|_| {
            Failure::input("the step is not inside of its workspace")
                .with_remedy("move it below the workspace's root")
        })?;
        Ok(Self { root, inside })
    }

    /// Copies the workspace to `room`, and gives the crate's folder there.
    fn copy(&self, room: &Path) -> Result<PathBuf> {
        let (mut bytes, mut count) = (0, 0);
        let mut folders = vec![PathBuf::new()];
        while let Some(inside) = folders.pop() {
            let (from, to) = (self.root.join(&inside), room.join(&inside));
            std::fs::create_dir_all(&to).map_err(|error| Failure::file(&to, &error))?;
            let failed = |error: std::io::Error| Failure::file(&from, &error);
            for entry in std::fs::read_dir(&from).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                if LEFT_OUT.iter().any(|left| name == *left) {
                    continue;
                }
                let path = inside.join(&name);
                let found = std::fs::metadata(entry.path()).map_err(failed)?;
                if found.is_dir() {
                    folders.push(path);
                    continue;
                }
                bytes += found.len();
                count += 1;
                if bytes > MAX_SOURCE || count > MAX_FILES {
                    return Err(Failure::input(format_args!(
                        "{}: larger than 1 GiB or 100000 files",
                        self.root.display()
                    ))
                    .with_remedy("put the step into a workspace of its own"));
                }
                std::fs::copy(entry.path(), room.join(&path)).map_err(failed)?;
            }
        }
        output::note(&format!("copied the source to {}", room.display()));
        Ok(room.join(&self.inside))
    }
}

/// What is different between two components, section by section, at most 20 of them.
fn different(old: &[u8], new: &[u8]) -> Result<Vec<String>> {
    if old == new {
        return Ok(Vec::new());
    }
    let read = |bytes| sections::sections(bytes).map_err(Failure::input);
    let (olds, news) = (read(old)?, read(new)?);
    let mut lines = Vec::new();
    let mut rest: Vec<&Section<'_>> = news.iter().collect();
    for section in &olds {
        let same_place = |other: &&Section<'_>| other.title() == section.title();
        let Some(at) = rest.iter().position(same_place) else {
            lines.push(format!("{}: it is only in the first", section.title()));
            continue;
        };
        let other = rest.remove(at);
        if other.bytes != section.bytes {
            let first = section.bytes.iter().zip(other.bytes).position(|(a, b)| a != b);
            let first = first.unwrap_or_else(|| section.bytes.len().min(other.bytes.len()));
            let (long, short) = (section.bytes.len(), other.bytes.len());
            lines.push(format!("{}: {long} and {short} bytes, from byte {first} on", section.title()));
        }
    }
    lines.extend(rest.iter().map(|section| format!("{}: it is only in the second", section.title())));
    if lines.is_empty() {
        lines.push("the order of the sections".to_owned());
    }
    let more = lines.len().saturating_sub(20);
    lines.truncate(20);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use remit_signing::sections::with_custom;

    use super::*;

    #[test]
    fn what_differs_is_named_by_its_section() {
        let empty = b"\0asm\x0d\0\x01\0";
        let of = |sections: &[(&str, &[u8])]| {
            sections.iter().fold(empty.to_vec(), |bytes, (name, content)| with_custom(&bytes, name, content))
        };
        let check = |old: &[(&str, &[u8])], new: &[(&str, &[u8])], expect: &[&str]| {
            assert_eq!(different(&of(old), &of(new)).unwrap(), expect);
        };
        check(&[("a", b"1")], &[("a", b"1")], &[]);
        check(
            &[("a", b"123"), ("b", b"1")],
            &[("a", b"1x3"), ("b", b"1")],
            &["outermost custom a: 3 and 3 bytes, from byte 1 on"],
        );
        check(&[("a", b"12")], &[("a", b"1")], &["outermost custom a: 2 and 1 bytes, from byte 1 on"]);
        check(
            &[("a", b"1")],
            &[("b", b"1")],
            &["outermost custom a: it is only in the first", "outermost custom b: it is only in the second"],
        );
        check(&[("a", b"1"), ("b", b"1")], &[("b", b"1"), ("a", b"1")], &["the order of the sections"]);
    }
}
