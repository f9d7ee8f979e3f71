//! What a component was made of: the list of packages that `remit step build` (or `cargo auditable`) puts into its bytes, and
//! the tools that say they took part; as CycloneDX. All of it is claimed by whoever built it.

use std::path::Path;

use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib_with_limit};
use remit_protocol::{Digest, manifest::Manifest};
use remit_signing::sections::{self, Producer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};

/// The custom section in which `cargo auditable` keeps the list.
const SECTION: &str = ".dep-v0";
/// Largest list, once it is unpacked.
const MAX_LIST: usize = 8 << 20;
/// Stored, not packed: the same list gives the same bytes, whichever version packs it.
const STORED: u8 = 0;

/// When a package takes part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Its code is in the component.
    #[default]
    Runtime,
    /// It ran while the component was built.
    Build,
}

fn is_runtime(kind: &Kind) -> bool {
    *kind == Kind::Runtime
}

/// A package of the list, in the form of `cargo auditable`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// `local`, `git`, `registry`, or what another tool wrote.
    pub(super) source: String,
    #[serde(default, skip_serializing_if = "is_runtime")]
    pub(super) kind: Kind,
    /// Places in the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) dependencies: Vec<usize>,
    /// It is the component itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) root: bool,
}

#[derive(Serialize, Deserialize)]
struct List {
    packages: Vec<Package>,
}

/// The component with the list in it.
pub(super) fn embed(wasm: &[u8], packages: Vec<Package>) -> Vec<u8> {
    let list = serde_json::to_vec(&List { packages }).unwrap_or_default();
    sections::with_custom(wasm, SECTION, &compress_to_vec_zlib(&list, STORED))
}

/// The list in a component; none if there is none.
pub(super) fn packages(wasm: &[u8]) -> Result<Option<Vec<Package>>> {
    let all = sections::sections(wasm).map_err(Failure::input)?;
    let Some(section) = all.iter().rev().find(|section| section.custom && section.name == SECTION) else {
        return Ok(None);
    };
    let damaged = |why: &dyn std::fmt::Display| {
        Failure::input(format_args!("the component's list of packages cannot be read: {why}"))
    };
    let list = decompress_to_vec_zlib_with_limit(section.bytes, MAX_LIST).map_err(|error| damaged(&error))?;
    let list: List = serde_json::from_slice(&list).map_err(|error| damaged(&error))?;
    let beyond = |package: &Package| package.dependencies.iter().any(|at| *at >= list.packages.len());
    if list.packages.iter().any(beyond) {
        return Err(damaged(&"a dependency is not in the list"));
    }
    Ok(Some(list.packages))
}

/// The tools that say they took part.
pub(super) fn producers(wasm: &[u8]) -> Result<Vec<Producer>> {
    Ok(sections::producers(wasm).map_err(Failure::input)?.into_iter().collect())
}

/// A CycloneDX 1.6 document of a component; none if it does not say what it was made of.
pub(super) fn cyclonedx(wasm: &[u8], manifest: &Manifest) -> Result<Option<Value>> {
    let Some(packages) = packages(wasm)? else { return Ok(None) };
    let own = format!("{}@{}", manifest.name, manifest.version);
    let reference = |at: usize, package: &Package| {
        if package.root { own.clone() } else { format!("{at}:{}@{}", package.name, package.version) }
    };
    let component = |(at, package): (usize, &Package)| {
        json!({
            "type": "library",
            "bom-ref": reference(at, package),
            "name": package.name,
            "version": package.version,
            "purl": format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B")),
            "scope": if package.kind == Kind::Build { "excluded" } else { "required" },
            "properties": [{ "name": "remit:source", "value": package.source }],
        })
    };
    let depends = |(at, package): (usize, &Package)| {
        let on =
            package.dependencies.iter().filter_map(|on| packages.get(*on).map(|other| reference(*on, other)));
        json!({ "ref": reference(at, package), "dependsOn": on.collect::<Vec<_>>() })
    };
    let tools = producers(wasm)?
        .into_iter()
        .map(|tool| json!({ "type": "application", "name": tool.name, "version": tool.version }));
    let digest = Digest::of(wasm).to_hex();
    Ok(Some(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": own, "name": manifest.name, "version": manifest.version,
                "hashes": [{ "alg": "SHA-256", "content": digest }],
            },
            "tools": { "components": tools.collect::<Vec<_>>() },
            "properties": [{ "name": "remit:standing", "value": "claimed by whoever built it" }],
        },
        "components":
            packages.iter().enumerate().filter(|(_, package)| !package.root).map(component).collect::<Vec<_>>(),
        "dependencies": packages.iter().enumerate().map(depends).collect::<Vec<_>>(),
    })))
}

/// What `cargo metadata` says, as far as it is read here.
#[derive(Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Known>,
    resolve: Option<Resolve>,
    pub(super) workspace_root: std::path::PathBuf,
    pub(super) target_directory: std::path::PathBuf,
}

#[derive(Deserialize)]
struct Known {
    id: String,
    name: String,
    version: String,
    source: Option<String>,
    manifest_path: std::path::PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Metadata {
    /// A package of this machine that is not inside of the workspace.
    pub(super) fn outside(&self) -> Option<&Path> {
        let local = self.packages.iter().filter(|known| known.source.is_none());
        let mut manifests = local.map(|known| known.manifest_path.as_path());
        manifests.find(|manifest| !manifest.starts_with(&self.workspace_root))
    }

    /// The packages of which the crate with this manifest is made, sorted; what only tests use is left out.
    pub(super) fn list(&self, manifest: &Path) -> Result<Vec<Package>> {
        let unknown = || Failure::input("cargo metadata does not say of what the crate is made");
        let root = self.packages.iter().find(|known| known.manifest_path == manifest).ok_or_else(unknown)?;
        let nodes = &self.resolve.as_ref().ok_or_else(unknown)?.nodes;
        let known = |id: &str| self.packages.iter().find(|known| known.id == id);
        let macros = |known: &Known| {
            known.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
        };
        // Each package with the most that it takes part in: what runs beats what only builds.
        let mut kinds = std::collections::BTreeMap::from([(root.id.as_str(), Kind::Runtime)]);
        let mut next = vec![root.id.as_str()];
        while let Some(id) = next.pop() {
            let own = kinds.get(id).copied().unwrap_or_default();
            for edge in nodes.iter().filter(|node| node.id == id).flat_map(|node| &node.deps) {
                let Some(kind) = edge.kind().map(|kind| kind.max(own)) else { continue };
                let kind = if known(&edge.pkg).is_some_and(macros) { Kind::Build } else { kind };
                if kinds.get(edge.pkg.as_str()).is_none_or(|before| kind < *before) {
                    kinds.insert(&edge.pkg, kind);
                    next.push(&edge.pkg);
                }
            }
        }
        let mut all: Vec<(&Known, Kind)> =
            kinds.iter().filter_map(|(id, kind)| Some((known(id)?, *kind))).collect();
        all.sort_by(|(a, _), (b, _)| (&a.name, &a.version, &a.source).cmp(&(&b.name, &b.version, &b.source)));
        let place = |id: &str| all.iter().position(|(known, _)| known.id == id);
        let package = |(known, kind): &(&Known, Kind)| {
            let edges = nodes.iter().filter(|node| node.id == known.id).flat_map(|node| &node.deps);
            let edges = edges.filter(|edge| edge.kind().is_some());
            let mut dependencies: Vec<usize> = edges.filter_map(|edge| place(&edge.pkg)).collect();
            dependencies.sort_unstable();
            dependencies.dedup();
            Package {
                name: known.name.clone(),
                version: known.version.clone(),
                source: source(known.source.as_deref()).to_owned(),
                kind: *kind,
                dependencies,
                root: known.id == root.id,
            }
        };
        Ok(all.iter().map(package).collect())
    }
}

impl Edge {
    /// How the dependency takes part; not at all if only tests use it.
    fn kind(&self) -> Option<Kind> {
        self.dep_kinds
            .iter()
            .filter_map(|kind| match kind.kind.as_deref() {
                None => Some(Kind::Runtime),
                Some("build") => Some(Kind::Build),
                Some(_) => None,
            })
            .min()
    }
}

fn source(text: Option<&str>) -> &'static str {
    match text {
        None => "local",
        Some(text) if text.starts_with("git+") => "git",
        Some(_) => "registry",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn metadata() -> Metadata {
        let package = |id: &str, source: Value, kind: &str| {
            json!({ "id": id, "name": id, "version": "1.0.0", "source": source, "manifest_path": format!("/{id}/Cargo.toml"),
                "targets": [{ "kind": [kind] }] })
        };
        let edge = |to: &str, kinds: &[Option<&str>]| {
            let kinds: Vec<Value> =
                kinds.iter().map(|kind| json!({ "kind": kind, "target": null })).collect();
            json!({ "name": to, "pkg": to, "dep_kinds": kinds })
        };
        const RUN: Option<&str> = None;
        let (build, dev) = (Some("build"), Some("dev"));
        serde_json::from_value(json!({
            "workspace_root": "/step", "target_directory": "/step/target",
            "packages": [
                package("step", json!(null), "cdylib"), package("b", json!("registry+x"), "lib"),
                package("a", json!("git+x"), "lib"), package("macros", json!("registry+x"), "proc-macro"),
                package("quote", json!("registry+x"), "lib"), package("cc", json!("registry+x"), "lib"),
                package("tested", json!("registry+x"), "lib"), package("stranger", json!(null), "lib"),
            ],
            "resolve": { "nodes": [
                { "id": "step", "deps": [edge("b", &[RUN, dev]), edge("macros", &[RUN]),
                    edge("cc", &[build]), edge("tested", &[dev])] },
                { "id": "b", "deps": [edge("a", &[RUN])] },
                { "id": "macros", "deps": [edge("quote", &[RUN]), edge("a", &[RUN])] },
                { "id": "stranger", "deps": [] },
            ] },
        }))
        .unwrap()
    }

    #[test]
    fn the_list_holds_what_runs_and_what_builds() {
        let list = metadata().list(Path::new("/step/Cargo.toml")).unwrap();
        let shown: Vec<_> = list
            .iter()
            .map(|package| (package.name.as_str(), package.source.as_str(), package.kind, package.root))
            .collect();
        let expected = [
            ("a", "git", Kind::Runtime, false),
            ("b", "registry", Kind::Runtime, false),
            ("cc", "registry", Kind::Build, false),
            ("macros", "registry", Kind::Build, false),
            ("quote", "registry", Kind::Build, false),
            ("step", "local", Kind::Runtime, true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(list[5].dependencies, [1, 2, 3]);
        assert!(metadata().list(Path::new("/none/Cargo.toml")).is_err());
    }

    #[test]
    fn what_is_embedded_is_read_back() {
        let list = metadata().list(Path::new("/step/Cargo.toml")).unwrap();
        let wasm = embed(EMPTY, list.clone());
        assert_eq!(packages(&wasm).unwrap(), Some(list.clone()));
        assert_eq!(embed(EMPTY, list), wasm);
        assert_eq!(packages(EMPTY).unwrap(), None);
        // Packed, as another tool writes it.
        let packed =
            compress_to_vec_zlib(br#"{"packages":[{"name":"x","version":"1.0.0","source":"elsewhere"}]}"#, 6);
        let other = sections::with_custom(EMPTY, SECTION, &packed);
        assert_eq!(packages(&other).unwrap().unwrap()[0].source, "elsewhere");
        for bad in [
            &b"no zlib"[..],
            &compress_to_vec_zlib(b"no JSON", 6),
            &compress_to_vec_zlib(&vec![b' '; MAX_LIST + 1], 6),
            &compress_to_vec_zlib(
                br#"{"packages":[{"name":"x","version":"1","source":"l","dependencies":[1]}]}"#,
                6,
            ),
        ] {
            assert!(packages(&sections::with_custom(EMPTY, SECTION, bad)).is_err());
        }
    }
}
