//! The step `{{namespace}}/{{name}}`.

use remit_sdk::{Context, Fail, JsonSchema, log, step};
use serde::{Deserialize, Serialize};

/// Whom to greet.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A name.
    pub name: String,
}

#[derive(Serialize, JsonSchema)]
pub struct Output {
    pub greeting: String,
}

#[step]
pub fn greet(input: Input, _context: &Context) -> Result<Output, Fail> {
    if input.name.is_empty() {
        return Err(Fail::new("there is nobody to greet: `name` is empty"));
    }
    log::info!("greeting", name = input.name);
    Ok(Output { greeting: format!("Hello, {}!", input.name) })
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_greets() {
        let run = Fake::new().call(greet, &json!({ "name": "Ada" }));
        assert_eq!(run.result, Ok(json!({ "greeting": "Hello, Ada!" })));
        assert_eq!(run.messages(), ["greeting"]);
    }

    #[test]
    fn nobody_is_a_failure() {
        let run = Fake::new().call(greet, &json!({ "name": "" }));
        assert!(run.result.is_err());
    }
}
