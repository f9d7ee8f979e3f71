#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, step};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Values and the names that later steps call them by.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Each becomes an output of this name.
    #[schemars(extend("minProperties" = 1))]
    pub values: Map<String, Value>,
}

/// The values by name.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Output(pub Map<String, Value>);

/// Gives the values on.
#[step]
pub fn set_output(input: Input, _: &Context) -> Result<Output, Fail> {
    if input.values.is_empty() {
        return Err(Fail::new("`values` is empty: name at least one value"));
    }
    Ok(Output(input.values))
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_given_on_as_they_are() {
        fn check(input: Value, expect: Result<Value, &str>) {
            let found = Fake::new().call(set_output, &input).result;
            assert_eq!(found.map_err(|fail| fail.to_string()), expect.map_err(str::to_owned));
        }
        let values = json!({"n": 1, "text": "${x} \n\"", "list": [null, {"a": true}]});
        check(json!({"values": values}), Ok(values.clone()));
        check(json!({"values": {}}), Err("`values` is empty: name at least one value"));
        check(
            json!({"values": [1]}),
            Err(
                "the input does not fit: at `values`: invalid type: sequence, expected a map at line 1 column 10",
            ),
        );
    }
}
