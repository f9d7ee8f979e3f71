//! On which nodes the job is run, and in what order.

use remit_protocol::{assignment::Strategy, limits::MAX_THREADS};

use super::{Check, reference::View};
use crate::{
    document::{Nodes, Share, Threads, Tiers},
    filter::Order,
    sections,
};

impl Check<'_> {
    pub(super) fn nodes(&mut self) {
        let Some(nodes) = &self.document.nodes else { return };
        let references: Vec<_> = nodes.filter.references().cloned().collect();
        self.references("nodes.filter", &references, View::Trigger);
        match &nodes.threads {
            Threads::Fixed(threads) if !(1..=MAX_THREADS).contains(threads) => self.fault(
                "nodes.threads",
                format!("{threads} nodes at once; it is at least 1 and at most {MAX_THREADS}"),
                format!("write a number from 1 to {MAX_THREADS}"),
            ),
            Threads::Fixed(_) | Threads::Percent(_) => {}
            Threads::Expression(expression) => {
                self.references("nodes.threads", expression.references(), View::Trigger);
            }
        }
        self.dispatch(nodes);
        if let Some(rank) = &nodes.rank
            && (rank.by.trim().is_empty() || rank.by.len() > 255 || rank.by.chars().any(char::is_control))
        {
            self.fault(
                "nodes.rank.by",
                "this is not the name of an attribute",
                "write an attribute, such as `rack`, or `name`",
            );
        }
    }

    /// Which of the nodes, in which portions, on which runners.
    fn dispatch(&mut self, nodes: &Nodes) {
        let random = nodes.rank.as_ref().is_some_and(|rank| rank.order == Order::Random);
        if random && nodes.rank.as_ref().is_some_and(|rank| rank.by != "name") {
            self.fault(
                "nodes.rank.by",
                "what is ordered by chance is ordered by no attribute",
                "remove `by`",
            );
        }
        if nodes.limit == Some(Share::Count(0)) {
            self.fault(
                "nodes.limit",
                "0 nodes are none",
                "write a number from 1, or a percentage such as \"10%\"",
            );
        }
        match &nodes.tiers {
            None if nodes.max_failures.is_some() => self.fault(
                "nodes.max_failures",
                "it decides whether another tier is begun, and there are none",
                "add `tiers: [1, \"10%\", rest]`, or remove it",
            ),
            Some(Tiers::Sizes(sizes)) => {
                if sizes.is_empty() || sizes.len() >= Tiers::MOST || sizes.contains(&Share::Count(0)) {
                    self.fault(
                        "nodes.tiers",
                        format!("there are 2 to {} tiers with a node or more in each", Tiers::MOST),
                        "write sizes, such as `[1, \"10%\", rest]`: the rest is the last tier",
                    );
                }
            }
            Some(Tiers::Rank) if random || nodes.rank.is_none() => self.fault(
                "nodes.tiers",
                "tiers by rank are nodes with the same value of an attribute, and none ranks them",
                "add `rank: { by: rack }`",
            ),
            Some(Tiers::Rank) | None => {}
        }
        if nodes.spread && !nodes.keep_going {
            self.fault(
                "nodes.spread",
                "one runner does not see that a node failed on another, and would go on",
                "add `keep_going: true`; to stop early, add `tiers`",
            );
        }
        let rows = self.document.steps.windows(2).any(sections::together);
        if nodes.spread && self.document.strategy == Strategy::StepFirst && rows {
            self.fault(
                "nodes.spread",
                "`strategy: step-first` wants each step to end on all nodes first, and runners do not wait for one another",
                "use `node-first`, or put a step that is run once between the steps",
            );
        }
    }
}
