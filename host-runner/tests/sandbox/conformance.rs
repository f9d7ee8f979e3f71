//! The conformance suite, as `remit-runner conformance` runs it.

use std::collections::BTreeSet;

use remit_runner::conformance;

use crate::support::SUITE;

#[tokio::test]
async fn every_attack_is_held_and_every_twin_is_permitted() {
    let report = conformance::run(&SUITE, None, |_| {}).await.unwrap();
    let failed: Vec<_> = report.rows.iter().filter(|row| !row.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!((report.passed, report.failed), (report.rows.len(), 0));
    let threats: BTreeSet<_> = report.rows.iter().map(|row| row.threat).collect();
    let expected = 1..=32;
    assert_eq!(threats, expected.collect::<BTreeSet<u8>>());
    let names: BTreeSet<_> = report.rows.iter().map(|row| (row.threat, &row.name)).collect();
    assert_eq!(names.len(), report.rows.len(), "two rows have one name");
}

#[tokio::test]
async fn a_suite_without_its_guests_is_no_suite() {
    let folder = tempfile::tempdir().unwrap();
    let empty = conformance::bench::Suite::new(folder.path(), std::path::Path::new("/bin/false"));
    let error = conformance::run(&empty, None, |_| {}).await.unwrap_err();
    assert!(format!("{error:#}").contains("cargo xtask guests"), "{error:#}");
    let error = conformance::run(&SUITE, Some(99), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("no row"), "{error}");
}
