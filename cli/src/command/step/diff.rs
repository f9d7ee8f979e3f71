//! `remit step diff`: what another version of a component asks for beyond the one that was audited.

use std::path::PathBuf;

use clap::Args;
use remit_protocol::{
    Digest,
    compare::{Comparison, Verdict, compare},
};
use serde::Serialize;

use crate::{
    failure::{Code, Failure, Result},
    output::{Output, harmless},
    package::Package,
};

/// Exit code 0: SAME or NARROWER; 1: WIDER; 3: a package cannot be read; 4: OPAQUE, the two do not compare.
#[derive(Args)]
pub(crate) struct Diff {
    /// The package that was audited.
    old: PathBuf,
    /// The one that is to replace it.
    new: PathBuf,
}

/// Schema 1 of `--output json`.
#[derive(Serialize)]
struct Shown {
    schema: u32,
    old: Side,
    new: Side,
    /// The bytes are the same.
    same_bytes: bool,
    #[serde(flatten)]
    comparison: Comparison,
}

#[derive(Serialize)]
struct Side {
    component: String,
    digest: Digest,
    bytes: usize,
}

impl Diff {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let (old, old_side) = read(&self.old)?;
        let (new, new_side) = read(&self.new)?;
        let comparison = compare(&old, &new);
        let verdict = comparison.verdict;
        let same_bytes = old_side.digest == new_side.digest;
        let shown = Shown { schema: 1, old: old_side, new: new_side, same_bytes, comparison };
        output.print(&shown, text);
        match verdict {
            Verdict::Same | Verdict::Narrower => Ok(()),
            Verdict::Wider => Err(Failure::new(
                Code::Failed,
                "the new version asks for more",
                "audit what is listed as wider before it is granted",
            )),
            Verdict::Opaque => {
                Err(Failure::new(Code::Refused, "the two do not compare", "audit the new one as a whole"))
            }
        }
    }
}

/// The manifest of a package whose bytes import what it says: else it would be compared by its word alone.
fn read(folder: &std::path::Path) -> Result<(remit_protocol::manifest::Manifest, Side)> {
    let package = Package::find(folder)?;
    let (wasm, manifest) = (package.wasm()?, package.manifest()?);
    remit_signing::verify::check_wasm(&wasm, &manifest).map_err(|refusal| {
        Failure::input(format_args!("{}: {}", folder.display(), harmless(&refusal.to_string())))
    })?;
    let component = format!("{}@{}", manifest.name, manifest.version);
    Ok((manifest, Side { component, digest: Digest::of(&wasm), bytes: wasm.len() }))
}

fn text(shown: &Shown) -> String {
    let verdict = serde_json::to_value(shown.comparison.verdict).unwrap_or_default();
    let mut lines = vec![verdict.as_str().unwrap_or_default().to_owned()];
    for (name, side) in [("old", &shown.old), ("new", &shown.new)] {
        lines.push(format!("  {name}       {} {} {} bytes", side.component, side.digest, side.bytes));
    }
    if shown.same_bytes {
        lines.push("  the bytes are the same".to_owned());
    } else {
        lines.push(
            "  the bytes differ: what the new ones do within the same permissions is not judged here"
                .to_owned(),
        );
    }
    let Comparison { wider, narrower, opaque, .. } = &shown.comparison;
    for (name, said) in [("wider", wider), ("narrower", narrower), ("opaque", opaque)] {
        lines.extend(said.iter().map(|line| format!("  {name:<9} {}", harmless(line))));
    }
    lines.join("\n")
}
