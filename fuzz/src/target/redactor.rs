//! Redaction: however the text is cut, no form of a secret comes out, and what holds none comes out as it went in.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use data_encoding::{HEXLOWER, HEXUPPER};
use remit_protocol::SecretPath;

use super::{Broken, Target, Verdict};
use crate::{mutate::Form, random::Random, report::redact::Redactor, secrets::SecretValue};

pub(super) const TARGET: Target = Target {
    name: "redactor",
    form: Form::Bytes,
    words: &[
        "secret-a",
        "secret-b",
        "c2VjcmV0LWE",
        "7365637265742d61",
        "\\u0073",
        "%73",
        "aaaaaaaa",
        "\0",
        "''",
        "\\",
    ],
    seeds: || {
        let mut seeds: Vec<Vec<u8>> = [
            "0123456789abcdef0123456789abcdef",
            "the quick brown fox",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into();
        seeds.extend((0..6).map(|seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| random.byte()).collect()
        }));
        super::seeds(seeds, "redactor")
    },
    check,
};

/// Secrets made from the input: long and short, like one another, beginning with one another.
fn secrets(random: &mut Random, input: &[u8]) -> Vec<Vec<u8>> {
    let letters: &[u8] = random
        .one(&[b"ab".as_slice(), b"abc'\"\\\n/%+ ", b"0123456789abcdef", "äß€😀x".as_bytes()])
        .copied()
        .unwrap_or(b"ab");
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for _ in 0..=random.below(5) {
        let length = 8 + random.below(24);
        let mut value = match secrets.first() {
            // Shares a beginning with another one.
            Some(first) if random.once_in(2) => first[..random.below(first.len())].to_vec(),
            _ if random.once_in(3) => input.iter().copied().take(length).collect(),
            _ => Vec::new(),
        };
        while value.len() < length {
            value.push(letters[random.below(letters.len())]);
        }
        secrets.push(value);
    }
    secrets
}

/// A text of the input's bytes and of secrets, whole, cut, changed and one inside another.
fn text(random: &mut Random, input: &[u8], secrets: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..1 + random.below(12) {
        let secret = random.one(secrets).cloned().unwrap_or_default();
        let cut = random.below(secret.len() + 1);
        match random.below(8) {
            0 => text.extend_from_slice(&secret[..cut]),
            1 => text.extend_from_slice(&secret[cut..]),
            2 => text.extend_from_slice(&secret),
            3 => {
                let padded =
                    [&input[..random.below(4).min(input.len())], &secret, &input[..input.len().min(2)]]
                        .concat();
                text.extend_from_slice(STANDARD_NO_PAD.encode(padded).as_bytes());
            }
            4 => text.extend_from_slice(HEXLOWER.encode(&secret).as_bytes()),
            5 => text.extend_from_slice(HEXUPPER.encode(&secret).as_bytes()),
            6 => text.extend_from_slice(
                serde_json::json!(String::from_utf8_lossy(&secret)).to_string().as_bytes(),
            ),
            _ => {
                let from = random.below(input.len());
                let to = (from + random.below(40)).min(input.len());
                text.extend_from_slice(input.get(from..to).unwrap_or_default());
            }
        }
    }
    text
}

fn check(input: &[u8]) -> Result<Verdict, Broken> {
    let seed = input.iter().take(8).fold(u64::try_from(input.len()).unwrap_or_default(), |sum, byte| {
        sum.wrapping_mul(257).wrapping_add(u64::from(*byte))
    });
    let mut random = Random::new(seed);
    let secrets = secrets(&mut random, input);
    let text = text(&mut random, input, &secrets);
    let redactor = Redactor::new();
    for (at, value) in secrets.iter().enumerate() {
        let path = SecretPath::new(format!("keys/{at}")).map_err(|error| Broken(error.to_string()))?;
        match SecretValue::new(value.clone()) {
            Ok(value) => redactor.add([(&path, &value)]),
            Err(_) => return Ok(Verdict { accepted: false, words: "no secret".to_owned() }),
        }
    }
    let whole = redactor.bytes(&text).into_owned();
    let hits = redactor.hits();
    Broken::unless(hits > 0 || whole == text, || "it changes a text without secrets".to_owned())?;
    for value in &secrets {
        for form in [value.clone(), HEXLOWER.encode(value).into_bytes(), HEXUPPER.encode(value).into_bytes()]
        {
            // What stands for a secret may make another one with what stands beside it; that is none of the text's.
            let found = between(&whole).into_iter().any(|piece| find(piece, &form).is_some());
            Broken::unless(!found, || format!("a form is left: {}", form.escape_ascii()))?;
        }
    }
    // Cut anyhow, twice: the same comes out.
    for _ in 0..2 {
        let mut stream = redactor.stream();
        let (mut rest, mut cut) = (text.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.below(rest.len().min(24)));
            stream.push(piece, &mut cut);
            rest = after;
            if random.once_in(5) {
                stream.push(&[], &mut cut);
            }
        }
        stream.finish(&mut cut);
        Broken::unless(cut == whole, || {
            format!("cut, it comes out as {} and not as {}", cut.escape_ascii(), whole.escape_ascii())
        })?;
    }
    Ok(Verdict { accepted: hits > 0, words: "x".repeat(usize::try_from(hits.min(12)).unwrap_or(12)) })
}

/// What stands between the marks of a redacted text.
fn between(text: &[u8]) -> Vec<&[u8]> {
    const MARK: &[u8] = b"[redacted:keys/";
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(at) = find(rest, MARK) {
        let (before, after) = rest.split_at(at);
        pieces.push(before);
        // One digit and the bracket.
        rest = after.get(MARK.len() + 2..).unwrap_or_default();
    }
    pieces.push(rest);
    pieces
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len().max(1)).position(|window| window == part)
}
