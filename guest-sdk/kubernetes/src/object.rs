//! An object as people write it: enough of it is read to know where it goes.

use std::fmt;

use serde_json::Value;

/// An object with everything that its author wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    api_version: String,
    kind: String,
    name: String,
    namespace: Option<String>,
    value: Value,
}

/// Why something is no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidObject(String);

impl fmt::Display for InvalidObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidObject {}

impl Object {
    /// Reads one.
    ///
    /// # Errors
    /// Without `apiVersion`, `kind` or `metadata.name`.
    pub fn new(value: Value) -> Result<Self, InvalidObject> {
        let text = |pointer: &str| {
            let text = value.pointer(pointer).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let wanted = |pointer: &str| {
            let name = pointer.trim_start_matches('/').replace('/', ".");
            text(pointer).ok_or_else(|| InvalidObject(format!("the object has no `{name}`")))
        };
        let (api_version, kind, name) = (wanted("/apiVersion")?, wanted("/kind")?, wanted("/metadata/name")?);
        let namespace = text("/metadata/namespace");
        Ok(Self { api_version, kind, name, namespace, value })
    }

    /// `v1`, `apps/v1`, …
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// `Deployment`, …
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace that it names itself.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Everything.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_say_what_they_are() {
        fn check(value: Value, expect: Result<&str, &str>) {
            let found =
                Object::new(value).map(|object| object.to_string()).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expect);
        }
        check(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}), Ok("Pod a"));
        check(json!({"kind": "Pod", "metadata": {"name": "a"}}), Err("the object has no `apiVersion`"));
        check(json!({"apiVersion": "v1", "kind": ""}), Err("the object has no `kind`"));
        check(json!({"apiVersion": "v1", "kind": "Pod"}), Err("the object has no `metadata.name`"));
        check(json!("text"), Err("the object has no `apiVersion`"));
    }
}
