//! The forms in which a value is looked for: itself, and what usual encoders make of it.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

use super::search::WINDOW;

type Bytes = Zeroizing<Vec<u8>>;

/// Every form of `value` that is at least a window long, each once.
///
/// Base64 packs three bytes into four characters, so a value looks different at each of three offsets; what is looked for
/// is the part that depends on the value alone. A first or last character that mixes it with its neighbours stays.
pub(super) fn of(value: &[u8]) -> Vec<Bytes> {
    let mut forms: Vec<Bytes> = Vec::new();
    let mut add = |form: Bytes| {
        if form.len() >= WINDOW {
            forms.push(form);
        }
    };
    for text in [value, value.trim_ascii()] {
        add(copy(text));
        for escape in ESCAPES {
            add(escape(text));
        }
        for upper in [false, true] {
            add(hex(text, upper));
            for keep in KEPT {
                add(percent(text, keep, upper, false));
                add(percent(text, keep, upper, true));
            }
        }
        for url in [false, true] {
            for offset in 0..3 {
                add(base64(text, offset, url, false));
                add(base64(text, offset, url, true));
            }
        }
    }
    for line in lines(value) {
        add(copy(line));
        for escape in ESCAPES {
            add(escape(line));
        }
    }
    forms.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
    forms.dedup_by(|a, b| a.as_slice() == b.as_slice());
    forms
}

/// The lines of a value of several lines, without indentation. The frames of PEM are no secret and stand in many texts.
fn lines(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let several = value.contains(&b'\n');
    value
        .split(|byte| *byte == b'\n')
        .filter(move |_| several)
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.starts_with(b"-----") && line.len() >= WINDOW)
}

fn copy(value: &[u8]) -> Bytes {
    Zeroizing::new(value.to_vec())
}

/// Room for the largest escape (`\u00xx`) of every byte: a buffer that grows leaves copies behind.
fn room(value: &[u8]) -> Bytes {
    Zeroizing::new(Vec::with_capacity(value.len() * 6 + 8))
}

fn hex(value: &[u8], upper: bool) -> Bytes {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut out = room(value);
    for byte in value {
        out.extend([digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
    }
    out
}

/// What encoders leave as it is besides letters and digits: RFC 3986's unreserved, JavaScript's `encodeURIComponent`, forms,
/// path segments, `encodeURI`, and nothing at all.
const KEPT: [&[u8]; 6] =
    [b"-._~", b"-._~!'()*", b"-._*", b"-._~!$&'()*+,;=:@", b"-._~!$&'()*+,;=:@/?#", b"-._~/"];

fn percent(value: &[u8], keep: &[u8], upper: bool, plus: bool) -> Bytes {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut out = room(value);
    for byte in value {
        match byte {
            b' ' if plus => out.push(b'+'),
            byte if byte.is_ascii_alphanumeric() || keep.contains(byte) => out.push(*byte),
            byte => out.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]),
        }
    }
    out
}

/// The characters that base64 has for `value` when `offset` bytes stand before it; `ends` if nothing stands behind it.
fn base64(value: &[u8], offset: usize, url: bool, ends: bool) -> Bytes {
    let mut padded = Zeroizing::new(Vec::with_capacity(value.len() + offset));
    padded.resize(offset, 0);
    padded.extend_from_slice(value);
    let engine = if url { &URL_SAFE_NO_PAD } else { &STANDARD_NO_PAD };
    let text = Zeroizing::new(engine.encode(padded.as_slice()));
    let first = (offset * 8).div_ceil(6);
    let end = if ends { text.len() } else { padded.len() * 8 / 6 };
    copy(text.as_bytes().get(first..end).unwrap_or_default())
}

/// Backslashes and quotes, as JSON's encoders and shells write them.
const ESCAPES: [fn(&[u8]) -> Bytes; 9] = [
    |value| json(value, false, b""),
    |value| json(value, false, b"/"),
    |value| json(value, true, b""),
    |value| json(value, true, b"<>&"),
    |value| json(value, false, b"<>&"),
    |value| single(value, br"'\''"),
    |value| single(value, br#"'"'"'"#),
    |value| backslash(value, b"\"\\$`"),
    |value| backslash(value, b" \t\"'\\$`!#&()*,;<>?[]^{|}~="),
];

/// JSON's escapes. `ascii`: everything else as `\uXXXX`. `more`: these too, `/` as `\/`, others as `\u00XX`.
fn json(value: &[u8], ascii: bool, more: &[u8]) -> Bytes {
    let mut out = room(value);
    let unicode = |out: &mut Vec<u8>, unit: u16| {
        out.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            out.push(b"0123456789abcdef"[usize::from(unit >> shift & 15)]);
        }
    };
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut units = [0; 2];
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\u{8}' => out.extend_from_slice(b"\\b"),
                '\u{c}' => out.extend_from_slice(b"\\f"),
                '/' if more.contains(&b'/') => out.extend_from_slice(b"\\/"),
                other
                    if other.is_ascii_control()
                        || ascii && !other.is_ascii()
                        || u8::try_from(other).is_ok_and(|byte| more.contains(&byte)) =>
                {
                    other.encode_utf16(&mut units).iter().for_each(|unit| unicode(&mut out, *unit));
                }
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// The inside of a single-quoted word, in which a quote is written as `quote`.
fn single(value: &[u8], quote: &[u8]) -> Bytes {
    let mut out = room(value);
    for byte in value {
        match byte {
            b'\'' => out.extend_from_slice(quote),
            byte => out.push(*byte),
        }
    }
    out
}

fn backslash(value: &[u8], special: &[u8]) -> Bytes {
    let mut out = room(value);
    for byte in value {
        if special.contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}
