//! A component that reads what the owner gave a name.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/step", "../../../wit/files"],
        inline: "
            package guest:named;
            world guest {
                include remit:step/step@0.1.0;
                import remit:files/named@0.1.1;
            }
        ",
        world: "guest:named/guest",
        generate_all,
    });
}

use bindings::{
    exports::remit::step::main::{End, Guest},
    remit::{
        files::named,
        step::types::{CapabilityError, Failure},
    },
};

struct Named;
bindings::export!(Named with_types_in bindings);

impl Guest for Named {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    /// `entries NAME`, or `read NAME PATH`.
    fn run(input: String) -> Result<String, End> {
        let words: Vec<_> = input.trim_matches('"').split(' ').collect();
        let answer = match words[..] {
            ["entries", name] => named::entries(name).map(|entries| entries.join(" ")),
            ["read", name, path] => read(name, path),
            ["read", name] => read(name, ""),
            _ => Err(CapabilityError::Failed("no such act".to_owned())),
        };
        answer.map(|text| format!("{text:?}")).map_err(|error| {
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

fn read(name: &str, path: &str) -> Result<String, CapabilityError> {
    let file = named::open(name, path)?;
    let mut bytes = Vec::new();
    loop {
        let more = file.read(1000)?;
        if more.is_empty() {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend(more);
    }
}
