//! Values on their way to the server and back: texts, as PostgreSQL reads and writes them.

use remit_sdk::Fail;
use serde_json::{Number, Value};

/// The largest whole number that every reader of JSON keeps as it is.
const EXACT: i64 = (1 << 53) - 1;

/// A value as the server reads it; none is NULL. The type is the server's to know: the one that the place in the statement has.
pub(crate) fn bound(value: &Value) -> Result<Option<String>, Fail> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    match text.contains('\0') {
        true => Err(Fail::new("a value holds the character U+0000, which PostgreSQL keeps nowhere")),
        false => Ok(Some(text)),
    }
}

/// The type of a column by its number in `pg_type`.
pub(crate) fn kind(oid: u32) -> &'static str {
    match oid {
        16 => "bool",
        17 => "bytea",
        18 => "char",
        19 => "name",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        25 => "text",
        26 => "oid",
        114 => "json",
        700 => "float4",
        701 => "float8",
        869 => "inet",
        650 => "cidr",
        1042 => "bpchar",
        1043 => "varchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1184 => "timestamptz",
        1186 => "interval",
        1700 => "numeric",
        2278 => "void",
        2950 => "uuid",
        3802 => "jsonb",
        _ => "other",
    }
}

/// What the server wrote for a column of this type. A number that JSON would not keep as it is stays a text.
pub(crate) fn read(kind: &str, text: String) -> Value {
    let read = match kind {
        "bool" => match text.as_str() {
            "t" => Some(Value::Bool(true)),
            "f" => Some(Value::Bool(false)),
            _ => None,
        },
        "int2" | "int4" | "int8" | "oid" => {
            text.parse().ok().filter(|number| (-EXACT..=EXACT).contains(number)).map(Value::from)
        }
        "float4" | "float8" => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        "json" | "jsonb" => serde_json::from_str(&text).ok(),
        _ => None,
    };
    read.unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_come_back_as_what_they_are() {
        fn check(oid: u32, text: &str, expect: Value) {
            assert_eq!(read(kind(oid), text.to_owned()), expect, "{oid} {text}");
        }
        check(16, "t", json!(true));
        check(16, "f", json!(false));
        check(23, "-7", json!(-7));
        check(20, "9007199254740991", json!(9_007_199_254_740_991_i64));
        check(20, "9007199254740993", json!("9007199254740993"));
        check(20, "-9223372036854775808", json!("-9223372036854775808"));
        check(701, "1.5", json!(1.5));
        check(701, "NaN", json!("NaN"));
        check(701, "-Infinity", json!("-Infinity"));
        check(1700, "0.10", json!("0.10"));
        check(3802, "{\"a\": [1, null]}", json!({"a": [1, null]}));
        check(25, "t", json!("t"));
        check(17, "\\x00ff", json!("\\x00ff"));
        check(1184, "2026-11-21 13:00:00+00", json!("2026-11-21 13:00:00+00"));
        check(1007, "{1,2}", json!("{1,2}"));
    }

    #[test]
    fn values_go_as_texts_that_nothing_is_pasted_into() {
        fn check(value: Value, expect: Option<&str>) {
            assert_eq!(bound(&value).unwrap().as_deref(), expect, "{value}");
        }
        check(json!(null), None);
        check(json!(true), Some("true"));
        check(json!(-1.5), Some("-1.5"));
        check(json!("'; drop table x; --"), Some("'; drop table x; --"));
        check(json!({"a": [1]}), Some("{\"a\":[1]}"));
        assert!(bound(&json!("a\0b")).is_err());
    }
}
