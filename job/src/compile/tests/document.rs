//! The job document: it reads back as it was written, is checked again wherever it comes from, and a node source has one, too.

use remit_protocol::operator::NewSource;

use super::*;

#[test]
fn a_document_reads_back_as_it_was() {
    let document = compiled(EXAMPLE).unwrap();
    let bytes = document.to_vec();
    let again = Document::from_slice(&bytes).unwrap();
    assert_eq!(again, document);
    assert_eq!(again.to_vec(), bytes);
    assert_eq!(Digest::of(&compiled(EXAMPLE).unwrap().to_vec()), Digest::of(&bytes));
}

#[test]
fn a_document_from_elsewhere_is_checked_again() {
    let good: Value = serde_json::from_slice(&compiled(EXAMPLE).unwrap().to_vec()).unwrap();
    fn check(good: &Value, pointer: &str, value: Value, part: &str) {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value;
        let error = Document::from_slice(&serde_json::to_vec(&bad).unwrap()).expect_err(pointer).to_string();
        assert!(error.contains(part), "{pointer}: {error}");
    }
    assert!(Document::from_slice(&serde_json::to_vec(&good).unwrap()).is_ok());
    let component = "/steps/1/action/component";
    let at = |part: &str| format!("{component}/{part}");
    check(&good, "/v", json!(2), "form 2");
    check(&good, "/job", json!("No"), "job name");
    check(&good, "/steps", json!([]), "no steps");
    check(&good, "/nodes", Value::Null, "nothing about nodes");
    check(&good, "/nodes/threads", json!(0), "at least 1");
    check(&good, "/nodes/threads", json!("options.nosuch"), "not an option");
    check(&good, "/nodes/threads", json!("("), "");
    check(&good, "/nodes/filter", json!("name: ("), "not a regular expression");
    check(&good, "/timeout", json!("0s"), "between");
    check(&good, "/steps/1/name", json!("drain"), "twice");
    check(&good, "/steps/1/per", json!("once"), "");
    check(&good, "/steps/1/when", json!("steps.report.outcome == 'x'"), "not run before");
    check(&good, "/steps/1/when", json!("true ||"), "");
    check(&good, "/steps/1/retry/attempts", json!(0), "at least 1");
    check(&good, "/steps/1/retry/backoff", json!(0), "between 1 and 10");
    check(&good, "/steps/0/timeout", json!("25h"), "between");
    check(&good, "/steps/1/action", json!({"shell": {}}), "unknown variant");
    check(&good, &at("effect"), json!("read"), "retry class");
    check(&good, &at("effect"), json!("pure"), "retry class");
    check(&good, &at("kind"), json!("node-source"), "node source");
    check(&good, &at("digest"), json!("sha256:00"), "digest");
    check(&good, &at("with"), json!([]), "not a map");
    check(&good, &at("with"), json!({"a": "${nosuch}"}), "does not exist");
    check(&good, &at("with"), json!({"a": "${options.nosuch}"}), "not an option");
    check(&good, &at("secrets"), json!({}), "binds none");
    check(&good, &at("secrets"), json!({"token": ["keys/a"], "other": ["keys/b"]}), "no rule");
    check(&good, &at("secrets/token"), json!([]), "no path");
    check(&good, &at("limits/memory"), json!("600MiB"), "above");
    check(&good, &at("grant/http/0/host"), json!("granted"), "");
    check(&good, &at("grant/http/0/methods"), json!([]), "methods");
    let mut unknown = good.clone();
    unknown["extra"] = json!(1);
    assert!(Document::from_slice(&serde_json::to_vec(&unknown).unwrap()).is_err());
    assert!(Document::from_slice(b"{\"v\":1,\"v\":1}").is_err());
    assert!(Document::from_slice(b"").is_err());
    assert!(Document::from_slice(&vec![b' '; (1 << 20) + 1]).is_err());
}

#[test]
fn a_node_source_has_a_document_of_its_own() {
    let source = |change: serde_json::Value| -> NewSource {
        let mut whole = json!({
            "name": "site.files", "uses": "remit/file-nodes@1", "with": {}, "runner_tags": ["dmz"],
        });
        for (name, value) in change.as_object().unwrap() {
            whole[name] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    };
    let project = ProjectName::new("ops").unwrap();
    let files = component(&"remit/file-nodes@1".parse().unwrap()).unwrap();
    let made = discovery(&project, &source(json!({})), &files).unwrap();
    assert_eq!(made.job.as_str(), "source_site_files");
    assert_eq!(made.runner.tags.len(), 1);
    assert_eq!(Document::from_slice(&made.to_vec()), Ok(made.clone()));
    // Two steps of which one discovers are no document at all.
    let mut twice = made.clone();
    twice.steps.push(Step { name: "again".parse().unwrap(), ..made.steps[0].clone() });
    assert!(Document::from_slice(&twice.to_vec()).is_err());
    let step = component(&"remit/ssh-command@1".parse().unwrap()).unwrap();
    assert!(discovery(&project, &source(json!({})), &step).is_err());
    let ungranted = json!({"grant": {"http": [{"host": "a.example", "methods": ["GET"], "paths": ["/"]}]}});
    let faults = discovery(&project, &source(ungranted), &files).unwrap_err();
    assert!(faults[0].place == "grant", "{faults:?}");
}
