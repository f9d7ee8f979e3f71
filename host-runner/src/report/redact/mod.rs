//! The net below the use of secrets: whatever leaves an attempt has its secrets' values replaced by their names.
//!
//! Found are exact values and what usual encoders make of them (see [`forms`]), also across the borders of chunks. Not
//! found are other transformations: encryption, compression, a reversed or cut-up value.
//!
//! *Invariant:* in what comes out, no form of a known secret is left, whichever way the input was cut into chunks; text
//! without secrets comes out as it went in.

mod forms;
mod search;

use std::{
    borrow::Cow,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use remit_protocol::SecretPath;
use serde_json::Value;
use zeroize::Zeroizing;

use self::search::{Known, Search};
use crate::secrets::SecretValue;

/// What every sink of one attempt shares. Cloning shares; values are added while the attempt runs.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    search: RwLock<Arc<Search>>,
    hits: Arc<AtomicU64>,
}

impl Redactor {
    /// Without any value: everything passes unchanged.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds values, each under the path that names it in place of the value.
    ///
    /// Adding a value that is known under the same path costs a comparison only, so callers add at each use.
    pub fn add<'a>(&self, secrets: impl IntoIterator<Item = (&'a SecretPath, &'a SecretValue)>) {
        let mut search = self.0.search.write().unwrap_or_else(PoisonError::into_inner);
        let mut known = search.known().to_vec();
        let before = known.len();
        for (path, value) in secrets {
            if !known.iter().any(|old| old.path == *path && **old.value == *value.expose()) {
                known.push(Arc::new(Known {
                    path: path.clone(),
                    value: Zeroizing::new(value.expose().to_vec()),
                }));
            }
        }
        if known.len() > before {
            *search = Arc::new(Search::new(known));
        }
    }

    /// A redactor for one exchange: it knows these values too, and takes them along when it is dropped. For what is made of
    /// a secret once, such as a signature.
    pub fn with<'a>(&self, more: impl IntoIterator<Item = (&'a SecretPath, &'a SecretValue)>) -> Self {
        let search = RwLock::new(self.search());
        let own = Self(Arc::new(Shared { search, hits: Arc::clone(&self.0.hits) }));
        own.add(more);
        own
    }

    /// How often a form of a secret was replaced so far. An echo of a secret is an event worth telling.
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::Relaxed)
    }

    fn search(&self) -> Arc<Search> {
        Arc::clone(&self.0.search.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// `input` without secrets.
    pub fn bytes<'a>(&self, input: &'a [u8]) -> Cow<'a, [u8]> {
        let search = self.search();
        if search.is_empty() {
            return Cow::Borrowed(input);
        }
        let mut output = Vec::new();
        let scanned = search.scan(input, 0, true, &mut output);
        if scanned.hits == 0 {
            return Cow::Borrowed(input);
        }
        self.0.hits.fetch_add(scanned.hits, Ordering::Relaxed);
        Cow::Owned(output)
    }

    /// `input` without secrets.
    pub fn text<'a>(&self, input: &'a str) -> Cow<'a, str> {
        match self.bytes(input.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(input),
            // A secret of arbitrary bytes can begin inside a character.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Replaces secrets in strings, keys and numbers of `value`, however deep.
    pub fn json(&self, value: &mut Value) {
        let search = self.search();
        if !search.is_empty() {
            self.json_part(value);
        }
    }

    fn json_part(&self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let text = number.to_string();
                if let Cow::Owned(redacted) = self.text(&text) {
                    *value = Value::String(redacted);
                }
            }
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.text(text) {
                    *text = redacted;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json_part(item)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.json_part(field));
                if fields.keys().any(|key| matches!(self.text(key), Cow::Owned(_))) {
                    *fields = std::mem::take(fields)
                        .into_iter()
                        .map(|(key, field)| (self.text(&key).into_owned(), field))
                        .collect();
                }
            }
        }
    }

    /// A stream of chunks that belong together.
    pub fn stream(&self) -> Stream {
        Stream { redactor: self.clone(), carry: Zeroizing::new(Vec::new()), covered: 0 }
    }
}

/// Redacts a stream of chunks. Held back is only what may be the beginning of a secret.
pub struct Stream {
    redactor: Redactor,
    /// The end of the input so far that may begin a secret.
    carry: Zeroizing<Vec<u8>>,
    /// How many bytes of `carry` belong to a secret that was already replaced.
    covered: usize,
}

impl Stream {
    /// Takes the next chunk and appends to `output` what can be told by now.
    pub fn push(&mut self, chunk: &[u8], output: &mut Vec<u8>) {
        self.scan(chunk, false, output);
    }

    /// Appends what is held back: the input has ended, or whoever reads it goes on only with all that has come.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        self.scan(&[], true, output);
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.carry.len()
    }

    fn scan(&mut self, chunk: &[u8], last: bool, output: &mut Vec<u8>) {
        let search = self.redactor.search();
        let scanned = if self.carry.is_empty() {
            let scanned = search.scan(chunk, self.covered, last, output);
            self.carry.extend_from_slice(&chunk[scanned.consumed..]);
            scanned
        } else {
            // Grown by hand: a vector that moves would leave the former bytes behind.
            let mut joined = Zeroizing::new(Vec::with_capacity(self.carry.len() + chunk.len()));
            joined.extend_from_slice(&self.carry);
            joined.extend_from_slice(chunk);
            let scanned = search.scan(&joined, self.covered, last, output);
            self.carry = Zeroizing::new(joined[scanned.consumed..].to_vec());
            scanned
        };
        self.covered = scanned.covered;
        if scanned.hits > 0 {
            self.redactor.0.hits.fetch_add(scanned.hits, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
