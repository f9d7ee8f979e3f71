//! A node source that emits what it is told to.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/step", world: "remit:step/node-source", generate_all });
}

use bindings::{
    exports::remit::step::source::{End, Guest},
    remit::step::{
        nodes,
        types::{CapabilityError, Failure, Node},
    },
};

struct Source;
bindings::export!(Source with_types_in bindings);

fn node(name: String) -> Node {
    Node { name, tags: vec!["web".to_owned()], attributes: vec![("rack".to_owned(), "r1".to_owned())] }
}

fn failed(error: &CapabilityError) -> End {
    let message = match error {
        CapabilityError::Denied(why) => format!("denied: {why}"),
        CapabilityError::OverLimit(why) => format!("over limit: {why}"),
        CapabilityError::Cancelled => return End::Cancelled,
        CapabilityError::Failed(why) => format!("failed: {why}"),
    };
    End::Failed(Failure { message, fields: Vec::new() })
}

impl Guest for Source {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":null}"#.to_owned()
    }

    /// `pages N SIZE` emits N pages; `bad` emits a page with a bad node after a good page.
    fn discover(input: String) -> Result<(), End> {
        let text = input.trim_matches('"').to_owned();
        let mut words = text.split(' ');
        match words.next() {
            Some("pages") => {
                let mut number =
                    || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or_default();
                let (pages, size) = (number(), number());
                for page in 0..pages {
                    let nodes: Vec<_> = (0..size).map(|n| node(format!("n{page}-{n}"))).collect();
                    nodes::emit(&nodes).map_err(|error| failed(&error))?;
                }
                Ok(())
            }
            _ => {
                nodes::emit(&[node("good".to_owned())]).map_err(|error| failed(&error))?;
                nodes::emit(&[node("other".to_owned()), node(String::new())]).map_err(|error| failed(&error))
            }
        }
    }
}
