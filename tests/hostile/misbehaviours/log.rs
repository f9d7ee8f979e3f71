//! Against a runner that takes only what is in the transparency log. The attacker has the log's key: what cannot be done
//! unseen is to take back what was shown.

use super::{
    Expect::{Refused, Succeeds},
    Row, pure,
};
use crate::{log::Shown, work::Work};

fn shown(number: u32, shown: Shown) -> Work {
    let mut work = pure(number);
    work.shown = shown;
    work
}

/// In this order: the last ones come after a fork, and nothing that needs the log runs then.
pub(crate) const ROWS: &[Row] = &[
    ("logged work", |n| shown(n, Shown::Good), Succeeds),
    ("a proof that was taken away", |n| shown(n, Shown::Nothing), Refused("E_LOG_PROOF")),
    ("a proof of which a byte is another", |n| shown(n, Shown::Altered), Refused("E_LOG_PROOF")),
    ("the proof of another note", |n| shown(n, Shown::OtherNote), Refused("E_LOG_PROOF")),
    ("a proof of another log", |n| shown(n, Shown::Foreign), Refused("E_LOG_PROOF")),
    ("a proof by another key under the log's name", |n| shown(n, Shown::Impostor), Refused("E_LOG_PROOF")),
    ("a log that has grown", |n| shown(n, Shown::Good), Succeeds),
    ("an older head of the same history", |n| shown(n, Shown::Older), Succeeds),
    ("a head whose history is withheld", |n| shown(n, Shown::Withheld), Refused("E_LOG_PROOF")),
    ("an older head whose history is withheld", |n| shown(n, Shown::OlderWithheld), Refused("E_LOG_PROOF")),
    ("a log that has grown again", |n| shown(n, Shown::Good), Succeeds),
    ("a log that was rewritten", |n| shown(n, Shown::Forked), Refused("E_LOG_FORK")),
    ("logged work after a fork", |n| shown(n, Shown::Good), Refused("E_LOG_FORK")),
    ("work without a proof after a fork", |n| shown(n, Shown::Nothing), Refused("E_LOG_FORK")),
];
