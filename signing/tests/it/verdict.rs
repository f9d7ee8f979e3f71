//! Verdicts: how many reviewers by which chain are enough, who counts, and what one who says no comes to.

use remit_protocol::{Digest, digest::Sized};
use remit_signing::{
    TrustPolicy, note,
    policy::TrustMemory,
    verdict::{Opinion, Reviewed, Scope, VerdictNote},
    verify::{self, Published, VerifiedRelease},
};
use serde_json::json;

use crate::support::{Release, at, key, now, policy_text};

/// carol, frank and grace review everything, two of them have to; alice, who publishes, holds a reviewer's key as well.
fn lines() -> String {
    let mut text = String::new();
    for (name, holder) in [
        ("sec/carol", "carol"),
        ("sec/carol-2", "carol"),
        ("sec/frank", "frank"),
        ("sec/grace", "grace"),
        ("sec/alice", "alice"),
        ("sec/other", "heidi"),
    ] {
        let vkey = key(name).vkey();
        text.push_str(&format!("[[key]]\nvkey = \"{vkey}\"\nholder = \"{holder}\"\nkinds = [\"verdict\"]\n"));
    }
    text.push_str(
        "[[review]]\ncriteria = \"safe-to-run\"\n\
         keys = [\"sec/carol\", \"sec/carol-2\", \"sec/frank\", \"sec/grace\", \"sec/alice\"]\nthreshold = 2\n",
    );
    text
}

fn policy_and(more: &str) -> TrustPolicy {
    TrustPolicy::from_toml(&format!("{}{}{more}\n", policy_text(), lines())).unwrap()
}

/// A full verdict for the release of these tests.
fn full() -> VerdictNote {
    let release = Release::new();
    VerdictNote {
        name: release.note.name.clone(),
        version: release.note.version.clone(),
        component: release.note.component,
        manifest: release.note.manifest,
        criteria: "safe-to-run".parse().unwrap(),
        scope: Scope::Full,
        opinion: Opinion::Pass,
        report: None,
        issued: at("2026-11-20T12:00:00Z"),
        expires: at("2027-11-20T12:00:00Z"),
    }
}

fn with(change: impl FnOnce(&mut VerdictNote)) -> VerdictNote {
    let mut note = full();
    change(&mut note);
    note
}

fn signed(says: &VerdictNote, by: &[&str]) -> String {
    let keys: Vec<_> = by.iter().map(|name| key(name)).collect();
    let note = note::sign(&says.to_text(), &keys.iter().collect::<Vec<_>>()).unwrap();
    String::from_utf8(note).unwrap()
}

/// The bytes of an older release: what deltas begin from.
fn older(number: u8) -> Reviewed {
    Reviewed { component: Digest::of(&[number]), manifest: Digest::of(&[number, number]) }
}

fn about(subject: Reviewed, scope: Scope) -> VerdictNote {
    with(|note| {
        note.component = Sized { digest: subject.component, length: 1 };
        note.manifest = Sized { digest: subject.manifest, length: 2 };
        note.scope = scope;
    })
}

fn release_under(policy: &TrustPolicy, verdicts: &[String]) -> Result<VerifiedRelease, String> {
    let good = Release::new().good();
    let published = Published { note: &good, proof: None, verdicts };
    verify::release(published, policy, now())
        .map_err(|refusal| format!("{} {}", refusal.code, refusal.detail))
}

/// `Ok` with how many verdicts counted, or a part of the refusal.
fn check_under(policy: &TrustPolicy, verdicts: &[String], expect: Result<usize, &str>) {
    match (release_under(policy, verdicts), expect) {
        (Ok(release), Ok(count)) => assert_eq!(release.standing().verdicts.len(), count),
        (Err(found), Err(part)) => assert!(found.contains(part), "{found}, expected {part}"),
        (found, expect) => {
            panic!("{:?}, expected {expect:?}", found.map(|release| release.standing().clone()))
        }
    }
}

fn check(verdicts: &[String], expect: Result<usize, &str>) {
    check_under(&policy_and(""), verdicts, expect);
}

const FEW: &str = "E_VERDICT";

#[test]
fn a_verdict_is_read_as_it_was_written() {
    fn check(note: &VerdictNote) {
        let bytes = signed(note, &["sec/carol"]);
        let found = verify::verdict(bytes.as_bytes(), &policy_and(""), now()).unwrap();
        assert_eq!(found.note(), note);
        assert_eq!(found.identity(), Digest::of(note.to_text().as_bytes()));
        assert_eq!(found.signers().iter().map(|s| s.holder.as_str()).collect::<Vec<_>>(), ["carol"]);
    }
    check(&full());
    check(&with(|note| note.scope = Scope::Delta(older(1))));
    check(&with(|note| note.opinion = Opinion::Fail));
    check(&with(|note| note.report = Some(Sized::of(b"I looked at it."))));
}

#[test]
fn a_verdict_alone_is_refused_with_its_code() {
    fn check(policy: &TrustPolicy, note: &str, code: &str) {
        let found = verify::verdict(note.as_bytes(), policy, now()).unwrap_err();
        assert_eq!(found.code.code(), code, "{found}");
    }
    let policy = policy_and("");
    let good = signed(&full(), &["sec/carol"]);
    check(&policy, &signed(&full(), &["stranger"]), "E_THRESHOLD");
    check(&policy, &signed(&full(), &["acme/bob"]), "E_SCOPE");
    check(&policy, &good.replacen("opinion pass", "opinion fail", 1), "E_SIG");
    check(
        &policy,
        &signed(&with(|note| note.expires = at("2026-11-20T12:00:01Z")), &["sec/carol"]),
        "E_WINDOW",
    );
    check(
        &policy,
        &signed(&with(|note| note.issued = at("2026-11-22T00:00:00Z")), &["sec/carol"]),
        "E_WINDOW",
    );
    let revoked = policy_and(&format!("[revoked]\nkeys = [\"{}\"]", key("sec/carol").vkey()));
    check(&revoked, &good, "E_REVOKED_KEY");
    let revoked =
        policy_and(&format!("[revoked]\nnotes = [\"{}\"]", Digest::of(full().to_text().as_bytes())));
    check(&revoked, &good, "E_REVOKED_NOTE");
    for (old, new) in [
        ("scope full", "scope all"),
        ("scope full", "scope delta sha256:00"),
        ("opinion pass", "opinion maybe"),
        ("criteria safe-to-run", "criteria Safe"),
        ("remit/verdict/v1", "remit/verdict/v2"),
        ("remit/verdict/v1", "remit/component/v1"),
        ("expires 2027-11-20", "expires 2028-11-20"),
    ] {
        assert!(good.contains(old));
        check(&policy, &good.replacen(old, new, 1), "E_SYNTAX");
    }
    let own = about(older(1), Scope::Delta(older(1)));
    check(&policy, &signed(&own, &["sec/carol"]), "E_SYNTAX");
    let long = format!("{}{}", good, "\u{2014} x AAAAAAAA\n".repeat(600));
    check(&policy, &long, "E_SYNTAX");
}

/// A verdict with signatures of strangers, so that it has this length.
fn of_length(length: usize) -> Vec<u8> {
    let with = |note: &[u8], name: &str| note::add_signature(note, &key(name)).unwrap();
    let mut note = signed(&full(), &["sec/carol"]).into_bytes();
    let bare = with(&note, "p").len() - note.len() - 1;
    for number in 0.. {
        if length - note.len() <= bare + 128 {
            break;
        }
        note = with(&note, &format!("padding-{number:060}"));
    }
    let rest = length - note.len() - bare;
    let note = with(&note, &"p".repeat(rest));
    assert_eq!(note.len(), length);
    note
}

#[test]
fn a_verdict_has_at_most_four_kibibytes() {
    let check = |length: usize, within: bool| {
        let found = verify::verdict(&of_length(length), &policy_and(""), now());
        assert_eq!(found.is_ok(), within, "{length}: {found:?}");
    };
    check(4096, true);
    check(4097, false);
    check(4098, false);
}

#[test]
fn reviewers_are_counted_by_holder() {
    check(&[], Err("0 of 2 needed reviewers"));
    check(
        &[signed(&full(), &["sec/carol"])],
        Err("1 of 2 needed reviewers stand for acme/hello@1.4.2 by safe-to-run: carol."),
    );
    check(&[signed(&full(), &["sec/carol", "sec/frank"])], Ok(1));
    let one_each = [
        signed(&full(), &["sec/carol"]),
        signed(&with(|n| n.report = Some(Sized::of(b"r"))), &["sec/grace"]),
    ];
    check(&one_each, Ok(2));
    check(&[signed(&full(), &["sec/carol", "sec/carol-2"])], Err("1 of 2"));
    check(&[signed(&full(), &["sec/carol", "sec/other"])], Err("1 of 2"));
    check(&[signed(&full(), &["sec/carol", "acme/bob"])], Err("1 of 2"));
    check(
        &[signed(&full(), &["sec/carol", "sec/alice"])],
        Err("1 do not count, by a holder who signed the release"),
    );
    let altered = signed(&full(), &["sec/carol", "sec/frank"]).replacen("safe-to-run", "safe-to-eat", 1);
    check(&[altered], Err("E_SIG"));
    check(&["no note".to_owned()], Err("E_SYNTAX"));
    check(&vec![signed(&full(), &["sec/carol"]); 49], Err("E_SYNTAX"));
    check(&vec![signed(&full(), &["sec/carol"]); 48], Err("1 of 2"));
}

#[test]
fn a_verdict_counts_for_its_bytes_criteria_and_time() {
    let by = |note: VerdictNote| [signed(&note, &["sec/carol", "sec/frank"])];
    let other = Digest::of(b"other");
    check(&by(with(|note| note.component.digest = other)), Err(FEW));
    check(&by(with(|note| note.manifest.digest = other)), Err(FEW));
    check(&by(with(|note| note.criteria = "fast".parse().unwrap())), Err(FEW));
    let late = with(|note| note.expires = at("2026-11-20T12:00:01Z"));
    check(&by(late), Err("1 do not count, out of their time"));
    // Its last instant is the one before it runs out.
    check(&by(with(|note| note.expires = now())), Err("1 do not count, out of their time"));
    check(&by(with(|note| note.issued = now())), Ok(1));
    check(
        &by(with(|note| note.issued = at("2026-11-22T00:00:00Z"))),
        Err("1 do not count, out of their time"),
    );
    let revoked = |what: String| policy_and(&format!("[revoked]\n{what}"));
    let note = revoked(format!("notes = [\"{}\"]", Digest::of(full().to_text().as_bytes())));
    check_under(&note, &by(full()), Err("0 of 2"));
    let frank = revoked(format!("keys = [\"{}\"]", key("sec/frank").vkey()));
    check_under(&frank, &by(full()), Err("1 of 2"));
    let old = format!("{}\"", key("sec/frank").vkey());
    let text =
        format!("{}{}", policy_text(), lines()).replace(&old, &format!("{old}\nnot_after = \"2026-11-20\""));
    check_under(&TrustPolicy::from_toml(&text).unwrap(), &by(full()), Err("1 of 2"));
}

#[test]
fn a_chain_of_deltas_leads_to_full_verdicts() {
    let subject = full().subject();
    let two = |note: &VerdictNote| signed(note, &["sec/carol", "sec/frank"]);
    let last = about(subject, Scope::Delta(older(1)));
    let step = about(older(1), Scope::Delta(older(2)));
    let base = about(older(2), Scope::Full);
    check(&[two(&last)], Err("1 do not count, about a change from a release that is not accepted itself"));
    check(&[two(&last), two(&step)], Err(FEW));
    check(&[two(&last), two(&step), two(&base)], Ok(3));
    check(&[two(&base), two(&last), two(&step)], Ok(3));
    // Each link has to be held by enough, not by the same.
    let others = signed(&step, &["sec/grace", "sec/frank"]);
    check(&[two(&last), others, two(&base)], Ok(3));
    check(&[two(&last), signed(&step, &["sec/grace"]), two(&base)], Err(FEW));
    check(&[two(&last), two(&step), signed(&base, &["sec/carol", "sec/carol-2"])], Err(FEW));
    // The same wasm under another manifest is another base.
    let base_of_other = about(Reviewed { manifest: Digest::of(b"x"), ..older(2) }, Scope::Full);
    check(&[two(&last), two(&step), two(&base_of_other)], Err(FEW));
    // A circle rests on nothing.
    let circle = about(older(2), Scope::Delta(older(1)));
    check(&[two(&last), two(&step), two(&circle)], Err(FEW));
    // One full, one by delta: two holders.
    let mixed = [signed(&last, &["sec/carol"]), signed(&full(), &["sec/grace"]), two(&step), two(&base)];
    check(&mixed, Ok(4));
    // What is beside the chain does not count as carrying it.
    let aside = about(older(9), Scope::Full);
    check(&[two(&full()), two(&aside)], Ok(1));
}

#[test]
fn one_reviewer_who_says_no_is_enough() {
    let good = signed(&full(), &["sec/carol", "sec/frank"]);
    let fail = with(|note| note.opinion = Opinion::Fail);
    let no = |note: &VerdictNote, by: &str| [good.clone(), signed(note, &[by])];
    check(
        &no(&fail, "sec/grace"),
        Err("grace has looked at acme/hello@1.4.2 by safe-to-run and stands against it"),
    );
    // Also of the publisher's own people, under another manifest, by delta, and after its time.
    check(&no(&fail, "sec/alice"), Err("stands against it"));
    check(
        &no(&VerdictNote { manifest: Sized::of(b"x"), ..fail.clone() }, "sec/grace"),
        Err("stands against it"),
    );
    check(
        &no(&VerdictNote { scope: Scope::Delta(older(1)), ..fail.clone() }, "sec/grace"),
        Err("stands against it"),
    );
    check(
        &no(&VerdictNote { expires: at("2026-11-20T12:00:01Z"), ..fail.clone() }, "sec/grace"),
        Err("stands against it"),
    );
    // Not of somebody else, about something else, or taken back.
    check(&no(&fail, "stranger"), Ok(1));
    check(&no(&fail, "sec/other"), Ok(1));
    check(&no(&VerdictNote { component: Sized::of(b"x"), ..fail.clone() }, "sec/grace"), Ok(1));
    check(&no(&VerdictNote { criteria: "fast".parse().unwrap(), ..fail.clone() }, "sec/grace"), Ok(1));
    let taken_back = format!("[revoked]\nnotes = [\"{}\"]", Digest::of(fail.to_text().as_bytes()));
    check_under(&policy_and(&taken_back), &no(&fail, "sec/grace"), Ok(1));
    let revoked = format!("[revoked]\nkeys = [\"{}\"]", key("sec/grace").vkey());
    check_under(&policy_and(&revoked), &no(&fail, "sec/grace"), Ok(1));
    // A base that somebody stands against carries nothing.
    let two = |note: &VerdictNote| signed(note, &["sec/carol", "sec/frank"]);
    let chain = [two(&about(full().subject(), Scope::Delta(older(1)))), two(&about(older(1), Scope::Full))];
    check(&chain, Ok(2));
    let bad_base = VerdictNote { opinion: Opinion::Fail, ..about(older(1), Scope::Full) };
    check(&[chain.as_slice(), &[signed(&bad_base, &["sec/grace"])]].concat(), Err(FEW));
}

fn exemption(change: impl Fn(&str) -> String) -> String {
    let digest = Release::new().note.component.digest;
    change(&format!(
        "[[exemption]]\ncomponent = \"acme/hello@1.4.2\"\ndigest = \"{digest}\"\ncriteria = \"safe-to-run\"\n\
         reason = \"in use since before there were reviews\"\nuntil = \"2026-12-31\"\n"
    ))
}

#[test]
fn an_exemption_holds_for_one_release_and_for_a_while() {
    let under = |old: &str, new: &str| policy_and(&exemption(|text| text.replace(old, new)));
    let policy = under("", "");
    let release = release_under(&policy, &[]).unwrap();
    assert_eq!(release.standing().exemptions.len(), 1);
    assert_eq!(release.valid_until(), at("2026-12-31T23:59:59Z"));
    check_under(&under("1.4.2", "1.4.3"), &[], Err(FEW));
    check_under(&under("acme/hello", "acme/other"), &[], Err(FEW));
    let digest = Release::new().note.component.digest.to_string();
    check_under(&under(&digest, &Digest::of(b"x").to_string()), &[], Err(FEW));
    check_under(
        &under("2026-12-31", "2026-11-20"),
        &[],
        Err("its exemption ran out at 2026-11-20T23:59:59Z"),
    );
    check_under(&under("2026-12-31", "2026-11-21T00:00:00Z"), &[], Ok(0));
    // What has run out, or is in force, for another release is not told here.
    let told = |from: &str, to: &str| release_under(&under(from, to), &[]).unwrap_err();
    for (from, to) in [("1.4.2", "1.4.3"), ("acme/hello", "acme/other")] {
        assert!(!told(from, to).contains("ran out"), "{}", told(from, to));
        let late = exemption(|text| text.replace(from, to).replace("2026-12-31", "2026-11-20"));
        let told = release_under(&policy_and(&late), &[]).unwrap_err();
        assert!(!told.contains("ran out"), "{told}");
    }
    let reason = |length: usize| {
        let line = format!("reason = \"{}\"", "x".repeat(length));
        exemption(|text| text.replace("reason = \"in use since before there were reviews\"", &line))
    };
    let faults = |length| {
        let text = format!("{}{}{}", policy_text(), lines(), reason(length));
        TrustPolicy::from_toml(&text).map(|_| ()).map_err(|faults| faults[0].what.clone())
    };
    assert_eq!(faults(512), Ok(()));
    for length in [0, 513, 514] {
        assert_eq!(faults(length), Err("an exemption without a reason, or one too long".to_owned()));
    }
    // It does not outweigh who stands against it.
    let fail = with(|note| note.opinion = Opinion::Fail);
    check_under(&policy, &[signed(&fail, &["sec/grace"])], Err("stands against it"));
    // Where there are enough verdicts, it is the verdicts' time that counts without it.
    let reviewed = release_under(&policy_and(""), &[signed(&full(), &["sec/carol", "sec/frank"])]).unwrap();
    assert_eq!(reviewed.valid_until(), at("2027-11-20T00:00:00Z"));
    let sooner = with(|note| note.expires = at("2027-01-01T00:00:00Z"));
    let reviewed = release_under(&policy_and(""), &[signed(&sooner, &["sec/carol", "sec/frank"])]).unwrap();
    assert_eq!(reviewed.valid_until(), at("2027-01-01T00:00:00Z"));
}

#[test]
fn a_review_is_asked_of_its_namespaces() {
    let text = |namespaces: &str| {
        let lines = lines().replace("[[review]]\n", &format!("[[review]]\nnamespaces = [{namespaces}]\n"));
        TrustPolicy::from_toml(&format!("{}{lines}", policy_text())).unwrap()
    };
    check_under(&text("\"other\""), &[], Ok(0));
    // Where nothing is asked, nothing that came with it is read.
    check_under(&text("\"other\""), &["no note".to_owned()], Ok(0));
    check_under(&text("\"other\", \"acme\""), &[], Err(FEW));
    assert!(release_under(&policy_and("").before_review(), &[]).is_ok());
    // Every review that is about it has to be passed.
    let second =
        "[[review]]\nnamespaces = [\"acme\"]\ncriteria = \"fast\"\nkeys = [\"sec/other\"]\nthreshold = 1\n";
    let good = signed(&full(), &["sec/carol", "sec/frank"]);
    check_under(&policy_and(second), std::slice::from_ref(&good), Err("by fast"));
    let fast = signed(&with(|note| note.criteria = "fast".parse().unwrap()), &["sec/other"]);
    check_under(&policy_and(second), &[good, fast], Ok(2));
}

#[test]
fn what_was_heard_against_a_component_is_not_forgotten() {
    let policy = policy_and("");
    let fail = with(|note| note.opinion = Opinion::Fail);
    let no = signed(&fail, &["sec/grace"]);
    let component = fail.component.digest;
    let mut memory = TrustMemory::default();
    let heard = [
        signed(&full(), &["sec/carol"]),
        signed(&fail, &["stranger"]),
        signed(&fail, &["acme/bob"]),
        "no note".to_owned(),
        no.replacen("fail", "pass", 1),
    ];
    memory.hear(&heard, &policy);
    assert_eq!(memory, TrustMemory::default());
    memory.hear(std::slice::from_ref(&no), &policy);
    memory.hear(std::slice::from_ref(&no), &policy);
    let kept: TrustMemory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
    assert_eq!(kept.against(&component).collect::<Vec<_>>(), [&no]);
    assert_eq!(kept.against(&Digest::of(b"x")).count(), 0);
    let mut verdicts = vec![signed(&full(), &["sec/carol", "sec/frank"])];
    check(&verdicts, Ok(1));
    verdicts.extend(kept.against(&component).cloned());
    check(&verdicts, Err("stands against it"));
}

/// What does not find room counts while it is delivered, and is not kept.
#[test]
fn a_thousand_verdicts_against_components_are_remembered() {
    let policy = policy_and("");
    let no = signed(&with(|note| note.opinion = Opinion::Fail), &["sec/grace"]);
    let kept = |count: usize| {
        let others: Vec<_> = (0..count).map(|at| at.to_string()).collect();
        let mut memory = serde_json::to_value(TrustMemory::default()).unwrap();
        memory["against"] = json!({ Digest::of(b"x").to_string(): others });
        let mut memory: TrustMemory = serde_json::from_value(memory).unwrap();
        memory.hear(std::slice::from_ref(&no), &policy);
        memory.against(&full().component.digest).count()
    };
    assert_eq!((kept(999), kept(1000)), (1, 0));
}

#[test]
fn a_policy_says_what_is_wrong_with_its_reviews() {
    fn check(more: &str, expect: &[&str]) {
        let text = format!("{}{}{more}", policy_text(), lines());
        let faults = TrustPolicy::from_toml(&text).unwrap_err();
        let found: Vec<&str> = faults.iter().map(|fault| fault.what.as_str()).collect();
        assert_eq!(found, expect, "{more}");
    }
    let review = |old: &str, new: &str| {
        "[[review]]\ncriteria = \"fast\"\nkeys = [\"sec/carol\"]\nthreshold = 1\n".replace(old, new)
    };
    check(&review("sec/carol", "acme/bob"), &["the key \"acme/bob\" is not of kind \"verdict\""]);
    check(&review("fast", "safe-to-run"), &["a [[review]] by these criteria is there already"]);
    check(
        &review("fast", "Fast"),
        &["criteria are 1 to 64 lower-case letters, digits, dots and hyphens, such as safe-to-run"],
    );
    check(&review("threshold = 1", "threshold = 0"), &["a threshold of 0 accepts what nobody signed"]);
    check(
        &review("threshold = 1", "threshold = 2"),
        &["the threshold is 2, but the keys have 1 distinct holders"],
    );
    check(&review("criteria", "namespaces = []\ncriteria"), &["a review of no namespace asks for nothing"]);
    check(
        &exemption(|text| text.replace("safe-to-run", "fast")),
        &["no [[review]] asks acme/hello for fast"],
    );
    check(&exemption(|text| text.replace("1.4.2", "1.4")), &["not a component with its whole version"]);
    check(&exemption(|text| text.replace("until = \"2026-12-31\"\n", "")), &["[[exemption]] has no `until`"]);
    check(&exemption(|text| text.replace("2026-12-31", "never")), &["`until` is not a day"]);
    let silent = exemption(|text| text.replace("in use since before there were reviews", " "));
    check(&silent, &["an exemption without a reason, or one too long"]);
    check(
        &exemption(|text| text.replace("reason", "reasons")),
        &["[[exemption]] has no `reason`", "[[exemption]] has no member \"reasons\""],
    );
}
