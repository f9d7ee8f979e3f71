//! The operator API: one file a noun, the same nouns as in the protocol.

pub(super) mod access;
pub(super) mod artifact;
pub(super) mod audit;
pub(super) mod channel;
pub(super) mod command;
pub(super) mod component;
pub(super) mod execution;
pub(super) mod file;
pub(super) mod hook;
pub(super) mod instance;
pub(super) mod job;
pub(super) mod log;
pub(super) mod node;
pub(super) mod project;
pub(super) mod runner;
pub(super) mod schedule;

use remit_protocol::operator::{Page, Part};

use super::error::Failure;

/// The part of `all` that is asked for: what stands behind the entry whose key is `after`.
fn part<'a, T, V>(
    all: &'a [T],
    asked: &Part,
    key: impl Fn(&T) -> String,
    view: impl Fn(&'a T) -> Result<V, Failure>,
) -> Result<Page<V>, Failure> {
    let begin = match &asked.after {
        None => 0,
        Some(after) => match all.iter().position(|item| key(item) == *after) {
            Some(at) => at + 1,
            None => {
                return Err(Failure::invalid(
                    "There is no entry behind which to go on.",
                    "Begin again without `after`.",
                ));
            }
        },
    };
    let limit = usize::try_from(asked.entries()).unwrap_or(usize::MAX);
    let rest = all.get(begin..).unwrap_or_default();
    let items = rest.iter().take(limit).map(view).collect::<Result<_, _>>()?;
    let next = rest.get(limit.saturating_sub(1)).filter(|_| rest.len() > limit).map(key);
    Ok(Page { items, next })
}
