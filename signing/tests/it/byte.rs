//! Every single byte of what is accepted, changed: nothing is believed after that, and each refusal has a code that fits.

use remit_protocol::digest::Sized;
use remit_signing::{
    Refusal,
    enrol::UnverifiedEnrolment,
    job::JobNote,
    note,
    trail::{Head, TrailNote},
    verdict::{Opinion, Scope, VerdictNote},
    verify::{self, Published},
};

use crate::support::{Release, at, key, now, policy, policy_and};

/// What a byte becomes, whatever it was: another letter, digit, sign, line, space, a control character, no ASCII, and the
/// two that are nearest to it.
const VALUES: [u8; 10] = [b'a', b'Z', b'0', b'9', b'\n', b' ', 0, 0x0c, 0x1b, 0xff];

/// Changes each byte of `good` to several values, takes it out, and doubles it; `judge` has to refuse each time with one of
/// these codes.
fn check(what: &str, good: &[u8], codes: &[&str], judge: impl Fn(&[u8]) -> Result<(), Refusal>) {
    judge(good).unwrap_or_else(|refusal| panic!("{what} as it should be: {refusal}"));
    let refused = |bytes: &[u8], how: &dyn Fn() -> String| match judge(bytes) {
        Ok(()) => panic!("{what} is accepted with {}", how()),
        Err(refusal) => {
            let code = refusal.code.code();
            assert!(codes.contains(&code), "{what} with {}: {refusal}", how());
        }
    };
    for place in 0..good.len() {
        let own = good[place];
        for value in VALUES.into_iter().chain([own ^ 1, own.wrapping_add(1)]).filter(|value| *value != own) {
            let mut other = good.to_vec();
            other[place] = value;
            refused(&other, &|| format!("byte {place} as {value:#04x}"));
        }
        let without = [&good[..place], &good[place + 1..]].concat();
        if without != good {
            refused(&without, &|| format!("no byte {place}"));
        }
        let twice = [&good[..=place], &good[place..]].concat();
        refused(&twice, &|| format!("byte {place} twice"));
    }
    refused(&[], &|| "nothing at all".to_owned());
    refused(&[good, good].concat(), &|| "a second one behind it".to_owned());
}

/// What a note that was changed may be refused for: its form, its signature, or a line that is nobody's any more.
const NOTE: [&str; 3] = ["E_SYNTAX", "E_SIG", "E_THRESHOLD"];

#[test]
fn of_a_component_note() {
    let release = Release::new();
    let codes = [&NOTE[..], &["E_LENGTH", "E_DIGEST"]].concat();
    check("a component note", &release.good(), &codes, |note| {
        verify::component(note, &release.manifest, release.wasm.clone(), &policy(), now()).map(drop)
    });
}

#[test]
fn of_a_manifest_and_a_wasm() {
    let release = Release::new();
    let good = release.good();
    check("a manifest", &release.manifest, &["E_LENGTH", "E_DIGEST"], |manifest| {
        verify::component(&good, manifest, release.wasm.clone(), &policy(), now()).map(drop)
    });
    check("a wasm", &release.wasm, &["E_LENGTH", "E_DIGEST"], |wasm| {
        verify::component(&good, &release.manifest, wasm, &policy(), now()).map(drop)
    });
}

#[test]
fn of_a_job_note_and_its_document() {
    let document = b"{\"v\":1,\"steps\":[]}\n";
    let says = JobNote {
        name: "ops/restart_web".parse().unwrap(),
        version: 7,
        definition: Sized::of(document),
        not_before: at("2026-11-20T00:00:00Z"),
        expires: at("2027-02-20T00:00:00Z"),
    };
    let good = note::sign(&says.to_text(), &[&key("ops/dave")]).unwrap();
    let codes = [&NOTE[..], &["E_LENGTH", "E_DIGEST"]].concat();
    check("a job note", &good, &codes, |note| verify::job(note, &document[..], &policy(), now()).map(drop));
    check("a job document", document, &["E_LENGTH", "E_DIGEST"], |document| {
        verify::job(&good, document, &policy(), now()).map(drop)
    });
}

#[test]
fn of_a_verdict() {
    let release = Release::new();
    let says = VerdictNote {
        name: release.note.name.clone(),
        version: release.note.version.clone(),
        component: release.note.component,
        manifest: release.note.manifest,
        criteria: "safe-to-run".parse().unwrap(),
        scope: Scope::Full,
        opinion: Opinion::Pass,
        report: Some(Sized::of(b"report")),
        issued: at("2026-11-20T00:00:00Z"),
        expires: at("2027-11-20T00:00:00Z"),
    };
    let good = note::sign(&says.to_text(), &[&key("sec/carol")]).unwrap();
    let policy = policy_and(&format!(
        "[[key]]\nvkey = \"{}\"\nholder = \"carol\"\nkinds = [\"verdict\"]\n\
         [[review]]\ncriteria = \"safe-to-run\"\nkeys = [\"sec/carol\"]\nthreshold = 1\n",
        key("sec/carol").vkey()
    ));
    check("a verdict", &good, &NOTE, |note| verify::verdict(note, &policy, now()).map(drop));
    let component = release.good();
    check("a verdict beside its component", &good, &["E_SYNTAX", "E_SIG", "E_VERDICT"], |note| {
        let verdicts = [String::from_utf8_lossy(note).into_owned()];
        let published = Published { note: &component, proof: None, verdicts: &verdicts };
        verify::release(published, &policy, now()).map(drop)
    });
}

#[test]
fn of_the_end_of_a_trail() {
    let head = Head { entries: 7, digest: remit_protocol::Digest::of(b"line") };
    let says = TrailNote { keeper: "runner/01".to_owned(), head, at: at("2026-11-20T00:00:00Z") };
    let own = key("runner");
    let good = note::sign(&says.to_text(), &[&own]).unwrap();
    // The name in the signature line is a hint: what counts is the key, and that its id belongs to name and key.
    check("the end of a trail", &good, &NOTE, |note| TrailNote::verify(note, &own.public()).map(drop));
}

#[test]
fn what_is_no_note_of_ours_is_refused_with_the_right_code() {
    fn refused(bytes: impl AsRef<[u8]>, expect: &str) {
        let found = verify::release(bytes.as_ref().to_vec().as_slice(), &policy(), now()).unwrap_err();
        assert_eq!(found.code.code(), expect, "{found}");
    }
    let good = String::from_utf8(Release::new().good()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    refused(with("remit/component/v1", "remit/component/v9"), "E_SYNTAX");
    refused(with("remit/component/v1", "remit/sudo/v1"), "E_SYNTAX");
    refused(with("version 1.4.2\n", "version 1.4.2\nversion 1.4.3\n"), "E_SYNTAX");
    let length = format!(" {}\n", Release::new().note.manifest.length);
    refused(with(&length, " 12345678901234567890123\n"), "E_SYNTAX");
    refused(with("acme/hello", "acme/hello\u{c}"), "E_SYNTAX");
    refused(with("acme/hello", "\u{430}cme/hello"), "E_SYNTAX");
    refused(format!("{good}\n{good}"), "E_SYNTAX");
    refused(format!("{good}{good}"), "E_SYNTAX");
    assert!(UnverifiedEnrolment::parse(good.as_bytes()).is_err());
    // One key twice, by its own name and by another: the stranger's name is passed over, and one holder is not two.
    let alias = key("acme/alice").public().named(remit_signing::KeyName::new("acme/alias").unwrap());
    let policy_error = remit_signing::TrustPolicy::from_toml(&format!(
        "{}[[key]]\nvkey = \"{alias}\"\nholder = \"mallory\"\nkinds = [\"component\"]\n",
        crate::support::policy_text()
    ));
    let faults = policy_error.unwrap_err();
    assert!(faults[0].what.contains("the same key is there already under the name"), "{faults:?}");
    refused(Release::new().signed(&["acme/alice", "acme/alice"]), "E_THRESHOLD");
}

/// Checks the code of a manifest that was signed as it is.
fn manifest(change: impl FnOnce(String) -> String, expect: &str) {
    let release = Release::new();
    let text = change(String::from_utf8(release.manifest.clone()).unwrap());
    let mut other = release.clone();
    other.manifest = text.clone().into_bytes();
    other.note.manifest = Sized::of(text.as_bytes());
    let found = other.verify(&other.good(), &policy());
    assert_eq!(found.map(drop), Err(expect.to_owned()), "{text}");
}

#[test]
fn a_signed_manifest_has_one_reading() {
    manifest(|text| text.replacen("\"v\":1", "\"v\":1,\"v\":1", 1), "E_SYNTAX");
    manifest(|text| text.replacen("\"v\":1", "\"v\":12345678901234567890123", 1), "E_SYNTAX");
    manifest(|text| text.replacen("\"v\":1", "\"v\":1.0", 1), "E_SYNTAX");
    manifest(|text| text.replacen("\"v\":1", "\"v\":1e0", 1), "E_SYNTAX");
    manifest(|text| text.replacen("\"v\":1", "\"v\":2", 1), "E_SYNTAX");
    manifest(|text| text.replacen("\"v\":1", "\"v\":1,\"sudo\":true", 1), "E_SYNTAX");
    manifest(|text| format!("\u{feff}{text}"), "E_SYNTAX");
    manifest(|text| format!("{text}{text}"), "E_SYNTAX");
    manifest(|text| text.replacen("Says hello.", "Says \\ud800.", 1), "E_SYNTAX");
    manifest(|text| text.replacen("acme/hello", "\u{430}cme/hello", 1), "E_SYNTAX");
    manifest(|text| text.replacen("acme/hello", "acme/hallo", 1), "E_MANIFEST");
}
