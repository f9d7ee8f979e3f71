//! The scaffold of `remit step new`: it fits the repository that it is taken from.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(here(path)).unwrap_or_default();
    assert!(!text.is_empty(), "{path} is missing");
    text
}

/// The entries of one table, a line each.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| line.contains(" = ")).collect()
}

#[test]
fn the_sdk_stands_alone_with_the_repositorys_own_versions() {
    let (alone, root) = (read("template/sdk.toml"), read("../Cargo.toml"));
    for name in ["workspace.package", "workspace.dependencies"] {
        let (own, all) = (table(&alone, name), table(&root, name));
        assert!(!own.is_empty(), "{name} is missing");
        for line in own {
            assert!(all.contains(&line), "[{name}] of template/sdk.toml and of Cargo.toml differ: {line}");
        }
    }
}

#[test]
fn every_inherited_dependency_is_in_the_workspace_of_the_sdk() {
    let alone = read("template/sdk.toml");
    let known: Vec<_> = table(&alone, "workspace.dependencies")
        .into_iter()
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .collect();
    let mut inherited = 0;
    for manifest in [read("Cargo.toml"), read("macros/Cargo.toml")] {
        let dependencies = manifest.lines().skip_while(|line| *line != "[dependencies]");
        for name in dependencies.filter_map(|line| line.strip_suffix(".workspace = true")) {
            inherited += 1;
            assert!(known.contains(&name), "template/sdk.toml lacks the dependency {name}");
        }
    }
    assert!(inherited >= 8, "the manifests are read wrongly: {inherited} dependencies were found");
}

#[test]
fn every_place_of_the_scaffold_is_one_that_the_command_fills() {
    let places = ["{{name}}", "{{namespace}}"];
    for file in ["Cargo.toml", "step.toml", "src/lib.rs", "README.md", "gitignore"] {
        let mut text = read(&format!("template/{file}"));
        for place in places {
            text = text.replace(place, "x");
        }
        assert!(!text.contains("{{"), "template/{file} holds a place that nothing fills");
    }
}
