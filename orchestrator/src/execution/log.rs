//! How much of an execution's log is kept: what its lines come to, and which of them was the first that is not kept.

use std::collections::HashMap;

use remit_protocol::{
    NodeIndex,
    log_limit::{self, LogLimit, LogMost},
    report::{Level, LogEntry},
};

/// What the log of an execution comes to so far, by the rule of its job.
#[derive(Debug)]
pub struct Tally {
    limit: LogLimit,
    /// How much there is of each part of the log; nothing of a part that is full. A limit for the whole log has one part.
    parts: HashMap<Option<NodeIndex>, Option<u64>>,
    full: bool,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Whole,
    /// It is the first for which there is no room: these words take its place.
    Cut(Cut, String),
    /// There was no room before: nothing of it is kept.
    Nothing,
}

/// How far words about a full log reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing more of the whole log is kept.
    Log,
    /// Nothing more of the entry's node is kept.
    Node,
}

impl Tally {
    /// Of an empty log.
    pub fn new(limit: LogLimit) -> Self {
        Self { limit, parts: HashMap::new(), full: false }
    }

    /// True once something was not kept.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Decides about the next entry.
    pub fn take(&mut self, entry: &LogEntry) -> Kept {
        let (most, cost) = match self.limit.most {
            LogMost::Lines(lines) | LogMost::LinesPerNode(lines) => (lines, 1),
            LogMost::Bytes(size) => (size.bytes(), log_limit::cost(&entry.text, &entry.fields)),
        };
        let (part, cut) = self.part(entry);
        match self.parts.entry(part).or_insert(Some(0)) {
            None => Kept::Nothing,
            Some(count) if count.saturating_add(cost) <= most => {
                *count = count.saturating_add(cost);
                Kept::Whole
            }
            part => {
                *part = None;
                self.full = true;
                let whose = match cut {
                    Cut::Log => "the execution's log",
                    Cut::Node => "this node's log",
                };
                Kept::Cut(
                    cut,
                    format!("what follows in {whose} is thrown away. The job keeps {}", self.limit),
                )
            }
        }
    }

    /// Counts an entry that was kept before; or, at a cut, words that took the place of one.
    pub fn recall(&mut self, entry: &LogEntry, cut: Option<Cut>) {
        match cut {
            None => {
                self.take(entry);
            }
            Some(_) => {
                let (part, _) = self.part(entry);
                self.parts.insert(part, None);
                self.full = true;
            }
        }
    }

    fn part(&self, entry: &LogEntry) -> (Option<NodeIndex>, Cut) {
        match self.limit.most {
            LogMost::Lines(_) | LogMost::Bytes(_) => (None, Cut::Log),
            LogMost::LinesPerNode(_) => (entry.node, Cut::Node),
        }
    }
}

/// The entry that takes the place of the first one for which there was no room.
pub fn in_place_of(entry: &LogEntry, words: String) -> LogEntry {
    LogEntry {
        at: entry.at,
        step: entry.step,
        node: entry.node,
        level: Level::Warn,
        text: words,
        fields: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use remit_protocol::{Size, StepIndex, Timestamp, log_limit::AtLimit};

    use super::*;

    fn entry(node: Option<u32>, text: &str) -> LogEntry {
        LogEntry {
            at: Timestamp::from_millis(1),
            step: StepIndex(0),
            node: node.map(NodeIndex),
            level: Level::Info,
            text: text.to_owned(),
            fields: Vec::new(),
        }
    }

    fn limit(most: LogMost) -> LogLimit {
        LogLimit { most, at_limit: AtLimit::Truncate }
    }

    #[test]
    fn a_log_is_cut_where_there_is_no_room() {
        /// Entries as node and text; in `expect` `k` is kept, `c` a cut and `-` nothing.
        fn check(most: LogMost, entries: &[(Option<u32>, &str)], expect: &str) {
            let mut tally = Tally::new(limit(most));
            let found: String = entries
                .iter()
                .map(|(node, text)| match tally.take(&entry(*node, text)) {
                    Kept::Whole => 'k',
                    Kept::Cut(..) => 'c',
                    Kept::Nothing => '-',
                })
                .collect();
            assert_eq!((found.as_str(), tally.is_full()), (expect, expect.contains('c')), "{most}");
        }
        let line = (None, "a");
        check(LogMost::Lines(2), &[line; 2], "kk");
        check(LogMost::Lines(2), &[line; 4], "kkc-");
        check(LogMost::Lines(1), &[(Some(0), "a"), (Some(1), "a")], "kc");
        // Each counts 64 bytes beside its text; what is short and comes after a cut is not kept either.
        check(LogMost::Bytes(Size::from_bytes(130)), &[line, line, line], "kkc");
        check(LogMost::Bytes(Size::from_bytes(130)), &[(None, "12345"), (None, "ab"), (None, "")], "kc-");
        let of = |node: u32| (Some(node), "a");
        check(LogMost::LinesPerNode(1), &[of(0), of(1), of(0), of(1), of(0), line, line], "kkcc-kc");
    }

    #[test]
    fn words_say_what_is_kept() {
        let mut tally = Tally::new(limit(LogMost::LinesPerNode(1)));
        tally.take(&entry(Some(3), "a"));
        let Kept::Cut(cut, words) = tally.take(&entry(Some(3), "b")) else { panic!() };
        let expect = "what follows in this node's log is thrown away. The job keeps at most 1 line of each node; with more the execution goes on";
        assert_eq!((cut, words.as_str()), (Cut::Node, expect));
        assert_eq!(in_place_of(&entry(Some(3), "b"), words).node, Some(NodeIndex(3)));
    }

    fn measure() -> impl Strategy<Value = LogMost> {
        prop_oneof![
            (1..20_u64).prop_map(LogMost::Lines),
            (1..1500_u64).prop_map(|bytes| LogMost::Bytes(Size::from_bytes(bytes))),
            (1..8_u64).prop_map(LogMost::LinesPerNode),
        ]
    }

    proptest! {
        /// A tally that was put together from what is in the file decides as the one that wrote it.
        #[test]
        fn what_was_read_back_goes_on_as_before(
            most in measure(),
            entries in proptest::collection::vec((proptest::option::of(0..3_u32), "[a-z]{0,40}"), 0..40),
            at in 0..40_usize,
        ) {
            let mut tally = Tally::new(limit(most));
            let mut again = Tally::new(limit(most));
            let (before, after) = entries.split_at(at.min(entries.len()));
            for (node, text) in before {
                let entry = entry(*node, text);
                match tally.take(&entry) {
                    Kept::Whole => again.recall(&entry, None),
                    Kept::Cut(cut, words) => again.recall(&in_place_of(&entry, words), Some(cut)),
                    Kept::Nothing => {}
                }
            }
            prop_assert_eq!(tally.is_full(), again.is_full());
            for (node, text) in after {
                let entry = entry(*node, text);
                prop_assert_eq!(tally.take(&entry), again.take(&entry));
            }
        }
    }
}
