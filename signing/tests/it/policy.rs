//! The policy file: every mistake has a place, a reason and a remedy, and none of them is believed.

use proptest::prelude::*;
use remit_protocol::Namespace;
use remit_signing::{TrustPolicy, policy};

use crate::support::{key, policy_text};

#[test]
fn the_example_is_a_policy() {
    let policy = TrustPolicy::from_toml(
        r#"
version = 7

[[key]]
vkey = "acme.example/release-1+079cd698+AUVPg8sXWNmZbss4511uTWAPZn9rORLsNl1C31XYEIig"
holder = "alice"
kinds = ["component"]
not_after = "2027-11-20"
[[key]]
vkey = "acme.example/release-2+b53fa8e0+Acs6AxuQ9KoG/UpeBapk4QqdCNJJUWg+VB/sTtPNhYtu"
holder = "bob"
kinds = ["component"]

[[publisher]]
namespace = "acme"
keys = ["acme.example/release-1", "acme.example/release-2"]
threshold = 2

[log]
require = "off"
keys = []

[revoked]
keys = []
components = []
notes = []

[minimum]
"acme/restart-service" = "1.4.0"
"#,
    )
    .unwrap();
    assert_eq!(policy.version(), 7);
    assert_eq!(policy.publisher("acme").unwrap().threshold.get(), 2);
    assert!(!policy.log().required);
    let name = "acme/restart-service".parse().unwrap();
    assert_eq!(policy.minimum(&name).unwrap().to_string(), "1.4.0");
}

/// Checks the faults of the tests' policy with `from` replaced by `to`, as `line:column what; remedy`.
fn check(from: &str, to: &str, expect: &[&str]) {
    let text = policy_text();
    assert!(text.contains(from), "{from}");
    let faults = TrustPolicy::from_toml(&text.replacen(from, to, 1)).unwrap_err();
    let found: Vec<String> =
        faults.iter().map(|f| format!("{}:{} {}; {}", f.line, f.column, f.what, f.remedy)).collect();
    assert_eq!(found, expect);
}

#[test]
fn every_mistake_has_its_place_and_remedy() {
    check("version = 7\n", "", &["1:1 the policy has no `version`; add version = 1"]);
    check(
        "version = 7",
        "version = \"7\"",
        &["1:11 `version` of the policy is of type string; write a whole number, 0 or more"],
    );
    check(
        "holder = \"alice\"",
        "holdr = \"alice\"",
        &[
            "2:1 [[key]] has no `holder`; add holder = \"alice\"",
            "4:1 [[key]] has no member \"holdr\"; did you mean `holder`?",
        ],
    );
    check(
        "kinds = [\"component\"]",
        "kinds = [\"komponent\"]",
        &[
            "5:10 \"komponent\" is no kind of key; did you mean \"component\"?",
            "24:9 the key \"acme/alice\" is not of kind \"component\"; add \"component\" to its kinds, or list another key",
        ],
    );
    check(
        "kinds = [\"component\"]",
        "kinds = [\"component\", \"job\"]",
        &["5:9 a key that signs components signs nothing else; let publisher and author use different keys"],
    );
    check(
        "kinds = [\"component\"]",
        "kinds = [\"component\"]\nnot_after = \"soon\"",
        &["6:13 `not_after` is not a day; write a day such as \"2027-11-20\" or a time such as \
         \"2027-11-20T00:00:00Z\", in UTC"],
    );
    check(
        "threshold = 2",
        "threshold = 0",
        &["25:13 a threshold of 0 accepts what nobody signed; write a threshold of 1 or more"],
    );
    check(
        "threshold = 2",
        "threshold = 3",
        &[
            "25:13 the threshold is 3, but the keys have 2 distinct holders; lower the threshold, or list keys of \
         more holders",
        ],
    );
    check(
        "threshold = 2",
        "threshold = -1",
        &["25:13 `threshold` of [[publisher]] is of type integer; write a whole number, 0 or more"],
    );
    check(
        "keys = [\"other/erin\"]",
        "keys = []",
        &["28:8 nobody could sign: the list of keys is empty; list at least one key"],
    );
    check(
        "keys = [\"other/erin\"]",
        "keys = [\"other/erinn\"]",
        &["28:9 no [[key]] is named \"other/erinn\"; did you mean \"other/erin\"?"],
    );
    check(
        "keys = [\"other/erin\"]",
        "keys = [\"other/erin\", \"other/erin\"]",
        &["28:23 this key stands twice in the list; remove one of the two"],
    );
    check(
        "keys = [\"ops/dave\"]",
        "keys = [\"acme/bob\"]",
        &["32:9 the key \"acme/bob\" is not of kind \"job\"; add \"job\" to its kinds, or list another key"],
    );
    check(
        "namespace = \"other\"",
        "namespace = \"acme\"",
        &["27:13 the namespace \"acme\" has a publisher already; list all of its keys in one [[publisher]]"],
    );
    check(
        "projects = [\"ops\"]",
        "projects = [\"ops\", \"ops\"]",
        &["31:20 the project \"ops\" has an author already; list all of its keys in one [[author]]"],
    );
    check(
        "[[author]]",
        "[log]\nrequire = \"required\"\n[[author]]",
        &["31:11 a proof is required, but no log is named; add the log's verification key to `keys`"],
    );
    check(
        "[[author]]",
        "[revoked]\nkeys = [\"alice\"]\nnotes = [\"x\"]\n[[author]]",
        &[
            "31:9 not a key; write the whole verification key, or the 64 hexadecimal digits of its bytes",
            "32:10 not a digest: expected 'sha256:' and 64 lower-case hexadecimal digits; copy it from `remit step \
         inspect`",
        ],
    );
    check("[[author]]", "[[autor]]", &["30:3 the policy has no member \"autor\"; did you mean `author`?"]);
    check(
        "version = 7",
        "version = ",
        &["1:11 not TOML: string values must be quoted, expected literal string; correct the syntax"],
    );
}

#[test]
fn a_policy_has_at_most_a_mebibyte() {
    let padded = |length: usize| {
        let text = policy_text();
        TrustPolicy::from_toml(&format!("{text}{}", "#".repeat(length - text.len())))
    };
    assert_eq!(padded(1 << 20).unwrap().version(), 7);
    let faults = padded((1 << 20) + 1).unwrap_err();
    assert_eq!(faults[0].what, "the policy is larger than 1 MiB");
    assert!(padded((1 << 20) + 2).is_err());
}

#[test]
fn the_namespaces_are_those_with_a_publisher() {
    let policy = crate::support::policy();
    assert_eq!(policy.namespaces().map(Namespace::as_str).collect::<Vec<_>>(), ["acme", "other"]);
}

/// What a mistyped name was perhaps meant to be: near enough, never far.
#[test]
fn a_mistyped_name_is_told_its_neighbour() {
    let check = |name: &str, expect: Option<&str>| {
        let text = format!("{}[{name}]\n", policy_text());
        let remedy = TrustPolicy::from_toml(&text).unwrap_err().remove(0).remedy;
        assert_eq!(remedy.strip_prefix("did you mean `").and_then(|rest| rest.strip_suffix("`?")), expect);
    };
    // Two of a name of seven letters may differ, and one of a name of three.
    check("revokd", Some("revoked"));
    check("revo", None);
    check("rvokd", Some("revoked"));
    check("rvkd", None);
    check("minimumm", Some("minimum"));
    check("minimummmm", None);
    check("lag", Some("log"));
    check("lig", Some("log"));
    check("lags", None);
    check("xlog", Some("log"));
    check("xxlog", None);
    // What is no name any more is not compared.
    check(&"x".repeat(201), None);
}

#[test]
fn one_key_has_one_name() {
    let twice = |text: String| {
        let faults = TrustPolicy::from_toml(&text).unwrap_err();
        faults.into_iter().map(|fault| fault.what).collect::<Vec<_>>()
    };
    let alice = key("acme/alice");
    let alias = alice.public().named(remit_signing::KeyName::new("acme/alias").unwrap());
    let more = |vkey: &dyn std::fmt::Display| {
        format!("{}[[key]]\nvkey = \"{vkey}\"\nholder = \"eve\"\nkinds = [\"component\"]\n", policy_text())
    };
    assert_eq!(twice(more(&alias)), ["the same key is there already under the name \"acme/alice\""]);
    assert_eq!(twice(more(&alice.vkey())), ["a key named \"acme/alice\" is there already"]);
    let log = |vkey: &dyn std::fmt::Display| {
        format!("{}[log]\nrequire = \"off\"\nkeys = [\"{vkey}\"]\n", policy_text())
    };
    assert_eq!(twice(log(&alice.vkey())), ["this key or its name is used already"]);
    assert_eq!(twice(log(&alias)), ["this key or its name is used already"]);
    // A log's name is its own as well, and so is the key of a runner whose results count.
    let (one, two) = (key("log").vkey(), key("log/two").public().named(key("log").name().clone()));
    let logs = |second: &dyn std::fmt::Display| {
        format!("{}[log]\nrequire = \"off\"\nkeys = [\"{one}\", \"{second}\"]\n", policy_text())
    };
    assert!(TrustPolicy::from_toml(&logs(&key("log/two").vkey())).is_ok());
    assert_eq!(twice(logs(&two)), ["this key or its name is used already"]);
    let renamed = key("log").public().named(key("log/two").name().clone());
    assert_eq!(twice(logs(&renamed)), ["this key or its name is used already"]);
    let peers = |keys: &[&dyn std::fmt::Display]| {
        let lines = keys.iter().map(|key| format!("[[peer]]\nvkey = \"{key}\"\n")).collect::<String>();
        format!("{}{lines}", policy_text())
    };
    assert!(TrustPolicy::from_toml(&peers(&[&one, &key("log/two").vkey()])).is_ok());
    assert_eq!(twice(peers(&[&one, &one])), ["this key is used already"]);
    assert_eq!(twice(peers(&[&alice.vkey()])), ["this key is used already"]);
    // The identity point: one fixed signature of it fits every message.
    let weak = "weak+00000000+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert_eq!(
        twice(more(&weak)),
        ["a weak key: its point is of low order, not of prime order, or not encoded canonically"]
    );
    let remedy = |line: &str| TrustPolicy::from_toml(&more(&line)).unwrap_err().remove(0).remedy;
    assert_eq!(remedy(weak), "ask its holder for a key made by `remit key new`");
    assert_eq!(remedy("weak"), "copy the whole line that `remit key new` printed");
}

#[test]
fn the_lines_for_a_package_are_a_policy() {
    let lines = policy::publisher_lines(
        &Namespace::new("remit").unwrap(),
        &key("remit/builder").vkey(),
        &"builder".parse().unwrap(),
    );
    let policy = TrustPolicy::from_toml(&format!("version = 1\n\n{lines}")).unwrap();
    assert_eq!(policy.publisher("remit").unwrap().threshold.get(), 1);
}

proptest! {
    /// No policy that loads has a threshold that nobody, or fewer holders than it says, could reach.
    #[test]
    fn thresholds_mean_what_they_say(
        holders in proptest::collection::vec(0_u8..4, 1..6),
        listed in proptest::collection::vec(0_usize..7, 0..6),
        threshold in 0_u32..6,
    ) {
        let mut text = String::from("version = 1\n");
        for (at, holder) in holders.iter().enumerate() {
            let vkey = key(&format!("key-{at}")).vkey();
            text.push_str(&format!("[[key]]\nvkey = \"{vkey}\"\nholder = \"h{holder}\"\nkinds = [\"component\"]\n"));
        }
        let names: Vec<String> = listed.iter().map(|at| format!("\"key-{at}\"")).collect();
        text.push_str(&format!(
            "[[publisher]]\nnamespace = \"a\"\nkeys = [{}]\nthreshold = {threshold}\n", names.join(", ")
        ));
        let distinct: std::collections::BTreeSet<_> = listed.iter().collect();
        let sound = !listed.is_empty() && distinct.len() == listed.len()
            && listed.iter().all(|at| *at < holders.len());
        let held: std::collections::BTreeSet<_> = listed.iter().filter_map(|at| holders.get(*at)).collect();
        let expect = sound && threshold >= 1 && threshold as usize <= held.len();
        prop_assert_eq!(TrustPolicy::from_toml(&text).is_ok(), expect, "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]a-z=\"\n{}, 0-9.#'+é]{0,200}") {
        let _ = TrustPolicy::from_toml(&text);
    }
}
