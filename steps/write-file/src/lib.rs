#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, step};
use remit_sdk_sftp::{Target, Written};
use serde::Deserialize;

/// A text, and where it goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The text.
    pub content: String,
    /// Where it goes on the node: an absolute path.
    pub to: String,
    /// Its permissions in octal.
    #[serde(default = "remit_sdk_sftp::usual_mode")]
    #[schemars(regex(pattern = "^0?[0-7]{3,4}$"))]
    pub mode: String,
    /// Whether folders on the way that are missing are made.
    #[serde(default)]
    pub make_folders: bool,
}

/// Writes the file.
#[step]
pub fn write_file(input: Input, context: &Context) -> Result<Written, Fail> {
    let target = Target::new(input.to, &input.mode, input.make_folders)?;
    let mut bytes = input.content.into_bytes().into_iter();
    target.write(&mut |max| Ok(bytes.by_ref().take(max as usize).collect()), context)
}

#[cfg(test)]
mod tests {
    use remit_sdk::{Node, fake::Fake};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_cannot_be_written_is_said() {
        fn check(fake: Fake, input: Value, message: &str) {
            let found = fake.call(write_file, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        let node = || Fake::new().node(Node::new("web1"));
        check(Fake::new(), json!({"content": "x", "to": "/a"}), "write `per: node` in the job");
        check(node(), json!({"content": "x", "to": "a"}), "write an absolute path");
        check(node(), json!({"content": "x", "to": "/a", "mode": "9"}), "write permissions in octal");
        check(node(), json!({"to": "/a"}), "missing field `content`");
        check(
            node().sftp(|_| vec![0, 0, 0, 1, 9]),
            json!({"content": "x", "to": "/a"}),
            "does not speak SFTP version 3",
        );
    }
}
