//! The journal's bytes: one frame a record, `length u32 | crc32c u32 | payload`, little-endian, in a row.
//!
//! A frame that is cut or damaged ends the journal there: whatever was promised before it was synced before it.

use remit_protocol::{AttemptId, Epoch};

/// Longest payload: a report's body bounds every event, so this is generous.
const MAX_PAYLOAD: usize = 1 << 20;
const HEAD: usize = 8;
/// Kind, attempt, number.
const FIXED: usize = 1 + 16 + 8;

/// What the journal remembers of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// It may begin from here on; numbers go on from these. Also how a snapshot opens an attempt.
    Begun {
        /// Under which epoch.
        epoch: Epoch,
        /// The number of the next event.
        first_event: u64,
        /// The number of the next log entry.
        first_entry: u64,
    },
    /// An event as it is sent, in JSON.
    Event {
        /// Its number.
        number: u64,
        /// True for `finished`.
        last: bool,
        /// The JSON.
        json: &'a str,
    },
    /// A log entry as it is sent, in JSON.
    Entry {
        /// Its number.
        number: u64,
        /// The JSON.
        json: &'a str,
    },
    /// The orchestrator has all of it, or wants none of it.
    Gone,
}

const BEGUN: u8 = 1;
const EVENT: u8 = 2;
const LAST_EVENT: u8 = 3;
const ENTRY: u8 = 4;
const GONE: u8 = 5;

/// Appends the frame of `record` to `out`.
pub fn encode(attempt: AttemptId, record: &Record<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    let mut fixed = |kind: u8, number: u64| {
        out.push(kind);
        out.extend_from_slice(&attempt.to_u128().to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    };
    match record {
        Record::Begun { epoch, first_event, first_entry } => {
            fixed(BEGUN, u64::from(epoch.0));
            out.extend_from_slice(&first_event.to_le_bytes());
            out.extend_from_slice(&first_entry.to_le_bytes());
        }
        Record::Event { number, last, json } => {
            fixed(if *last { LAST_EVENT } else { EVENT }, *number);
            out.extend_from_slice(json.as_bytes());
        }
        Record::Entry { number, json } => {
            fixed(ENTRY, *number);
            out.extend_from_slice(json.as_bytes());
        }
        Record::Gone => fixed(GONE, 0),
    }
    let payload = &out[start + HEAD..];
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let sum = crc32c::crc32c(payload);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// Reads records from the start of `bytes` to the first frame that is not whole.
pub fn decode(bytes: &[u8]) -> impl Iterator<Item = (AttemptId, Record<'_>)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let sum = u32::from_le_bytes(rest.get(4..HEAD)?.try_into().ok()?);
        // A length of zero is the space that was reserved and not written.
        if !(FIXED..=MAX_PAYLOAD).contains(&length) {
            return None;
        }
        let payload = rest.get(HEAD..HEAD + length)?;
        if crc32c::crc32c(payload) != sum {
            return None;
        }
        rest = &rest[HEAD + length..];
        record(payload)
    })
}

fn record(payload: &[u8]) -> Option<(AttemptId, Record<'_>)> {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
    let attempt = AttemptId::from_u128(u128::from_le_bytes(payload[1..17].try_into().ok()?));
    let first = number(&payload[17..FIXED])?;
    let body = &payload[FIXED..];
    let json = || std::str::from_utf8(body).ok();
    let record = match payload[0] {
        BEGUN => Record::Begun {
            epoch: Epoch(u32::try_from(first).ok()?),
            first_event: number(body.get(..8)?)?,
            first_entry: number(body.get(8..16)?)?,
        },
        EVENT | LAST_EVENT => Record::Event { number: first, last: payload[0] == LAST_EVENT, json: json()? },
        ENTRY => Record::Entry { number: first, json: json()? },
        GONE => Record::Gone,
        _ => return None,
    };
    Some((attempt, record))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(records: &[(u128, u8, u64, String)]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (attempt, kind, number, json) in records {
            encode(AttemptId::from_u128(*attempt), &sample(*kind, *number, json), &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn sample(kind: u8, number: u64, json: &str) -> Record<'_> {
        match kind % 5 {
            0 => Record::Begun { epoch: Epoch(number as u32), first_event: number, first_entry: 1 },
            1 => Record::Event { number, last: false, json },
            2 => Record::Event { number, last: true, json },
            3 => Record::Entry { number, json },
            _ => Record::Gone,
        }
    }

    fn records() -> impl Strategy<Value = Vec<(u128, u8, u64, String)>> {
        prop::collection::vec((any::<u128>(), any::<u8>(), any::<u64>(), "\\PC{0,40}"), 0..20)
    }

    proptest! {
        #[test]
        fn a_cut_journal_gives_back_every_whole_record(records in records(), cut in any::<prop::sample::Index>()) {
            let (bytes, ends) = written(&records);
            let cut = cut.index(bytes.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let found: Vec<_> = decode(&bytes[..cut]).collect();
            prop_assert_eq!(found.len(), whole);
            for ((attempt, record), (id, kind, number, json)) in found.iter().zip(&records) {
                prop_assert_eq!(attempt.to_u128(), *id);
                prop_assert_eq!(*record, sample(*kind, *number, json));
            }
        }

        #[test]
        fn a_damaged_byte_ends_the_journal_before_its_record(
            records in records(), at in any::<prop::sample::Index>(), flip in 1u8..
        ) {
            let (mut bytes, ends) = written(&records);
            prop_assume!(!bytes.is_empty());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let before = ends.iter().filter(|end| **end <= at).count();
            prop_assert_eq!(decode(&bytes).count(), before);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode(&bytes).count();
        }
    }

    #[test]
    fn reserved_space_is_the_end() {
        let (mut bytes, _) = written(&[(1, 0, 1, String::new())]);
        bytes.extend_from_slice(&[0; 64]);
        assert_eq!(decode(&bytes).count(), 1);
    }
}
