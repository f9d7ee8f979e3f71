//! The one table that rolls outcomes up: nodes to a step, steps to an execution.
//!
//! The strongest outcome wins, so the result does not depend on order or grouping. From strong to weak: `failed`, `lost`,
//! `interrupted`, `host-fault`, `trapped`, `over-limit`, `timed-out`, `refused`, `cancelled`, `not-started`, `succeeded`,
//! `skipped`. What a step said of itself is stronger than what became of its runner, and what somebody wanted is weakest
//! of all that is bad: a cancelled execution in which a step failed has failed.

use remit_protocol::{NodeName, Outcome, assignment::NodesView};

fn strength(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Skipped => 0,
        Outcome::Succeeded => 1,
        Outcome::NotStarted => 2,
        Outcome::Cancelled => 3,
        Outcome::Refused(_) => 4,
        Outcome::TimedOut => 5,
        Outcome::OverLimit(_) => 6,
        Outcome::Trapped => 7,
        Outcome::HostFault => 8,
        Outcome::Interrupted => 9,
        Outcome::Lost => 10,
        Outcome::Failed => 11,
    }
}

/// The outcome of a step from those of its nodes: the strongest. Without nodes, or if all were skipped, it is `skipped`.
pub fn step(nodes: impl IntoIterator<Item = Outcome>) -> Outcome {
    nodes.into_iter().max_by_key(|outcome| (strength(*outcome), *outcome)).unwrap_or(Outcome::Skipped)
}

/// The outcome of an execution from those of its steps: the strongest, and `succeeded` if nothing was bad.
pub fn execution(steps: impl IntoIterator<Item = Outcome>) -> Outcome {
    match step(steps) {
        Outcome::Skipped => Outcome::Succeeded,
        outcome => outcome,
    }
}

/// `steps.x.nodes` from the outcomes of the step's nodes. Skipped nodes are in neither list.
pub fn nodes_view(nodes: impl IntoIterator<Item = (NodeName, Outcome)>) -> NodesView {
    let mut view = NodesView::default();
    for (name, outcome) in nodes {
        match outcome {
            Outcome::Succeeded => view.succeeded.push(name),
            Outcome::Skipped => {}
            _ => view.failed.push(name),
        }
    }
    view
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use remit_protocol::{RefusalCode, report::Limit};

    use super::*;

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            proptest::sample::select(vec![
                Outcome::Succeeded,
                Outcome::Failed,
                Outcome::Trapped,
                Outcome::TimedOut,
                Outcome::Cancelled,
                Outcome::HostFault,
                Outcome::Interrupted,
                Outcome::Lost,
                Outcome::Skipped,
                Outcome::NotStarted,
            ]),
            proptest::sample::select(RefusalCode::ALL.to_vec()).prop_map(Outcome::Refused),
            proptest::sample::select(Limit::ALL.to_vec()).prop_map(Outcome::OverLimit),
        ]
    }

    #[test]
    fn the_table() {
        fn check(nodes: &[Outcome], of_step: Outcome, of_execution: Outcome) {
            assert_eq!(
                (step(nodes.iter().copied()), execution(nodes.iter().copied())),
                (of_step, of_execution),
                "{nodes:?}"
            );
        }
        use Outcome::*;
        check(&[], Skipped, Succeeded);
        check(&[Skipped], Skipped, Succeeded);
        check(&[Succeeded, Skipped], Succeeded, Succeeded);
        check(&[Succeeded, NotStarted], NotStarted, NotStarted);
        check(&[Cancelled, NotStarted, Succeeded], Cancelled, Cancelled);
        check(&[Lost, Succeeded], Lost, Lost);
        check(&[Lost, Failed, Cancelled, Trapped], Failed, Failed);
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(
            outcomes in proptest::collection::vec(any_outcome(), 1..20),
            cut in 0usize..20,
            turn in 0usize..20,
        ) {
            let all = step(outcomes.iter().copied());
            let mut turned = outcomes.clone();
            turned.rotate_left(turn % outcomes.len());
            turned.reverse();
            prop_assert_eq!(step(turned), all);
            let (left, right) = outcomes.split_at(cut.min(outcomes.len()));
            prop_assert_eq!(step([step(left.iter().copied()), step(right.iter().copied())]), all);
            prop_assert!(outcomes.contains(&all));
        }

        #[test]
        fn good_only_if_all_are_good(outcomes in proptest::collection::vec(any_outcome(), 0..20)) {
            let good = outcomes.iter().all(|outcome| outcome.is_good());
            prop_assert_eq!(step(outcomes.iter().copied()).is_good(), good);
            prop_assert_eq!(execution(outcomes.iter().copied()) == Outcome::Succeeded, good);
            if outcomes.contains(&Outcome::Failed) {
                prop_assert_eq!(execution(outcomes), Outcome::Failed);
            }
        }
    }
}
