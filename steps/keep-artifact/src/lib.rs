#![doc = include_str!("../README.md")]

use std::io::Write as _;

use remit_sdk::{Context, Fail, JsonSchema, files::Artifact, step};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is kept, and under which name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The file's name.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$"))]
    pub name: String,
    /// A text, or a value that becomes JSON.
    pub content: Value,
}

/// What was kept.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// How many bytes were written.
    pub bytes: u64,
}

/// Keeps it.
#[step]
pub fn keep_artifact(input: Input, _: &Context) -> Result<Output, Fail> {
    let text = match input.content {
        Value::String(text) => text,
        other => format!("{}\n", serde_json::to_string_pretty(&other)?),
    };
    let mut artifact = Artifact::text(&input.name)?;
    artifact.write_all(text.as_bytes()).map_err(|error| Fail::new(format!("{}: {error}", input.name)))?;
    artifact.keep()?;
    Ok(Output { bytes: text.len() as u64 })
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_kept_as_it_is_and_a_value_as_json() {
        fn check(content: Value, expect: &str) {
            let run = Fake::new().call(keep_artifact, &json!({"name": "a.txt", "content": content}));
            assert_eq!(run.result.unwrap(), json!({"bytes": expect.len()}));
            assert_eq!(run.artifacts["a.txt"], expect.as_bytes());
        }
        check(json!("a\r\n\u{1f600}"), "a\r\n\u{1f600}");
        check(json!({"a": [1, null]}), "{\n  \"a\": [\n    1,\n    null\n  ]\n}\n");
        check(json!(null), "null\n");
        check(json!(""), "");
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let fail =
            Fake::new().call(keep_artifact, &json!({"name": "../a", "content": ""})).result.unwrap_err();
        assert!(fail.message().contains("is not a name of an artifact"), "{fail}");
    }
}
