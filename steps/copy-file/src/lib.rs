#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, files, step};
use remit_sdk_sftp::{Target, Written};
use serde::Deserialize;

/// What to copy, and where it goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The name of a path in the runner's ceiling.
    pub file: String,
    /// The file below that name, if it is a directory.
    #[serde(default)]
    pub path: String,
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

/// Copies the file.
#[step]
pub fn copy_file(input: Input, context: &Context) -> Result<Written, Fail> {
    let target = Target::new(input.to, &input.mode, input.make_folders)?;
    context.target()?;
    let opened = files::open(&input.file, &input.path);
    let mut file = opened.map_err(|refusal| Fail::from(refusal).while_doing(&input.file))?;
    target.write(&mut |max| Ok(file.next(max)?), context)
}

#[cfg(test)]
mod tests {
    use remit_sdk::{Node, Refusal, fake::Fake};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_cannot_be_copied_is_said() {
        fn check(fake: Fake, input: Value, message: &str) {
            let found = fake.call(copy_file, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        let node = || Fake::new().node(Node::new("web1")).file("artifacts", "app.tar", "bytes");
        check(Fake::new(), json!({"file": "artifacts", "to": "/a"}), "write `per: node` in the job");
        check(
            node(),
            json!({"file": "other", "to": "/a"}),
            &format!("other: {}", Refusal::Denied("files other".into())),
        );
        check(
            node(),
            json!({"file": "artifacts", "path": "b", "to": "/a"}),
            "artifacts: \"b\": no such file",
        );
        check(node(), json!({"file": "artifacts", "to": "a"}), "write an absolute path");
        let silent = node().sftp(|_| vec![0, 0, 0, 1, 9]);
        check(
            silent,
            json!({"file": "artifacts", "path": "app.tar", "to": "/a"}),
            "does not speak SFTP version 3",
        );
    }
}
