//! Components: each refusal has its code, and what is accepted is exactly what was signed.

use remit_protocol::{
    digest::Sized,
    limits::{MAX_COMPONENT, MAX_MANIFEST},
};
use remit_signing::{TrustPolicy, note, verify};
use serde_json::json;

use crate::support::{
    HEADER, LOG, MAIN, Release, SOURCE, at, key, manifest, now, policy, policy_and, policy_text, wasm,
    wasm_importing_function, wasm_with_attribute,
};

#[test]
fn a_component_with_enough_signers_is_believed() {
    let release = Release::new();
    let component =
        verify::component(&release.good(), &release.manifest, release.wasm.clone(), &policy(), now())
            .unwrap();
    assert_eq!(component.bytes()[..], release.wasm[..]);
    assert_eq!(component.digest(), Sized::of(&release.wasm).digest);
    assert_eq!(component.manifest().name.as_str(), "acme/hello");
    let holders: Vec<_> = component.release().signers().iter().map(|s| s.holder.as_str()).collect();
    assert_eq!(holders, ["alice", "bob"]);
    assert_eq!(component.interfaces().import_names(), [LOG]);
    // The same text with other signature lines is the same note.
    let more = note::add_signature(&release.good(), &key("stranger")).unwrap();
    let again = verify::release(&more, &policy(), now()).unwrap();
    assert_eq!(again.identity(), component.release().identity());
}

/// Checks the code for who signed, under the policy of the tests and more lines.
fn check_signers(names: &[&str], lines: &str, expect: Result<(), &str>) {
    let release = Release::new();
    let found = release.verify(&release.signed(names), &policy_and(lines)).map(|_| ());
    assert_eq!(found, expect.map_err(str::to_owned), "{names:?} {lines}");
}

#[test]
fn thresholds_count_holders() {
    let digest = Sized::of(&Release::new().wasm).digest;
    let alice = key("acme/alice").vkey();
    check_signers(&["acme/alice", "acme/bob"], "", Ok(()));
    check_signers(&["stranger", "acme/alice", "other/erin", "acme/bob-2"], "", Ok(()));
    check_signers(&["acme/alice"], "", Err("E_THRESHOLD"));
    check_signers(&["stranger"], "", Err("E_THRESHOLD"));
    check_signers(&["acme/bob", "acme/bob-2"], "", Err("E_THRESHOLD"));
    check_signers(&["acme/alice", "acme/alice"], "", Err("E_THRESHOLD"));
    check_signers(&["acme/alice", "other/erin"], "", Err("E_SCOPE"));
    check_signers(&["acme/alice", "ops/dave"], "", Err("E_SCOPE"));
    let revoked = format!("[revoked]\nkeys = [\"{alice}\"]");
    check_signers(&["acme/alice", "acme/bob"], &revoked, Err("E_REVOKED_KEY"));
    check_signers(&["acme/bob"], &revoked, Err("E_THRESHOLD"));
    let revoked = format!("[revoked]\nkeys = [\"{}\"]", key("acme/bob").vkey());
    check_signers(&["acme/alice", "acme/bob", "acme/bob-2"], &revoked, Ok(()));
    let revoked = format!("[revoked]\ncomponents = [\"{digest}\"]");
    check_signers(&["acme/alice", "acme/bob"], &revoked, Err("E_REVOKED_COMPONENT"));
    check_signers(&["acme/alice", "acme/bob"], "[minimum]\n\"acme/hello\" = \"1.4.2\"", Ok(()));
    check_signers(&["acme/alice", "acme/bob"], "[minimum]\n\"acme/hello\" = \"1.4.3\"", Err("E_MINIMUM"));
    let log = format!("[log]\nrequire = \"required\"\nkeys = [\"{}\"]", key("log").vkey());
    check_signers(&["acme/alice", "acme/bob"], &log, Err("E_LOG_PROOF"));
}

#[test]
fn a_revoked_note_stays_revoked_under_any_signature_lines() {
    let release = Release::new();
    let identity = verify::release(&release.good(), &policy(), now()).unwrap().identity();
    let policy = policy_and(&format!("[revoked]\nnotes = [\"{identity}\"]"));
    let more = note::add_signature(&release.good(), &key("stranger")).unwrap();
    for note in [release.good(), release.signed(&["acme/bob", "acme/alice"]), more] {
        assert_eq!(release.verify(&note, &policy), Err("E_REVOKED_NOTE".to_owned()));
    }
}

#[test]
fn validity_ends_where_it_says() {
    fn check(time: &str, policy: &TrustPolicy, expect: Option<&str>) {
        let found = verify::release(&Release::new().good(), policy, at(time));
        assert_eq!(found.err().map(|r| r.code.code()), expect, "{time}");
    }
    let own = policy();
    check("2026-11-19T23:59:59Z", &own, Some("E_WINDOW"));
    check("2026-11-20T00:00:00Z", &own, None);
    check("2027-11-19T23:59:59Z", &own, None);
    check("2027-11-20T00:00:00Z", &own, Some("E_WINDOW"));
    let alice = format!("{}\"", key("acme/alice").vkey());
    let until = |line: &str| {
        TrustPolicy::from_toml(&policy_text().replace(&alice, &format!("{alice}\n{line}"))).unwrap()
    };
    let policy = until("not_after = \"2026-12-01\"");
    check("2026-12-01T23:59:59Z", &policy, None);
    check("2026-12-02T00:00:00Z", &policy, Some("E_WINDOW"));
    let policy = until("not_before = \"2026-12-01\"");
    check("2026-11-30T23:59:59Z", &policy, Some("E_WINDOW"));
    check("2026-12-01T00:00:00Z", &policy, None);
}

#[test]
fn the_bytes_are_the_ones_that_were_signed() {
    let release = Release::new();
    let note = release.good();
    let change = |change: &dyn Fn(&mut Release)| {
        let mut other = release.clone();
        change(&mut other);
        other.verify(&note, &policy()).unwrap_err()
    };
    assert_eq!(change(&|r| r.wasm.push(0)), "E_LENGTH");
    assert_eq!(change(&|r| r.wasm[9] ^= 1), "E_DIGEST");
    assert_eq!(change(&|r| r.manifest.push(b'\n')), "E_LENGTH");
    assert_eq!(change(&|r| r.manifest[0] = b' '), "E_DIGEST");
    assert_eq!(change(&|r| r.manifest.clear()), "E_LENGTH");
}

/// Checks what becomes of a manifest and a wasm that were both signed.
fn check_payload(manifest: serde_json::Value, wasm: Vec<u8>, expect: Result<(), &str>) {
    let release = Release::of(manifest.clone(), wasm);
    let found = release.verify(&release.good(), &policy()).map(|_| ());
    assert_eq!(found, expect.map_err(str::to_owned), "{manifest}");
}

fn with(change: &[(&str, serde_json::Value)], imports: &[&str]) -> serde_json::Value {
    let mut value = manifest(imports);
    for (name, to) in change {
        value[*name] = to.clone();
    }
    value
}

#[test]
fn the_payload_is_what_the_manifest_says() {
    let http = "wasi:http/outgoing-handler@0.2.6";
    let good = || wasm(&[LOG], &[MAIN]);
    check_payload(manifest(&[LOG]), good(), Ok(()));
    check_payload(with(&[("version", json!("1.4.3"))], &[LOG]), good(), Err("E_MANIFEST"));
    check_payload(with(&[("name", json!("acme/other"))], &[LOG]), good(), Err("E_MANIFEST"));
    check_payload(with(&[("extra", json!(1))], &[LOG]), good(), Err("E_SYNTAX"));
    check_payload(with(&[("v", json!(2))], &[LOG]), good(), Err("E_SYNTAX"));
    check_payload(manifest(&[]), good(), Err("E_IMPORTS"));
    check_payload(manifest(&[LOG, http]), good(), Err("E_IMPORTS"));
    check_payload(manifest(&["remit:step/log@0.2.0"]), good(), Err("E_IMPORTS"));
    check_payload(manifest(&[LOG, http]), wasm(&[LOG, http], &[MAIN]), Err("E_IMPORTS"));
    let get = json!({"http": [{"host": "a.example", "methods": ["GET"], "paths": ["/"]}]});
    check_payload(with(&[("requests", get)], &[LOG, http]), wasm(&[LOG, http], &[MAIN]), Ok(()));
    let sockets = "wasi:sockets/tcp@0.2.6";
    check_payload(manifest(&[sockets]), wasm(&[sockets], &[MAIN]), Err("E_IMPORTS"));
    check_payload(manifest(&["evil"]), wasm_importing_function("evil"), Err("E_IMPORTS"));
    check_payload(manifest(&[LOG]), wasm_importing_function(LOG), Err("E_IMPORTS"));
    for other in
        ["remit:step/other@0.1.0", "remit:step/main@0.2.0", "remit:step/main", "evil:step/main@0.1.0"]
    {
        check_payload(manifest(&[LOG]), wasm(&[LOG], &[other]), Err("E_WORLD"));
    }
    check_payload(with(&[("kind", json!("node-source"))], &[LOG]), good(), Err("E_WORLD"));
    check_payload(with(&[("kind", json!("node-source"))], &[LOG]), wasm(&[LOG], &[SOURCE]), Ok(()));
}

#[test]
fn only_components_are_components() {
    let good = wasm(&[LOG], &[MAIN]);
    for bytes in [
        b"".to_vec(),
        b"\0asm\x01\0\0\0".to_vec(),
        b"(component)".to_vec(),
        b"\x7fELF\x02\x01\x01\0\0\0".to_vec(),
        good[..good.len() - 1].to_vec(),
        good[..HEADER.len() - 1].to_vec(),
        [&good[..], b"\x63"].concat(),
    ] {
        check_payload(manifest(&[LOG]), bytes, Err("E_KIND"));
    }
    let attribute = wasm_with_attribute(LOG, "wasi:sockets/tcp@0.2.6");
    let said = remit_signing::wasm::interfaces(&attribute).unwrap_err();
    assert_eq!(said, remit_signing::wasm::InvalidWasm::Attribute(LOG.to_owned()));
    check_payload(manifest(&[LOG]), attribute, Err("E_KIND"));
    // A component that holds a component that holds … twenty deep.
    let mut nested = HEADER.to_vec();
    for _ in 0..20 {
        let mut outer = HEADER.to_vec();
        outer.push(4);
        let length = u32::try_from(nested.len()).unwrap();
        outer.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        outer.extend(&nested);
        nested = outer;
    }
    check_payload(manifest(&[LOG]), nested, Err("E_KIND"));
}

/// Lengths that nothing of which there are bytes could have, at the bounds: what is longer is refused for its length alone.
#[test]
fn a_note_names_no_more_than_can_be_loaded() {
    let check = |change: &dyn Fn(&mut Release), within: bool| {
        let mut release = Release::new();
        change(&mut release);
        let found = verify::release(&release.good(), &policy(), now());
        assert_eq!(
            found.map(|_| ()).map_err(|refusal| refusal.code.code()),
            if within { Ok(()) } else { Err("E_LENGTH") }
        );
    };
    check(&|release| release.note.component.length = MAX_COMPONENT, true);
    check(&|release| release.note.component.length = MAX_COMPONENT + 1, false);
    check(&|release| release.note.component.length = MAX_COMPONENT + 2, false);
    check(&|release| release.note.manifest.length = MAX_MANIFEST as u64, true);
    check(&|release| release.note.manifest.length = MAX_MANIFEST as u64 + 1, false);
    check(&|release| release.note.manifest.length = MAX_MANIFEST as u64 + 2, false);
}
