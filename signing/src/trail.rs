//! An audit trail: what was done, in an order that nobody can change afterwards without being seen.
//!
//! A trail is lines of strict JSON, `{"seq":N,"at":TIME,"prev":DIGEST,"event":{…}}`. `seq` counts from 1 without a gap,
//! `prev` is the SHA-256 of the line before (of [`ORIGIN`] for the first), so that a line that is altered, dropped, added
//! or moved breaks the chain. A [`TrailNote`] signed by the keeper's key binds the newest line: without it, cutting off
//! the end would not be seen. The chain is a list and not a tree: a trail is read whole, by its auditor.

use remit_protocol::{Digest, RefusalCode, Timestamp, json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Refusal, Vkey,
    key::PublicKey,
    note::{Fields, NoteKind, TextWriter, UnverifiedNote},
};

/// What the first line is linked to.
pub const ORIGIN: &[u8] = b"remit/trail/v1";
/// Longest line in bytes, without its newline.
pub const MAX_ENTRY: usize = 16 << 10;

/// The end of a trail, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many entries there are.
    pub entries: u64,
    /// The digest of the last line.
    pub digest: Digest,
}

impl Head {
    /// Of a trail without entries.
    pub fn origin() -> Self {
        Self { entries: 0, digest: Digest::of(ORIGIN) }
    }

    fn after(self, line: &[u8]) -> Self {
        Self { entries: self.entries + 1, digest: Digest::of(line) }
    }
}

#[derive(Serialize)]
struct NewEntry<'a, E> {
    seq: u64,
    at: Timestamp,
    prev: Digest,
    event: &'a E,
}

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// When it was written, by the keeper's clock.
    pub at: Timestamp,
    /// The digest of the line before.
    pub prev: Digest,
    /// What happened; `kind` says what.
    pub event: Map<String, Value>,
}

impl Entry {
    /// What kind of event it is; empty if it says nothing of it.
    pub fn kind(&self) -> &str {
        self.event.get("kind").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The line that follows `head`, without a newline, and the head after it. None if the event is too long for a line.
pub fn append<E: Serialize>(head: Head, at: Timestamp, event: &E) -> Option<(String, Head)> {
    let entry = NewEntry { seq: head.entries + 1, at, prev: head.digest, event };
    let line = serde_json::to_string(&entry).ok().filter(|line| line.len() <= MAX_ENTRY)?;
    let after = head.after(line.as_bytes());
    Some((line, after))
}

/// Why a trail is not believed: the first line that is wrong, counted from 1, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Broken {
    /// Which line.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// A trail whose lines are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    /// What came before the first line: [`Head::origin`] if the trail is whole.
    pub before: Head,
    /// Its end.
    pub head: Head,
}

impl Linked {
    /// True if nothing was left off at the beginning.
    pub fn is_whole(&self) -> bool {
        self.before == Head::origin()
    }
}

/// Checks that lines are linked, and gives each entry to `see`. The first line may be of any number: older parts of a trail
/// are kept elsewhere, and [`Linked::before`] says where this one begins. None if there is no line.
///
/// # Errors
/// The first line that is wrong.
pub fn verify<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    mut see: impl FnMut(&Entry),
) -> Result<Option<Linked>, Broken> {
    let mut linked: Option<Linked> = None;
    for (number, line) in (1..).zip(lines) {
        let broken = |why: String| Broken { line: number, why };
        let entry: Entry =
            json::from_slice(line, MAX_ENTRY).map_err(|error| broken(format!("it is no entry: {error}")))?;
        let before = match &linked {
            Some(linked) => linked.head,
            None if entry.seq == 0 => return Err(broken("entries count from 1".to_owned())),
            None => Head { entries: entry.seq - 1, digest: entry.prev },
        };
        if entry.seq != before.entries + 1 {
            return Err(broken(format!("entry {} is due, and this is {}", before.entries + 1, entry.seq)));
        }
        if entry.prev != before.digest || (entry.seq == 1 && before != Head::origin()) {
            return Err(broken("it is not linked to the line before".to_owned()));
        }
        see(&entry);
        linked =
            Some(Linked { before: linked.map_or(before, |linked| linked.before), head: before.after(line) });
    }
    Ok(linked)
}

/// Checks that lines are linked and that the signed `end` is one of theirs; lines after it are there and not yet signed.
///
/// # Errors
/// The first line that is wrong, or the line after the last if the trail does not reach its signed end.
pub fn verify_to<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    end: Head,
    mut see: impl FnMut(&Entry),
) -> Result<Option<Linked>, Broken> {
    let mut next = None;
    let linked = verify(lines, |entry| {
        if entry.seq == end.entries + 1 {
            next = Some(entry.prev);
        }
        see(entry);
    })?;
    let Some(found) = linked else { return Ok(None) };
    let line = found.head.entries - found.before.entries + 1;
    let there = next.or((found.head.entries == end.entries).then_some(found.head.digest));
    match there {
        Some(digest) if digest == end.digest => Ok(linked),
        Some(_) => {
            let line = end.entries.saturating_sub(found.before.entries);
            Err(Broken { line, why: "it is not the line that was signed as the end".to_owned() })
        }
        None => {
            let why = format!("{} entries were signed, and {} are here", end.entries, found.head.entries);
            Err(Broken { line, why })
        }
    }
}

/// What a keeper signs of its trail, `remit/trail/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailNote {
    /// Whose trail: `runner/<id>` or `orchestrator/<name>`.
    pub keeper: String,
    /// Its end.
    pub head: Head,
    /// When it was signed, by the keeper's clock.
    pub at: Timestamp,
}

impl TrailNote {
    /// The text to sign.
    pub fn to_text(&self) -> String {
        TextWriter::new(NoteKind::Trail)
            .line("keeper", &self.keeper)
            .line("entries", self.head.entries)
            .line("head", self.head.digest)
            .time("at", self.at)
            .finish()
    }

    /// Reads a note that `key` signed, whatever the key is called.
    ///
    /// # Errors
    /// `E_SYNTAX`, `E_SIG`, or `E_THRESHOLD` if it is not signed by this key.
    pub fn verify(bytes: &[u8], key: &PublicKey) -> Result<Self, Refusal> {
        let note = UnverifiedNote::parse_as(NoteKind::Trail, bytes)?;
        let names = note.signatures().iter().map(|line| (*key).named(line.name().clone()));
        let known: Vec<Vkey> = names.collect();
        if note.signed_by(&known)?.is_empty() {
            return Err(Refusal::new(
                RefusalCode::Threshold,
                "The end of the trail is not signed by this key.",
            ));
        }
        Self::parse(&note)
    }

    /// Reads the text of a note that is well formed; its signature is the caller's to judge.
    ///
    /// # Errors
    /// `E_SYNTAX`.
    pub fn parse(note: &UnverifiedNote) -> Result<Self, Refusal> {
        if note.kind() != NoteKind::Trail {
            return Err(Refusal::syntax("This is not a note on a trail."));
        }
        let mut fields = Fields::of(note);
        let keeper = fields.text("keeper")?.to_owned();
        let head = Head { entries: fields.number("entries")?, digest: fields.parsed("head")? };
        let at = fields.time("at")?;
        fields.finish()?;
        Ok(Self { keeper, head, at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{KeyName, SigningKey, note};

    fn trail(length: u64) -> Vec<String> {
        let mut head = Head::origin();
        (0..length)
            .map(|number| {
                let event = json!({ "kind": "ended", "number": number });
                let (line, after) = append(head, Timestamp::from_millis(number), &event).unwrap();
                head = after;
                line
            })
            .collect()
    }

    fn check(lines: &[String], expect: Result<Option<(u64, u64)>, (u64, &str)>) {
        let found = verify(lines.iter().map(String::as_bytes), |_| {});
        match (found, expect) {
            (Ok(found), Ok(expect)) => {
                assert_eq!(found.map(|linked| (linked.before.entries, linked.head.entries)), expect);
            }
            (Err(broken), Err((line, part))) => {
                assert_eq!(broken.line, line, "{broken}");
                assert!(broken.why.contains(part), "{broken}");
            }
            (found, expect) => panic!("{found:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn a_chain_holds_and_says_where_it_breaks() {
        let whole = trail(5);
        check(&whole, Ok(Some((0, 5))));
        check(&[], Ok(None));
        check(&whole[2..], Ok(Some((2, 5))));
        check(&whole[..3], Ok(Some((0, 3))));
        let changed = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = trail(5);
            change(&mut lines);
            lines
        };
        check(&changed(&|lines| drop(lines.remove(2))), Err((3, "entry 3 is due, and this is 4")));
        check(&changed(&|lines| lines.swap(1, 2)), Err((2, "entry 2 is due")));
        check(&changed(&|lines| lines[2] = lines[2].replace("ended", "began")), Err((4, "not linked")));
        check(&changed(&|lines| lines.insert(2, lines[1].clone())), Err((3, "entry 3 is due")));
        check(&changed(&|lines| lines[1].push(' ')), Err((3, "not linked")));
        check(&changed(&|lines| lines[4] = "{}".to_owned()), Err((5, "no entry")));
        check(&changed(&|lines| lines[0] = lines[0].replace("\"seq\":1", "\"seq\":0")), Err((1, "from 1")));
        let forged = Digest::of(b"elsewhere").to_string();
        let origin = Head::origin().digest.to_string();
        check(&changed(&|lines| lines[0] = lines[0].replace(&origin, &forged)), Err((1, "not linked")));
    }

    #[test]
    fn the_signed_end_has_to_be_there() {
        let whole = trail(5);
        let head =
            |count: usize| verify(whole[..count].iter().map(String::as_bytes), |_| {}).unwrap().unwrap().head;
        let check = |lines: &[String], end: Head, expect: Result<(), (u64, &str)>| match (
            verify_to(lines.iter().map(String::as_bytes), end, |_| {}),
            expect,
        ) {
            (Ok(Some(_)), Ok(())) => {}
            (Err(broken), Err((line, part))) => {
                assert_eq!(broken.line, line, "{broken}");
                assert!(broken.why.contains(part), "{broken}");
            }
            (found, expect) => panic!("{found:?}, expected {expect:?}"),
        };
        check(&whole, head(5), Ok(()));
        check(&whole, head(3), Ok(()));
        check(&whole[2..], head(3), Ok(()));
        check(&whole[..4], head(5), Err((5, "5 entries were signed, and 4 are here")));
        let other = Head { digest: Digest::of(b"other"), ..head(3) };
        check(&whole, other, Err((3, "not the line that was signed")));
        check(&whole[4..], head(3), Err((2, "3 entries were signed")));
    }

    #[test]
    fn an_event_that_is_too_long_is_no_line() {
        let event = json!({ "kind": "x", "text": "x".repeat(MAX_ENTRY) });
        assert!(append(Head::origin(), Timestamp::from_millis(0), &event).is_none());
    }

    #[test]
    fn a_note_on_a_trail_is_read_as_it_was_written() {
        let key = SigningKey::from_seed(KeyName::new("runner/one").unwrap(), &[1; 32]);
        let says = TrailNote {
            keeper: "runner/01".to_owned(),
            head: Head { entries: 7, digest: Digest::of(b"line") },
            at: Timestamp::from_millis(1_795_000_000_000),
        };
        let signed = note::sign(&says.to_text(), &[&key]).unwrap();
        let read = UnverifiedNote::parse_as(NoteKind::Trail, &signed).unwrap();
        assert_eq!(read.signed_by([&key.vkey()]).unwrap().len(), 1);
        assert_eq!(TrailNote::parse(&read).unwrap(), says);
        assert_eq!(TrailNote::verify(&signed, &key.public()).unwrap(), says);
        let other = SigningKey::from_seed(KeyName::new("runner/one").unwrap(), &[2; 32]);
        let code = |bytes: &[u8], key: &PublicKey| TrailNote::verify(bytes, key).unwrap_err().code.code();
        assert_eq!(code(&signed, &other.public()), "E_THRESHOLD");
        let altered = String::from_utf8(signed.clone()).unwrap().replace("entries 7", "entries 8");
        assert_eq!(code(altered.as_bytes(), &key.public()), "E_SIG");
        assert_eq!(code(b"", &key.public()), "E_SYNTAX");
    }

    proptest! {
        /// Any one byte that is changed in any line is noticed, there or at the next line; in the last line by the head.
        #[test]
        fn no_byte_can_be_changed(line in 0..5_usize, at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let mut lines: Vec<Vec<u8>> = trail(5).into_iter().map(String::into_bytes).collect();
            let head = verify(lines.iter().map(Vec::as_slice), |_| {}).unwrap().unwrap().head;
            let byte = at.index(lines[line].len());
            lines[line][byte] ^= flip;
            let found = verify(lines.iter().map(Vec::as_slice), |_| {});
            prop_assert!(found.is_err() || found.unwrap().unwrap().head != head);
        }
    }
}
