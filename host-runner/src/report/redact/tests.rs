use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE},
};
use proptest::prelude::*;

use super::*;

fn redactor(secrets: &[(&str, &[u8])]) -> Redactor {
    let redactor = Redactor::new();
    for (path, value) in secrets {
        let value = SecretValue::new(value.to_vec()).ok().unwrap();
        redactor.add([(&SecretPath::new(*path).unwrap(), &value)]);
    }
    redactor
}

#[test]
fn values_and_their_encodings_are_replaced() {
    let secret = "p@ss w0rd/\"it's\" ö$`\\+<&>";
    let redactor = redactor(&[("keys/x", secret.as_bytes())]);
    let check = |form: &str| {
        let found = redactor.text(&format!("before {form} after")).into_owned();
        assert_eq!(found, "before [redacted:keys/x] after", "{form}");
    };
    check(secret);
    check(&data_encoding::HEXLOWER.encode(secret.as_bytes()));
    check(&data_encoding::HEXUPPER.encode(secret.as_bytes()));
    let json = serde_json::to_string(secret).unwrap();
    check(&json[1..json.len() - 1]);
    check("p@ss w0rd\\/\\\"it's\\\" ö$`\\\\+<&>");
    check("p@ss w0rd/\\\"it's\\\" \\u00f6$`\\\\+<&>");
    check("p@ss w0rd/\\\"it's\\\" \\u00f6$`\\\\+\\u003c\\u0026\\u003e");
    check("p%40ss%20w0rd%2F%22it%27s%22%20%C3%B6%24%60%5C%2B%3C%26%3E");
    check("p%40ss%20w0rd%2f%22it%27s%22%20%c3%b6%24%60%5c%2b%3c%26%3e");
    check("p%40ss+w0rd%2F%22it%27s%22+%C3%B6%24%60%5C%2B%3C%26%3E");
    check("p%40ss%20w0rd%2F%22it's%22%20%C3%B6%24%60%5C%2B%3C%26%3E");
    check("p@ss w0rd/\"it'\\''s\" ö$`\\+<&>");
    check("p@ss w0rd/\"it'\"'\"'s\" ö$`\\+<&>");
    check("p@ss w0rd/\\\"it's\\\" ö\\$\\`\\\\+<&>");
    check("p@ss\\ w0rd/\\\"it\\'s\\\"\\ ö\\$\\`\\\\+\\<\\&\\>");
}

#[test]
fn base64_is_found_at_each_alignment() {
    let secret = b"a-secret-of-some-length\xff\xfe";
    let redactor = redactor(&[("keys/x", secret)]);
    for before in 0..7 {
        for after in 0..4 {
            let text = [&vec![b'#'; before][..], secret, &vec![b'!'; after]].concat();
            for encoded in [STANDARD.encode(&text), STANDARD_NO_PAD.encode(&text), URL_SAFE.encode(&text)] {
                let found = redactor.text(&encoded).into_owned();
                assert!(found.contains("[redacted:keys/x]"), "{before} {after} {encoded} {found}");
                // At most the characters that hold other bytes too are left.
                let rest = found.replace("[redacted:keys/x]", "");
                assert!(
                    rest.len() <= before.div_ceil(3) * 4 + after.div_ceil(3) * 4 + 4,
                    "{encoded} {found}"
                );
            }
        }
    }
}

#[test]
fn lines_of_a_longer_secret_are_replaced_but_not_its_frame() {
    let pem =
        "-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG\r\n  9w0BAQEFAASCAUAwggE8\nshort\n-----END KEY-----\n";
    let redactor = redactor(&[("keys/pem", pem.as_bytes())]);
    let check = |text: &str, expect: &str| assert_eq!(redactor.text(text), expect);
    check("x MIIBVgIBADANBgkqhkiG y", "x [redacted:keys/pem] y");
    check("9w0BAQEFAASCAUAwggE8", "[redacted:keys/pem]");
    check("-----BEGIN KEY-----", "-----BEGIN KEY-----");
    check("short", "short");
    check(pem, "[redacted:keys/pem]");
    check(pem.trim(), "[redacted:keys/pem]");
}

#[test]
fn overlapping_secrets_leave_no_rest() {
    let redactor = redactor(&[
        ("keys/a", b"abcdefgh12345678".as_slice()),
        ("keys/b", b"12345678ijklmnop"),
        ("keys/long", b"password-with-more"),
        ("keys/short", b"password"),
    ]);
    let check = |text: &str, expect: &str| assert_eq!(redactor.text(text), expect);
    check("<abcdefgh12345678ijklmnop>", "<[redacted:keys/a]>");
    check("<password-with-more>", "<[redacted:keys/long]>");
    check("<password-with-mor>", "<[redacted:keys/short]-with-mor>");
    check("<passwordpassword>", "<[redacted:keys/short][redacted:keys/short]>");
}

#[test]
fn json_is_redacted_in_strings_keys_and_numbers() {
    let redactor = redactor(&[("keys/n", b"1234567890".as_slice()), ("keys/s", b"text-secret")]);
    let mut value = serde_json::json!({
        "text-secret": [1_234_567_890, "a text-secret b", {"deep": "MTIzNDU2Nzg5MA=="}],
        "plain": [12_345, true, null, "words"],
    });
    redactor.json(&mut value);
    let expect = serde_json::json!({
        "[redacted:keys/s]": ["[redacted:keys/n]", "a [redacted:keys/s] b", {"deep": "[redacted:keys/n]=="}],
        "plain": [12_345, true, null, "words"],
    });
    assert_eq!(value, expect);
    assert_eq!(redactor.hits(), 5);
}

#[test]
fn a_value_that_is_added_later_is_found_later() {
    let redactor = redactor(&[("keys/x", b"first-value")]);
    let mut stream = redactor.stream();
    let mut output = Vec::new();
    stream.push(b"first-value second-value ", &mut output);
    let value = SecretValue::new(b"second-value".to_vec()).ok().unwrap();
    redactor.add([(&SecretPath::new("keys/x").unwrap(), &value)]);
    stream.push(b"first-value second-value", &mut output);
    stream.finish(&mut output);
    let expect = "[redacted:keys/x] second-value [redacted:keys/x] [redacted:keys/x]";
    assert_eq!(String::from_utf8(output).unwrap(), expect);
}

#[test]
fn only_a_possible_beginning_is_held_back() {
    let redactor = redactor(&[("keys/x", b"first-value")]);
    let mut stream = redactor.stream();
    let mut output = Vec::new();
    stream.push(b"a prompt> ", &mut output);
    assert_eq!((output.as_slice(), stream.held()), (b"a prompt> ".as_slice(), 0));
    stream.push(b"first-", &mut output);
    assert_eq!((output.as_slice(), stream.held()), (b"a prompt> ".as_slice(), 6));
    stream.push(b"come", &mut output);
    assert_eq!(output, b"a prompt> first-come");
}

#[test]
fn an_endless_overlap_is_not_held_back() {
    let redactor = redactor(&[("keys/x", b"abababababab")]);
    let mut stream = redactor.stream();
    let mut output = Vec::new();
    for _ in 0..10_000 {
        stream.push(b"ab", &mut output);
        assert!(stream.held() < 12);
    }
    stream.finish(&mut output);
    assert!(!output.windows(4).any(|window| window == b"abab"));
}

/// Few letters, so that needles overlap one another and the text often.
fn letters(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(b"abAB'/ \n\xc3\xb6=".to_vec()), length)
}

fn scenario() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<u8>, Vec<usize>)> {
    let secrets = proptest::collection::vec(letters(8..20), 1..5);
    let pieces =
        proptest::collection::vec((any::<proptest::sample::Index>(), 0_u8..8, letters(0..12)), 0..12);
    let cuts = proptest::collection::vec(1_usize..9, 1..40);
    (secrets, pieces, cuts).prop_map(|(secrets, pieces, cuts)| {
        let mut text = Vec::new();
        for (which, kind, filler) in pieces {
            let secret = which.get(&secrets);
            text.extend(match kind {
                0 => secret.clone(),
                1 => data_encoding::HEXLOWER.encode(secret).into_bytes(),
                2 => STANDARD.encode(secret).into_bytes(),
                3 => secret[..secret.len() / 2].to_vec(),
                4 => secret[secret.len() / 2..].to_vec(),
                _ => Vec::new(),
            });
            text.extend(filler);
        }
        (secrets, text, cuts)
    })
}

proptest! {
    #[test]
    fn chunks_never_matter_and_nothing_leaks((secrets, text, cuts) in scenario()) {
        let redactor = Redactor::new();
        let path = SecretPath::new("keys/x").unwrap();
        for secret in &secrets {
            redactor.add([(&path, &SecretValue::new(secret.clone()).ok().unwrap())]);
        }
        let whole = redactor.bytes(&text).into_owned();
        let mut stream = redactor.stream();
        let (mut output, mut rest, mut cuts) = (Vec::new(), text.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            stream.push(chunk, &mut output);
            rest = after;
        }
        stream.finish(&mut output);
        prop_assert_eq!(String::from_utf8_lossy(&output), String::from_utf8_lossy(&whole));
        for form in secrets.iter().flat_map(|secret| forms::of(secret)) {
            // A form may come to stand around a mark's letters only if it contains them, which these cannot.
            prop_assert!(!whole.windows(form.len()).any(|window| window == form.as_slice()));
        }
    }

    #[test]
    fn text_without_secrets_is_unchanged(text in "[c-z0-9 ]{0,400}", cuts in proptest::collection::vec(1_usize..9, 1..40)) {
        let redactor = redactor(&[("keys/a", b"SECRET-VALUE"), ("keys/b", b"OTHER-VALUE")]);
        prop_assert!(matches!(redactor.text(&text), Cow::Borrowed(_)));
        let mut stream = redactor.stream();
        let (mut output, mut rest, mut cuts) = (Vec::new(), text.as_bytes(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            stream.push(chunk, &mut output);
            rest = after;
        }
        stream.finish(&mut output);
        prop_assert_eq!(output, text.as_bytes());
    }
}
