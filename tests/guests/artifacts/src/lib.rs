//! A component that keeps artifacts, and tries what it may not keep.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/step", "../../../wit/files", "../../../wit/secrets"],
        inline: "
            package guest:artifacts;
            world guest {
                include remit:step/step@0.1.0;
                import remit:files/artifacts@0.1.1;
                import remit:secrets/reveal@0.1.0;
            }
        ",
        world: "guest:artifacts/guest",
        generate_all,
    });
}

use bindings::{
    exports::remit::step::main::{End, Guest},
    remit::{
        files::artifacts::{Artifact, Form},
        secrets::reveal,
        step::types::{CapabilityError, Failure},
    },
};

struct Artifacts;
bindings::export!(Artifacts with_types_in bindings);

impl Guest for Artifacts {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    fn run(input: String) -> Result<String, End> {
        let words: Vec<_> = input.trim_matches('"').split(' ').collect();
        act(&words).map(|()| "null".to_owned()).map_err(|error| {
            let message = match error {
                CapabilityError::Denied(why) => format!("denied: {why}"),
                CapabilityError::OverLimit(why) => format!("over limit: {why}"),
                CapabilityError::Cancelled => "cancelled".to_owned(),
                CapabilityError::Failed(why) => format!("failed: {why}"),
            };
            End::Failed(Failure { message, fields: Vec::new() })
        })
    }
}

fn act(words: &[&str]) -> Result<(), CapabilityError> {
    match *words {
        ["keep", name, text] => keep(name, Form::Text, text.as_bytes()),
        // In two pieces, with the border inside of the secret.
        ["secret-text"] => keep("secret.txt", Form::Text, reveal::get("token")?.as_bytes()),
        ["secret-binary"] => keep("secret.bin", Form::Binary, reveal::get("token")?.as_bytes()),
        ["unkept"] => {
            let artifact = Artifact::create("unkept.txt", Form::Text)?;
            artifact.write(b"nothing of it stays")
        }
        ["keep-and-fail"] => {
            keep("report.txt", Form::Text, b"why")?;
            Err(CapabilityError::Failed("as it was told".to_owned()))
        }
        ["fill", mebibytes] => {
            let artifact = Artifact::create("big.bin", Form::Binary)?;
            let count: usize = mebibytes.parse().unwrap_or_default();
            let piece = vec![0; 1 << 20];
            (0..count).try_for_each(|_| artifact.write(&piece))?;
            artifact.keep()
        }
        ["at-once", mebibytes] => {
            let count: usize = mebibytes.parse().unwrap_or_default();
            keep("big.bin", Form::Binary, &vec![0; count << 20])
        }
        ["twice"] => {
            keep("a", Form::Text, b"1")?;
            keep("a", Form::Text, b"2")
        }
        ["after-keep"] => {
            let artifact = Artifact::create("a", Form::Text)?;
            artifact.keep()?;
            artifact.write(b"more")
        }
        ["many", count] => {
            let count: usize = count.parse().unwrap_or_default();
            (0..count).try_for_each(|number| keep(&number.to_string(), Form::Text, b"x"))
        }
        _ => Err(CapabilityError::Failed("no such act".to_owned())),
    }
}

fn keep(name: &str, form: Form, bytes: &[u8]) -> Result<(), CapabilityError> {
    let artifact = Artifact::create(name, form)?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for piece in [b"<", first, second, b">"] {
        artifact.write(piece)?;
    }
    artifact.keep()
}
