//! A file as the value of an option: only its name, digest and length travel with the other values.

use remit_protocol::{
    Digest, OptionName, Size, digest,
    limits::{MAX_OPTION_FILE, USUAL_OPTION_FILE},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{OptionDefinition, OptionType, accept::Refused};

/// Longest name of a file, in bytes.
const MAX_NAME: usize = 255;

/// A file that was given: what expressions see as `options.NAME.name`, `.digest` and `.length`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenFile {
    /// What it was called where it came from, for people.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub length: u64,
}

impl GivenFile {
    /// Which bytes.
    pub fn bytes(&self) -> digest::Sized {
        digest::Sized { digest: self.digest, length: self.length }
    }
}

/// The value as `File` has it.
pub(super) fn accept(given: &Value, max_size: Option<Size>) -> Result<Value, Refused> {
    let refused = |message: String, remedy: &str| Err((message, remedy.to_owned()));
    let Ok(file) = serde_json::from_value::<GivenFile>(given.clone()) else {
        return refused(
            "is not a file that was uploaded".to_owned(),
            "give it with `--option-file NAME=PATH`",
        );
    };
    let named = !file.name.is_empty()
        && file.name.len() <= MAX_NAME
        && !file.name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'));
    if !named {
        return refused(
            format!("has the name {:?}, which no file has", super::accept::shown(&file.name)),
            "rename it",
        );
    }
    let most = max_size.unwrap_or(USUAL_OPTION_FILE).min(MAX_OPTION_FILE);
    if file.length > most.bytes() {
        let message = format!("has {} bytes, at most {most} are taken", file.length);
        return refused(message, "give a smaller file, or let the job's editor raise `max_size`");
    }
    Ok(given.clone())
}

/// The files among checked values.
pub fn files(definitions: &[OptionDefinition], values: &Map<String, Value>) -> Vec<(OptionName, GivenFile)> {
    let file = |definition: &OptionDefinition| {
        let OptionType::File { .. } = definition.kind else { return None };
        let value = values.get(definition.name.as_str())?;
        Some((definition.name.clone(), serde_json::from_value(value.clone()).ok()?))
    };
    definitions.iter().filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_is_its_name_digest_and_length() {
        fn check(name: &str, length: u64, max_size: Option<&str>, expect: &str) {
            let given = json!({"name": name, "digest": Digest::of(b"x").to_string(), "length": length});
            let found = accept(&given, max_size.map(|size| size.parse().unwrap()));
            match found {
                Ok(value) => assert_eq!((value, expect), (given, "")),
                Err((message, _)) => assert!(!expect.is_empty() && message.contains(expect), "{message}"),
            }
        }
        check("site.tar", 7, None, "");
        check("ein Bild \u{e4}.png", 16 << 20, None, "");
        check("site.tar", (16 << 20) + 1, None, "at most 16MiB");
        check("site.tar", 17 << 20, Some("32MiB"), "");
        check("site.tar", 65 << 20, Some("1GiB"), "at most 64MiB");
        for bad in ["", "a/b", "..\\a", "a\nb", &"x".repeat(256)] {
            check(bad, 1, None, "which no file has");
        }
        for bad in
            [json!("site.tar"), json!({}), json!({"name": "a", "digest": "x", "length": 1}), json!(null)]
        {
            assert!(accept(&bad, None).unwrap_err().1.contains("--option-file"), "{bad}");
        }
    }
}
