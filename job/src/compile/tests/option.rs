//! Options: a secret that one chooses, and the clock that only their defaults see.

use super::*;

#[test]
fn an_option_chooses_a_secret_among_those_that_are_listed() {
    let job = |option: &str| {
        format!(
            "job: x\noptions:\n  which: {option}\nnodes: {{ filter: .* }}\nsteps:\n- name: a\n  uses: remit/ssh-command@1\n  per: node\n  with: {{ argv: [id] }}\n  secrets: {{ key: \"${{options.which}}\" }}\n"
        )
    };
    let good = compiled(&job("{ type: secret, required: true, values: [keys/a, keys/b] }")).unwrap();
    let component = action(&good, 0);
    let of = |value: serde_json::Value| component.secrets_for(json!({"which": value}).as_object().unwrap());
    let key: remit_protocol::SecretName = "key".parse().unwrap();
    let paths: Vec<_> = component.secrets[&key].iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["keys/a", "keys/b"]);
    assert_eq!(of(json!("keys/b")).unwrap()[&key][0].as_str(), "keys/b");
    for other in [json!("keys/c"), json!(""), json!(null), json!(["keys/a"])] {
        assert!(of(other.clone()).unwrap_err().contains("the job lists keys/a, keys/b"), "{other}");
    }
    fn bad(job: &str, part: &str) {
        let faults = compiled(job).expect_err(part);
        let found = format!("{} {}", faults[0].message, faults[0].remedy);
        assert!(faults.len() == 1 && found.contains(part), "{faults:?}");
        assert_eq!(faults[0].place, "steps.a.secrets.key");
    }
    bad(&job("{ type: secret, values: [keys/a] }"), "required: true");
    bad(&job("{ type: string, required: true }"), "of the type `secret`");
    bad(&job("{ type: boolean }").replace("which: {", "other: {"), "type: secret");
    // A document that was changed on the way: other paths than the option's.
    let mut changed = serde_json::to_value(&good).unwrap();
    changed["steps"][0]["action"]["component"]["secrets"]["key"] = json!(["keys/a", "keys/root"]);
    let error = Document::from_slice(&serde_json::to_vec(&changed).unwrap()).unwrap_err();
    assert!(error.to_string().contains("not those of the option"), "{error}");
}

#[test]
fn the_clock_is_there_only_for_defaults() {
    let text = "job: x\noptions:\n  day: { type: date, default: \"${date('%Y-%m-%d')}\" }\nsteps:\n- name: a\n  uses: remit/transform@1\n  with: { value: \"${date('%Y')}\" }\n";
    let faults = compiled(text).unwrap_err();
    assert!(faults.len() == 1 && faults[0].message.contains("default of an option"), "{faults:?}");
}
