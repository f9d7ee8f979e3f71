//! Finding many needles at once: Wu and Manber's method with blocks of four bytes.
//!
//! An automaton would spread the secrets over tables that nobody overwrites. Here the needles stay in memory that is
//! zeroised when the search is dropped; the tables hold only sixteen-bit hashes. (S. Wu, U. Manber, *A fast algorithm
//! for multi-pattern searching*, TR-94-17, 1994.)

use std::sync::Arc;

use remit_protocol::{SecretPath, limits::MIN_SECRET};
use zeroize::Zeroizing;

use super::forms;

/// The needles' first bytes, by which they are looked for; no needle is shorter.
pub(super) const WINDOW: usize = MIN_SECRET;
const BLOCK: usize = 4;
const SLOTS: usize = 1 << 16;
/// How far a window moves if its last block stands in no needle's window.
const FAR: u8 = (WINDOW - BLOCK + 1) as u8;

/// A value and the path that stands for it.
pub(super) struct Known {
    pub(super) path: SecretPath,
    pub(super) value: Zeroizing<Vec<u8>>,
}

struct Needle {
    bytes: Zeroizing<Vec<u8>>,
    /// Index into `known`.
    owner: usize,
}

/// The known values, made ready for searching. Without values, no tables.
#[derive(Default)]
pub(super) struct Search {
    known: Vec<Arc<Known>>,
    tables: Option<Tables>,
}

struct Tables {
    /// By the hash of a block: how far a window whose end it is can move. 0: a needle may begin here.
    shift: Box<[u8]>,
    /// By the hash of a window: the needles that begin with such a window, the longest first.
    heads: Box<[Vec<Needle>]>,
    /// One bit a hash: beginnings of needles that are shorter than a window.
    short: Box<[u64]>,
}

/// What a scan of one piece came to.
pub(super) struct Scanned {
    /// So many bytes are dealt with; what follows may begin a needle and comes again with more.
    pub(super) consumed: usize,
    /// So many of the bytes after `consumed` are already replaced.
    pub(super) covered: usize,
    pub(super) hits: u64,
}

enum Found {
    Nothing,
    /// The text ends before this is decided.
    Undecided,
    Needle {
        length: usize,
        owner: usize,
    },
}

fn block(bytes: [u8; BLOCK]) -> usize {
    (u32::from_le_bytes(bytes).wrapping_mul(0x9E37_79B1) >> (32 - SLOTS.trailing_zeros())) as usize
}

fn hash(bytes: &[u8]) -> usize {
    let start = bytes.len() as u64;
    let word =
        bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3));
    (word ^ word >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 40
}

impl Search {
    pub(super) fn new(known: Vec<Arc<Known>>) -> Self {
        let mut needles = Vec::new();
        for (owner, secret) in known.iter().enumerate() {
            needles.extend(forms::of(&secret.value).into_iter().map(|bytes| Needle { bytes, owner }));
        }
        let tables = (!needles.is_empty()).then(|| Tables::new(needles));
        Self { known, tables }
    }

    pub(super) fn known(&self) -> &[Arc<Known>] {
        &self.known
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_none()
    }

    /// Appends `text` to `output` with each needle replaced by its owner's mark.
    ///
    /// The first `covered` bytes are already replaced. Unless this is the `last` piece, the scan stops before the first
    /// byte that may begin a needle reaching beyond `text`.
    pub(super) fn scan(&self, text: &[u8], covered: usize, last: bool, output: &mut Vec<u8>) -> Scanned {
        let Some(tables) = &self.tables else {
            output.extend_from_slice(&text[covered.min(text.len())..]);
            return Scanned { consumed: text.len(), covered: covered.saturating_sub(text.len()), hits: 0 };
        };
        // Bytes before `clean` are either in the output or replaced.
        let (mut at, mut clean, mut hits) = (0, covered, 0);
        let mut stop = None;
        while let Some(end) = text.get(at + WINDOW - BLOCK..).and_then(|rest| rest.first_chunk()) {
            let shift = tables.shift[block(*end)];
            if shift > 0 {
                at += usize::from(shift);
                continue;
            }
            match tables.longest(&text[at..], last) {
                Found::Nothing => {}
                Found::Undecided => {
                    stop = Some(at);
                    break;
                }
                Found::Needle { length, owner } => {
                    if at >= clean {
                        output.extend_from_slice(&text[clean..at]);
                        output.extend_from_slice(format!("[redacted:{}]", self.known[owner].path).as_bytes());
                    }
                    clean = clean.max(at + length);
                    hits += 1;
                }
            }
            // One by one also inside a needle: another one may begin there and end later.
            at += 1;
        }
        let stop = match stop {
            Some(stop) => stop,
            None if last => text.len(),
            None => (at.min(text.len())..text.len())
                .find(|start| tables.may_begin(&text[*start..]))
                .unwrap_or(text.len()),
        };
        if clean < stop {
            output.extend_from_slice(&text[clean..stop]);
        }
        Scanned { consumed: stop, covered: clean.saturating_sub(stop), hits }
    }
}

impl Tables {
    fn new(needles: Vec<Needle>) -> Self {
        let mut shift = vec![FAR; SLOTS].into_boxed_slice();
        let mut short = vec![0_u64; SLOTS / 64].into_boxed_slice();
        let buckets = (needles.len() * 2).next_power_of_two();
        let mut heads: Box<[Vec<Needle>]> = (0..buckets).map(|_| Vec::new()).collect();
        for needle in needles {
            let window = &needle.bytes[..WINDOW];
            for start in 0..=WINDOW - BLOCK {
                let Some(part) = window[start..].first_chunk() else { continue };
                let slot = &mut shift[block(*part)];
                *slot = (*slot).min((WINDOW - BLOCK - start) as u8);
            }
            for length in 1..WINDOW {
                let slot = hash(&window[..length]) % SLOTS;
                short[slot / 64] |= 1 << (slot % 64);
            }
            heads[hash(window) % buckets].push(needle);
        }
        for bucket in &mut heads {
            bucket.sort_by_key(|needle| std::cmp::Reverse(needle.bytes.len()));
        }
        Self { shift, heads, short }
    }

    /// The longest needle at the beginning of `text`, which has at least a window's length.
    fn longest(&self, text: &[u8], last: bool) -> Found {
        for needle in &self.heads[hash(&text[..WINDOW]) % self.heads.len()] {
            let shared = needle.bytes.len().min(text.len());
            if needle.bytes[..shared] != text[..shared] {
                continue;
            }
            if shared == needle.bytes.len() {
                return Found::Needle { length: shared, owner: needle.owner };
            }
            if !last {
                return Found::Undecided;
            }
        }
        Found::Nothing
    }

    /// True if a needle may begin with `rest`, which is shorter than a window. Wrong only on the careful side.
    fn may_begin(&self, rest: &[u8]) -> bool {
        let slot = hash(rest) % SLOTS;
        self.short[slot / 64] >> (slot % 64) & 1 == 1
    }
}
