//! The node filter: Rundeck's language, with the meaning that its users expect.
//!
//! `tags: web+linux !name: canary.*`. Pairs of key and value; every plain key has to match, and a node that matches
//! *any* `!key` is out. A value is a regular expression for the whole attribute, or a list of exact values with commas; in
//! `tags`, `,` is or and `+` is and. Text without a key is a name. The empty filter selects nothing; `.*` everything.
//!
//! Where this differs from Rundeck:
//! - a node is out when one negative key matches, not only when all do;
//! - the same key twice means either value, each judged alone; Rundeck joins the texts with a comma, which breaks patterns;
//! - a bad regular expression, an unclosed quote, a key without value are errors; Rundeck ignores them;
//! - `key:"a b"` is read as people mean it; Rundeck takes the quote as part of the value;
//! - `/…/` in `tags` is one pattern, even with `+` or `,` in it;
//! - no look-around, back-references or possessive quantifiers; `\d`, `\w`, `\s` know Unicode;
//! - `nodename`, `osFamily`, `os-family` and the like name the same thing however they are spelt;
//! - `${…}` is replaced inside a value after the filter was taken apart, so an option cannot add keys.

mod pairs;
mod rank;
mod selector;
mod template;

use remit_protocol::node::Node;

use selector::Condition;

pub use rank::{Order, Rank, arrange, rank_of};
pub use template::FilterTemplate;

/// Longest filter, in bytes.
pub const MAX_FILTER: usize = 16 << 10;

/// Why a text is not a node filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {column} of the filter)")]
pub struct InvalidFilter {
    /// Where, in characters from 1.
    pub column: u32,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// A parsed filter, ready for many nodes.
#[derive(Debug, Clone)]
pub struct NodeFilter {
    include: Vec<Condition>,
    exclude: Vec<Condition>,
}

impl NodeFilter {
    /// Parses a filter.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        Self::build(pairs::pairs(text)?.into_iter().map(|pair| (pair.key, pair.value, pair.column)))
    }

    fn build(pairs: impl Iterator<Item = (String, String, u32)>) -> Result<Self, InvalidFilter> {
        let mut filter = Self { include: Vec::new(), exclude: Vec::new() };
        for (key, value, column) in pairs {
            let (side, key) = match key.strip_prefix('!') {
                Some(key) => (&mut filter.exclude, key),
                None => (&mut filter.include, key.as_str()),
            };
            Condition::add(side, key, &value).map_err(|message| InvalidFilter { column, message })?;
        }
        Ok(filter)
    }

    /// True if the filter selects `node`.
    pub fn matches(&self, node: &Node) -> bool {
        // Without a plain key a filter selects what it does not exclude; without any key it selects nothing.
        let included = !self.include.is_empty() || !self.exclude.is_empty();
        included
            && self.include.iter().all(|condition| condition.matches(node))
            && !self.exclude.iter().any(|condition| condition.matches(node))
    }

    /// The indices of the nodes that it selects, in their order.
    pub fn select(&self, nodes: &[Node]) -> Vec<u32> {
        (0_u32..).zip(nodes).filter(|(_, node)| self.matches(node)).map(|(at, _)| at).collect()
    }
}

#[cfg(test)]
mod tests;
