//! The envelope's strict profile: a file for each way of being wrong, and nothing accepted after a change.

use remit_protocol::limits::MAX_NOTE;
use remit_signing::{
    check, note,
    note::{NoteKind, UnverifiedNote},
};

use crate::support::{Release, key, now, policy};

fn good() -> String {
    String::from_utf8(Release::new().good()).unwrap()
}

/// Checks what the whole verification says of a note that was made by hand.
fn check(what: &str, note: impl AsRef<[u8]>, expect: Option<&str>) {
    let found = Release::new().verify(note.as_ref(), &policy()).err();
    assert_eq!(found.as_deref(), expect, "{what}");
}

/// Signs a text that has been changed, so that only its form can be at fault.
fn signed(text: &str) -> Vec<u8> {
    let mut note = format!("{text}\n").into_bytes();
    for name in ["acme/alice", "acme/bob"] {
        // The lines of a well-formed note by the same key, over nothing that matters: form comes before signatures.
        let other = note::sign(&Release::new().note.to_text(), &[&key(name)]).unwrap();
        let other = String::from_utf8(other).unwrap();
        note.extend_from_slice(other.lines().last().unwrap().as_bytes());
        note.push(b'\n');
    }
    note
}

#[test]
fn the_text_has_one_form() {
    let text = Release::new().note.to_text();
    check("as it should be", signed(&text), None);
    let with = |from: &str, to: &str| {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        signed(&other)
    };
    for (what, from, to) in [
        ("form feed", "acme/hello", "acme/hello\x0c"),
        ("carriage return", "acme/hello\n", "acme/hello\r\n"),
        ("tab", "name acme", "name\tacme"),
        ("nul", "acme/hello", "acme/\0hello"),
        ("escape", "acme/hello", "acme/\x1b[31mhello"),
        ("homoglyph", "acme", "\u{430}cme"),
        ("line separator", "acme/hello\n", "acme/hello\u{2028}"),
        ("two spaces", "name acme", "name  acme"),
        ("trailing space", "acme/hello\n", "acme/hello \n"),
        ("leading space", "name acme", " name acme"),
        ("empty line in the text", "version", "\nversion"),
        ("unknown kind", "remit/component/v1", "remit/komponent/v1"),
        ("unknown version", "remit/component/v1", "remit/component/v2"),
        ("another kind", "remit/component/v1", "remit/job/v1"),
        ("unknown line", "version 1.4.2\n", "version 1.4.2\nx y\n"),
        ("missing line", "version 1.4.2\n", ""),
        ("line twice", "version 1.4.2\n", "version 1.4.2\nversion 1.4.2\n"),
        ("wrong order", "name acme/hello\nversion 1.4.2\n", "version 1.4.2\nname acme/hello\n"),
        ("line at the end", "expires 2027-11-20T00:00:00Z\n", "expires 2027-11-20T00:00:00Z\nx y\n"),
        ("upper-case digest", "sha256:", "SHA256:"),
        ("time with fraction", "2027-11-20T00:00:00Z", "2027-11-20T00:00:00.0Z"),
        ("time with offset", "2027-11-20T00:00:00Z", "2027-11-20T00:00:00+00:00"),
        ("leap second", "2027-11-20T00:00:00Z", "2027-06-30T23:59:60Z"),
        ("no such day", "2027-11-20T00:00:00Z", "2027-02-30T00:00:00Z"),
        ("longer than 400 days", "2027-11-20", "2028-11-20"),
        ("ends before it begins", "2027-11-20", "2025-11-20"),
        ("build metadata", "version 1.4.2", "version 1.4.2+x"),
        ("no namespace", "name acme/hello", "name hello"),
        ("upper-case name", "name acme/hello", "name acme/Hello"),
    ] {
        check(what, with(from, to), Some("E_SYNTAX"));
    }
    let length = format!(" {}\n", Release::new().note.component.length);
    check("leading zero", with(&length, &length.replacen(' ', " 0", 1)), Some("E_SYNTAX"));
    check("plus sign", with(&length, &length.replacen(' ', " +", 1)), Some("E_SYNTAX"));
    check("a length above any component", with(&length, " 999999999999999999\n"), Some("E_LENGTH"));
    check("a length of 20 digits", with(&length, " 99999999999999999999\n"), Some("E_SYNTAX"));
}

#[test]
fn spaces_separate_once() {
    let parse = |line: &str| {
        let note = format!("remit/enrol/v1\n{line}\n\n\u{2014} x AAAAAAA=\n");
        UnverifiedNote::parse(note.as_bytes()).is_ok()
    };
    assert!(parse("key a b"));
    assert!(!parse("key a  b"));
    assert!(!parse("key a b "));
    assert!(!parse(" key a b"));
}

#[test]
fn the_envelope_has_one_form() {
    let good = good();
    let (text, lines) = good.split_once("\n\n").unwrap();
    let with = |lines: &str| format!("{text}\n\n{lines}");
    check("as it should be", with(lines), None);
    check("nothing", "", Some("E_SYNTAX"));
    check("no signature", with(""), Some("E_SYNTAX"));
    check("no text", format!("\n\n{lines}"), Some("E_SYNTAX"));
    check("no newline at the end", with(lines.trim_end()), Some("E_SYNTAX"));
    check("a newline too many", with(&format!("{lines}\n")), Some("E_SYNTAX"));
    check("one byte behind", with(&format!("{lines}x")), Some("E_SYNTAX"));
    check("a second note behind", format!("{good}{good}"), Some("E_SYNTAX"));
    check("a second note behind an empty line", format!("{good}\n{good}"), Some("E_SYNTAX"));
    check("hyphen for dash", with(&lines.replacen('\u{2014}', "-", 1)), Some("E_SYNTAX"));
    check("no padding", with(&lines.replacen('=', "", 1)), Some("E_SYNTAX"));
    let unusual = with(&lines.replacen('=', "==", 1));
    check("too much padding", unusual, Some("E_SYNTAX"));
    check("space behind a signature", with(&lines.replacen('\n', " \n", 1)), Some("E_SYNTAX"));
    check("url alphabet", with(&format!("\u{2014} x ____\n{lines}")), Some("E_SYNTAX"));
    check("an id and no signature", with(&format!("\u{2014} x AAAAAA==\n{lines}")), Some("E_SYNTAX"));
    check("bits behind the end", with(&format!("\u{2014} x AAAAAAB=\n{lines}")), Some("E_SYNTAX"));
    check("a name with a plus", with(&format!("\u{2014} a+b AAAAAAA=\n{lines}")), Some("E_SYNTAX"));
    check("a name beyond ASCII", with(&format!("\u{2014} \u{430} AAAAAAA=\n{lines}")), Some("E_SYNTAX"));
    check("unknown lines", with(&format!("\u{2014} x AAAAAAA=\n{lines}")), None);
    let many = "\u{2014} x AAAAAAA=\n".repeat(30);
    check("32 signatures", with(&format!("{many}{lines}")), None);
    check("33 signatures", with(&format!("{many}\u{2014} x AAAAAAA=\n{lines}")), Some("E_SYNTAX"));
    let long = "A".repeat(4096);
    check("a line too long", with(&format!("\u{2014} x {long}\n{lines}")), Some("E_SYNTAX"));
    check("a note too long", format!("{}\n{good}", "x".repeat(MAX_NOTE)), Some("E_SYNTAX"));
    check("not UTF-8", [good.as_bytes(), b"\xff"].concat(), Some("E_SYNTAX"));
}

#[test]
fn signatures_are_judged_by_the_known_key() {
    let good = good();
    let (text, lines) = good.split_once("\n\n").unwrap();
    let [alice, bob] = lines.lines().collect::<Vec<_>>()[..] else { panic!("two lines") };
    let note = |lines: &[&str]| format!("{text}\n\n{}\n", lines.join("\n"));
    check("both", note(&[bob, alice]), None);
    check("one key twice", note(&[alice, alice]), Some("E_THRESHOLD"));
    // Alice's signature under bob's name and id: a known key with a bad signature spoils the whole note.
    let of = |line: &str| {
        let coded = line.rsplit(' ').next().unwrap();
        let bytes = base64_decode(coded);
        (bytes[..4].to_vec(), bytes[4..].to_vec())
    };
    let line = |name: &str, id: &[u8], signature: &[u8]| {
        format!("\u{2014} {name} {}", base64_encode(&[id, signature].concat()))
    };
    let ((alice_id, alice_signature), (bob_id, bob_signature)) = (of(alice), of(bob));
    let forged = line("acme/bob", &bob_id, &alice_signature);
    check("another's signature", note(&[alice, &forged]), Some("E_SIG"));
    check("a bad line beside the good ones", note(&[alice, bob, &forged]), Some("E_SIG"));
    check("cut off", note(&[alice, &line("acme/bob", &bob_id, &bob_signature[..63])]), Some("E_SIG"));
    check(
        "too long",
        note(&[alice, &line("acme/bob", &bob_id, &[&bob_signature[..], &[0]].concat())]),
        Some("E_SIG"),
    );
    let mut above = bob_signature.clone();
    above[63] |= 0x80;
    check("S above the order", note(&[alice, &line("acme/bob", &bob_id, &above)]), Some("E_SIG"));
    // A colliding id under another name, and a known name with another id, are strangers.
    check("another name", note(&[alice, &line("acme/rob", &bob_id, &bob_signature)]), Some("E_THRESHOLD"));
    check("another id", note(&[alice, &line("acme/bob", &alice_id, &bob_signature)]), Some("E_THRESHOLD"));
    // A key that the note brings along is nobody's.
    let own = format!("{text}\nkey {}\n\n{lines}", key("acme/bob").vkey());
    check("a key in the text", own, Some("E_SYNTAX"));
}

fn base64_decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn base64_encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn after_any_change_of_one_byte_nothing_is_believed() {
    let release = Release::new();
    let (note, policy) = (release.good(), policy());
    for at in 0..note.len() {
        for mask in [1_u8, 2, 4, 0x20, 0x80] {
            let mut other = note.clone();
            other[at] ^= mask;
            assert!(release.verify(&other, &policy).is_err(), "byte {at} mask {mask}");
        }
        let mut without = note.clone();
        without.remove(at);
        assert!(release.verify(&without, &policy).is_err(), "without byte {at}");
    }
    let parts: [fn(&mut Release) -> &mut Vec<u8>; 2] = [|r| &mut r.manifest, |r| &mut r.wasm];
    for part in parts {
        let length = part(&mut release.clone()).len();
        for at in 0..length {
            for mask in (0..8).map(|bit| 1 << bit) {
                let mut other = release.clone();
                part(&mut other)[at] ^= mask;
                assert!(other.verify(&note, &policy).is_err(), "byte {at} mask {mask}");
            }
        }
    }
}

#[test]
fn a_note_of_one_kind_is_none_of_another() {
    let (component, now) = (Release::new().good(), now());
    for kind in NoteKind::ALL {
        let parsed = UnverifiedNote::parse_as(kind, &component);
        assert_eq!(parsed.is_ok(), kind == NoteKind::Component);
        let verdict = check::note(&component, kind, &policy(), now).verdict;
        assert_eq!(verdict.is_ok(), kind == NoteKind::Component);
    }
}

#[test]
fn a_person_is_told_who_signed_and_what_is_missing() {
    let release = Release::new();
    let told = |names: &[&str]| check::note(&release.signed(names), NoteKind::Component, &policy(), now());
    let good = told(&["acme/alice", "acme/bob"]);
    let identity = good.identity.unwrap();
    assert_eq!(
        good.to_string(),
        format!(
            "note       {identity}\nabout      acme/hello@1.4.2\nsigned by  alice with acme/alice\n\
             signed by  bob with acme/bob\nbelieved\n"
        )
    );
    let lacking = told(&["acme/alice", "stranger"]).to_string();
    assert!(
        lacking.ends_with(
            "refused    E_THRESHOLD: Too few trusted holders have signed. 1 of 2 needed holders have signed; known \
             keys that signed: acme/alice. Let the missing holders sign, or add their keys to the runner's \
             trust.toml.\n"
        ),
        "{lacking}"
    );
    let nothing = check::note(&b"hello"[..], NoteKind::Component, &policy(), now());
    assert_eq!((nothing.identity, nothing.verdict.unwrap_err().code.code()), (None, "E_SYNTAX"));
}

#[test]
fn a_signature_that_is_added_again_replaces_the_first() {
    let release = Release::new();
    let once = note::add_signature(&release.signed(&["acme/alice"]), &key("acme/bob")).unwrap();
    let twice = note::add_signature(&once, &key("acme/bob")).unwrap();
    assert_eq!(UnverifiedNote::parse(&twice).unwrap().signatures().len(), 2);
    assert!(release.verify(&twice, &policy()).is_ok());
}
