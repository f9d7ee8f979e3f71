//! Strict JSON: the one way in which signed or trusted bytes become values.
//!
//! One reading for every byte string: UTF-8, no byte-order mark, no duplicate member at any depth, no number that a
//! double would change, bounded depth and size, unknown members refused by the target type. Bytes are verified as they
//! came; nothing is re-serialised before it is believed.

use std::{
    cell::RefCell,
    collections::{HashSet, VecDeque},
    fmt,
};

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 32;
/// Largest integer that every JSON reader keeps exactly: 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Why bytes are not acceptable JSON, with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJson {
    /// Larger than the caller allows.
    #[error("{found} bytes of JSON, at most {limit} are allowed")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not JSON under the strict rules, or not of the expected shape.
    #[error("{message}")]
    Malformed {
        /// What is wrong, with line and column where the reader knows them.
        message: String,
    },
}

impl InvalidJson {
    fn malformed(message: impl fmt::Display) -> Self {
        Self::Malformed { message: message.to_string() }
    }
}

/// Parses at most `limit` bytes as a `T` under the strict rules.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, InvalidJson> {
    let value = value_from_slice(bytes, limit)?;
    T::deserialize(value).map_err(InvalidJson::malformed)
}

/// Parses at most `limit` bytes as any value under the strict rules.
pub fn value_from_slice(bytes: &[u8], limit: usize) -> Result<Value, InvalidJson> {
    if bytes.len() > limit {
        return Err(InvalidJson::TooLarge { found: bytes.len(), limit });
    }
    let text = std::str::from_utf8(bytes).map_err(InvalidJson::malformed)?;
    let fractions = RefCell::new(check_numbers(text)?);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let strict = Strict { depth: 0, fractions: &fractions };
    let value = strict.deserialize(&mut deserializer).map_err(InvalidJson::malformed)?;
    deserializer.end().map_err(InvalidJson::malformed)?;
    Ok(value)
}

/// Refuses integers that a double would change; serde_json turns them into rounded floats without a word. Gives the other
/// numbers in their order, each as the double that is nearest to it: serde_json's own reading is off by one now and then,
/// so that what it wrote it would read as something else.
fn check_numbers(text: &str) -> Result<VecDeque<f64>, InvalidJson> {
    let mut fractions = VecDeque::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while at < bytes.len() && matches!(bytes[at], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')
                {
                    at += 1;
                }
                let number = &text[start..at];
                let integer = !number.contains(['.', 'e', 'E']);
                let digits = number.trim_start_matches('-');
                if integer && !digits.parse::<u64>().is_ok_and(|n| n <= MAX_INTEGER) {
                    let shown: String = number.chars().take(40).collect();
                    return Err(InvalidJson::malformed(format_args!(
                        "the integer {shown} at byte {start} is larger than 2^53 - 1"
                    )));
                }
                // What is no number at all is the parser's to refuse.
                if (!integer || number == "-0")
                    && let Ok(nearest) = number.parse()
                {
                    fractions.push_back(nearest);
                }
            }
            _ => at += 1,
        }
    }
    Ok(fractions)
}

#[derive(Clone, Copy)]
struct Strict<'f> {
    depth: usize,
    /// The numbers with a fraction or an exponent that are still to come.
    fractions: &'f RefCell<VecDeque<f64>>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Self { depth: self.depth + 1, ..*self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let value = self.fractions.borrow_mut().pop_front().unwrap_or(value);
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(serde::de::Error::custom(format_args!("the member {name:?} stands twice")));
            }
            let value = members.next_value_seed(self.deeper()?)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_double_nearest_to_it() {
        fn check(text: &str, expect: &[f64]) {
            let value = value_from_slice(format!("[1, {text}, \"2.5\", 3]").as_bytes(), 10_000).unwrap();
            let found: Vec<f64> =
                value.as_array().unwrap()[1..=expect.len()].iter().map(|n| n.as_f64().unwrap()).collect();
            assert_eq!(found, expect, "{text}");
            let again = value_from_slice(value.to_string().as_bytes(), 10_000).unwrap();
            assert_eq!(again, value, "{text}");
        }
        check("2.100000000000000e31", &[2.1e31]);
        check("0.30000000000000004, -0, 1e-7", &[0.300_000_000_000_000_04, -0.0, 1e-7]);
        check("123456789.12345678e200", &[1.234_567_891_234_567_8e208]);
        assert!(value_from_slice(b"1e999", 100).is_err());
    }

    #[test]
    fn one_reading_for_every_text() {
        fn check(text: &str, expect: bool) {
            let found = value_from_slice(text.as_bytes(), 10_000);
            assert_eq!(found.is_ok(), expect, "{text:.60}: {found:?}");
        }
        check(r#"{"a":1,"b":[1.5,-2,"x",null,true]}"#, true);
        check(r#"{"a":1,"a":2}"#, false);
        check(r#"{"x":{"a":1,"\u0061":2}}"#, false);
        check("9007199254740991", true);
        check("9007199254740992", false);
        check("12345678901234567890123", false);
        check("-12345678901234567890123", false);
        check(r#""12345678901234567890123""#, true);
        check(r#""\"12345678901234567890123""#, true);
        check(r#""\ud800""#, false);
        check("\u{feff}1", false);
        check("1 2", false);
        check("1\n", true);
        check(&"[".repeat(33), false);
        check(&format!("{}{}", "[".repeat(32), "]".repeat(32)), true);
        check(&format!("{}{}", "[".repeat(33), "]".repeat(33)), false);
        check("1e400", false);
        check("nul", false);
        assert!(value_from_slice(b"\xff", 10).is_err());
        assert!(matches!(value_from_slice(b"[1,2]", 3), Err(InvalidJson::TooLarge { .. })));
    }
}
