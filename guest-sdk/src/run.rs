//! From a function in Rust to the exports of a world: JSON in, JSON out, and the description.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Context, Fail, Nodes};

/// Parses a JSON document; the error says where in it something does not fit.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if path == "." { inner.to_string() } else { format!("at `{path}`: {inner}") }
    })?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

fn input<I: DeserializeOwned>(json: &str) -> Result<I, Fail> {
    parse(json.as_bytes()).map_err(|why| Fail::new(format!("the input does not fit: {why}")))
}

/// Calls a step's function with a JSON document and gives its output as one.
pub(crate) fn call<I: DeserializeOwned, O: Serialize>(
    step: impl FnOnce(I, &Context) -> Result<O, Fail>,
    json: &str,
) -> Result<String, Fail> {
    let output = step(input(json)?, &Context::new())?;
    serde_json::to_string(&output)
        .map_err(|error| Fail::new(format!("the output cannot be written as JSON: {error}")))
}

/// Calls a node source's function with a JSON document; what it found is emitted.
pub(crate) fn call_source<I: DeserializeOwned>(
    source: impl FnOnce(I, &mut Nodes, &Context) -> Result<(), Fail>,
    json: &str,
) -> Result<(), Fail> {
    let mut nodes = Nodes::new();
    source(input(json)?, &mut nodes, &Context::new())?;
    Ok(nodes.flush()?)
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// The description of a step: the schemas of its input and output.
pub fn describe_step<I: JsonSchema + DeserializeOwned, O: JsonSchema + Serialize>(
    _: fn(I, &Context) -> Result<O, Fail>,
) -> String {
    let input = generator().into_root_schema_for::<I>();
    let output = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<O>();
    json!({ "input": input, "output": output }).to_string()
}

/// The description of a node source: the schema of its input.
pub fn describe_node_source<I: JsonSchema + DeserializeOwned>(
    _: fn(I, &mut Nodes, &Context) -> Result<(), Fail>,
) -> String {
    json!({ "input": generator().into_root_schema_for::<I>(), "output": Value::Null }).to_string()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Item {
        count: u8,
    }

    #[test]
    fn a_misfit_names_its_place() {
        fn check(json: &str, expect: &str) {
            assert_eq!(input::<Outer>(json).unwrap_err().message(), expect);
        }
        check(
            r#"{"items":[{"count":1},{"count":256}]}"#,
            "the input does not fit: at `items[1].count`: invalid value: integer `256`, expected u8 at line 1 column 34",
        );
        check("{}", "the input does not fit: missing field `items` at line 1 column 2");
        check(r#"{"items":[]} x"#, "the input does not fit: trailing characters at line 1 column 14");
    }
}
