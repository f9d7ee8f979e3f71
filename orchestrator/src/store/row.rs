//! Between columns and domain types: what does not parse is a damaged store, not a default.

use std::str::FromStr;

use remit_protocol::{Digest, Timestamp};
use rusqlite::{Row, types::Type};
use serde::{Serialize, de::DeserializeOwned};

use super::StoreError;

type Result<T> = rusqlite::Result<T>;

fn damaged(column: &str, error: impl std::fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, format!("column {column}: {error}").into())
}

/// A column that holds the text form of a `T`.
pub(super) fn text<T: FromStr<Err: std::fmt::Display>>(row: &Row<'_>, column: &str) -> Result<T> {
    row.get_ref(column)?
        .as_str()
        .map_err(|error| damaged(column, error))?
        .parse()
        .map_err(|error| damaged(column, error))
}

/// As [`text`], for a column that may be null.
pub(super) fn maybe_text<T: FromStr<Err: std::fmt::Display>>(
    row: &Row<'_>,
    column: &str,
) -> Result<Option<T>> {
    match row.get_ref(column)?.as_str_or_null().map_err(|error| damaged(column, error))? {
        Some(text) => text.parse().map(Some).map_err(|error| damaged(column, error)),
        None => Ok(None),
    }
}

/// A column that holds JSON.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|error| damaged(column, error))?;
    serde_json::from_str(text).map_err(|error| damaged(column, error))
}

/// As [`json`], for a column that may be null.
pub(super) fn maybe_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<Option<T>> {
    match row.get_ref(column)?.as_str_or_null().map_err(|error| damaged(column, error))? {
        Some(text) => serde_json::from_str(text).map(Some).map_err(|error| damaged(column, error)),
        None => Ok(None),
    }
}

/// A value as a JSON column.
pub(super) fn to_json(value: &impl Serialize) -> std::result::Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::unavailable("writing a value", &error))
}

/// A column that holds an id.
pub(super) fn id<T>(row: &Row<'_>, column: &str, from: fn(u128) -> T) -> Result<T> {
    row.get::<_, [u8; 16]>(column).map(|bytes| from(u128::from_be_bytes(bytes)))
}

/// As [`id`], for a column that may be null.
pub(super) fn maybe_id<T>(row: &Row<'_>, column: &str, from: fn(u128) -> T) -> Result<Option<T>> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(|bytes| from(u128::from_be_bytes(bytes))))
}

/// A column that holds a time.
pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// As [`time`], for a column that may be null.
pub(super) fn maybe_time(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<u64>>(column)?.map(Timestamp::from_millis))
}

/// A column that holds a digest.
pub(super) fn digest(row: &Row<'_>, column: &str) -> Result<Digest> {
    row.get(column).map(Digest::from_bytes)
}

/// As [`digest`], for a column that may be null.
pub(super) fn maybe_digest(row: &Row<'_>, column: &str) -> Result<Option<Digest>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(Digest::from_bytes))
}

/// An id as a column.
pub(super) fn key(number: u128) -> [u8; 16] {
    number.to_be_bytes()
}
