//! Our reading of JSON, held against the JSONTestSuite of Nicolas Seriot, which the crate `actson` carries in its package.
//!
//! What its name says has to be refused is refused. What has to be accepted is, but for what this product refuses on
//! purpose; and where the suite leaves a choice, the list below says what is chosen.

#![expect(clippy::unwrap_used, reason = "a suite that cannot be read fails its test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use remit_protocol::json;

/// What RFC 8259 allows and we refuse: one text is to have one meaning.
const REFUSED_ON_PURPOSE: [&str; 2] = ["y_object_duplicated_key", "y_object_duplicated_key_and_value"];

/// What the suite leaves open, and we take: what is nearer to zero than any double is zero. Everything else that it leaves
/// open is refused.
const TAKEN: [&str; 2] = ["i_number_double_huge_neg_exp", "i_number_real_underflow"];

/// Where the package of `actson` lies.
#[expect(clippy::disallowed_methods, reason = "only cargo knows where it keeps a package")]
fn suite() -> PathBuf {
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let actson = packages.iter().find(|package| package["name"] == "actson").unwrap();
    PathBuf::from(actson["manifest_path"].as_str().unwrap())
        .parent()
        .unwrap()
        .join("tests/json_test_suite/test_parsing")
}

#[test]
fn the_json_test_suite_holds() {
    let folder = suite();
    let texts: BTreeMap<String, Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect();
    assert!(texts.len() > 300, "the suite has 318 texts, here are {}", texts.len());
    let refused_on_purpose = BTreeSet::from(REFUSED_ON_PURPOSE);
    let mut taken = Vec::new();
    for (name, text) in &texts {
        let read = json::value_from_slice(text, 1 << 20);
        match name.split_once('_').map(|(class, _)| class) {
            Some("y") if refused_on_purpose.contains(name.as_str()) => assert!(read.is_err(), "{name}"),
            Some("y") => assert!(read.is_ok(), "{name}: {read:?}"),
            Some("n") => assert!(read.is_err(), "{name}: {read:?}"),
            Some("i") if read.is_ok() => taken.push(name.as_str()),
            Some("i") => {}
            _ => panic!("{name} is of no class"),
        }
    }
    assert_eq!(taken, TAKEN);
}
