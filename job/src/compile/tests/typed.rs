//! Secrets that are typed when a job is run.

use super::*;
use crate::options;

/// A job with an option of this definition, which a step uses as this secret, and these lines at its end.
fn job(option: &str, secret: &str, more: &str) -> String {
    format!(
        "job: x\noptions:\n  password: {option}\nnodes: {{ filter: .* }}\nsteps:\n- name: a\n  uses: remit/ssh-command@1\n  \
         per: node\n  with: {{ argv: [id] }}\n  secrets: {{ key: {secret} }}\n{more}"
    )
}

const TYPED: &str = "{ type: secret, typed: keys/typed/db, required: true }";
const CHOSEN: &str = "\"${options.password}\"";

#[test]
fn a_typed_secret_is_one_path_that_a_step_lists() {
    for secret in [CHOSEN, "keys/typed/db"] {
        let document = compiled(&job(TYPED, secret, "")).unwrap();
        let path = "keys/typed/db".parse().unwrap();
        assert!(document.uses_secret(0..1, &path) && !document.uses_secret(1..1, &path));
        assert!(!document.uses_secret(0..1, &"keys/typed/other".parse().unwrap()));
        let kind = serde_json::to_value(&document.options[0].kind).unwrap();
        assert_eq!(kind, json!({"typed": {"path": "keys/typed/db"}}));
        assert_eq!(Document::from_slice(&document.to_vec()).unwrap(), document);
    }
    let document = compiled(&job(TYPED, CHOSEN, "")).unwrap();
    let given = json!({"password": "keys/typed/db"});
    let secrets = action(&document, 0).secrets_for(given.as_object().unwrap()).unwrap();
    assert_eq!(secrets.values().next().unwrap()[0].as_str(), "keys/typed/db");
    let typed = options::typed(&document.options, given.as_object().unwrap());
    assert_eq!(typed.len(), 1);
    assert!(options::typed(&document.options, json!({}).as_object().unwrap()).is_empty());
}

#[test]
fn what_cannot_be_typed_is_said_when_the_job_is_saved() {
    fn bad(job: &str, place: &str, part: &str) {
        let faults = compiled(job).expect_err(part);
        let fault = faults.iter().find(|fault| fault.place == place).unwrap_or_else(|| panic!("{faults:?}"));
        let found = format!("{} {}", fault.message, fault.remedy);
        assert!(found.contains(part), "{found}");
    }
    let with = |more: &str| TYPED.replace(" }", more);
    bad(&job(&with(", default: hunter22 }"), CHOSEN, ""), "options.password.default", "no default");
    bad(&job(&with(", values: [keys/a/b] }"), CHOSEN, ""), "options.password.typed", "`values`, too");
    bad(&job(&with(", pattern: x }"), CHOSEN, ""), "options.password.pattern", "no key `pattern`");
    bad(&job("{ type: secret, typed: db, required: true }", CHOSEN, ""), "options.password.typed", "keys/");
    bad(
        &job("{ type: string, typed: keys/a/b }", "keys/a/b", ""),
        "options.password.typed",
        "no key `typed`",
    );
    bad(&job("{ type: secret, typed: keys/typed/db }", CHOSEN, ""), "steps.a.secrets.key", "required: true");
    bad(&job(TYPED, "keys/other/path", ""), "options.password.typed", "no step uses");
    bad(&job(TYPED, CHOSEN, "retry: { attempts: 2 }\n"), "retry", "nobody types password for that one");
    bad(
        &job(TYPED, CHOSEN, "schedules:\n- { name: nightly, cron: \"0 3 * * *\" }\n"),
        "schedules[0].options.password",
        "nobody is there to type it",
    );
    let optional = "{ type: secret, typed: keys/typed/db }";
    let nightly = |options: &str| {
        format!("schedules:\n- {{ name: nightly, cron: \"0 3 * * *\", options: {{ {options} }} }}\n")
    };
    bad(
        &job(optional, "keys/typed/db", &nightly("password: keys/typed/db")),
        "schedules[0].options.password",
        "nobody is there to type it",
    );
    assert!(compiled(&job(optional, "keys/typed/db", &nightly(""))).is_ok());
    let second = |path: &str| {
        job(TYPED, CHOSEN, "")
            .replace("nodes:", &format!("  other: {{ type: secret, typed: {path} }}\nnodes:"))
    };
    bad(&second("keys/typed/db"), "options.other.typed", "is typed twice");
    let many: String =
        (0..17).map(|at| format!("  p{at}: {{ type: secret, typed: keys/typed/p{at} }}\n")).collect();
    bad(&job(TYPED, CHOSEN, "").replace("nodes:", &format!("{many}nodes:")), "options", "at most 16");
}

#[test]
fn a_secret_in_the_clear_is_refused_and_not_repeated() {
    let document = compiled(&job(TYPED, CHOSEN, "")).unwrap();
    let scope = crate::expression::Scope::default();
    let outputs = Default::default();
    let outside = options::Outside { scope: &scope, nodes: &[], outputs: &outputs };
    let check = |given: Value| options::check(&document.options, given.as_object().unwrap(), &outside);
    assert!(check(json!({"password": "keys/typed/db"})).is_ok());
    for clear in ["correct horse", "keys/typed/dB", ""] {
        let faults = check(json!({"password": clear})).unwrap_err();
        let found = format!("{} {}", faults[0].message, faults[0].remedy);
        assert!(found.contains("--secret"), "{found}");
        assert!(clear.is_empty() || !found.contains(clear), "{found}");
    }
    let faults = check(json!({})).unwrap_err();
    assert!(faults[0].remedy.contains("--secret password"), "{faults:?}");
}
