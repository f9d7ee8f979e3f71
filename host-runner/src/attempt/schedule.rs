//! Which node is next: the order of a section's node steps, without a clock and without waiting.
//!
//! A *unit* is what one thread does without asking again: every step on a node, or one step on a node. Nodes are
//! announced in a bounded window before they begin, so that a crash leaves only those in doubt.

use std::ops::Range;

use remit_protocol::assignment::Strategy;

/// What one thread does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// The node's place among the nodes of the attempt.
    pub(super) node: usize,
    /// The steps, as places in the section.
    pub(super) steps: Range<usize>,
    /// All of them at once, not one after the other.
    pub(super) together: bool,
    /// The section has failed without `keep_going`: only what runs on failure or always is still due.
    pub(super) after_failure: bool,
}

/// What a thread that asks for work is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Do this, and say when it ended.
    Run(Unit),
    /// Nothing now: ask again when something ended or was confirmed.
    Wait,
    /// Nothing any more, though others may still be at work.
    Done,
}

/// How the nodes of a section are gone through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// How many steps the section has.
    pub(super) steps: usize,
    /// How many nodes the attempt has.
    pub(super) nodes: usize,
    /// How many units at once.
    pub(super) threads: usize,
    /// Go on with other nodes after one failed.
    pub(super) keep_going: bool,
    /// In which order.
    pub(super) strategy: Strategy,
    /// How many nodes may be announced and not begun.
    pub(super) window: usize,
}

/// The state of going through the nodes.
#[derive(Debug)]
pub(super) struct Schedule {
    plan: Plan,
    /// The step that runs on all nodes; stays 0 unless the strategy is step-first.
    phase: usize,
    /// The next node of this phase.
    cursor: usize,
    /// Nodes that began their first step: always the first so many.
    begun: usize,
    announced: usize,
    confirmed: usize,
    in_flight: usize,
    failed: bool,
    cancelled: bool,
}

impl Schedule {
    /// Nothing begun.
    pub(super) fn new(plan: Plan) -> Self {
        let plan = Plan { threads: plan.threads.max(1), window: plan.window.max(1), ..plan };
        Self {
            plan,
            phase: 0,
            cursor: 0,
            begun: 0,
            announced: 0,
            confirmed: 0,
            in_flight: 0,
            failed: false,
            cancelled: false,
        }
    }

    /// The nodes to announce now, if any. They may begin once they are confirmed.
    pub(super) fn announce(&mut self) -> Option<Range<usize>> {
        let waiting = self.announced - self.begun;
        if self.closed() || self.announced == self.plan.nodes || waiting > self.plan.window / 2 {
            return None;
        }
        let end = self.plan.nodes.min(self.begun + self.plan.window);
        let range = self.announced..end;
        self.announced = end;
        (!range.is_empty()).then_some(range)
    }

    /// The nodes before `end` may begin.
    pub(super) fn confirm(&mut self, end: usize) {
        self.confirmed = self.confirmed.max(end.min(self.announced));
    }

    /// What a free thread does.
    pub(super) fn next(&mut self) -> Next {
        loop {
            if self.in_flight >= self.plan.threads {
                return Next::Wait;
            }
            let end = self.phase_end();
            if self.cursor < end {
                if self.phase == 0 && self.cursor >= self.confirmed {
                    return Next::Wait;
                }
                return Next::Run(self.begin());
            }
            let last = self.plan.strategy != Strategy::StepFirst || self.phase + 1 >= self.plan.steps;
            if last || self.cancelled {
                return Next::Done;
            }
            if self.in_flight > 0 {
                return Next::Wait;
            }
            self.phase += 1;
            self.cursor = 0;
        }
    }

    fn begin(&mut self) -> Unit {
        let node = self.cursor;
        self.cursor += 1;
        self.in_flight += 1;
        if self.phase == 0 {
            self.begun = self.cursor;
        }
        let steps = match self.plan.strategy {
            Strategy::StepFirst => self.phase..self.phase + 1,
            Strategy::NodeFirst | Strategy::Parallel => 0..self.plan.steps,
        };
        let together = self.plan.strategy == Strategy::Parallel;
        Unit { node, steps, together, after_failure: self.failed && !self.plan.keep_going }
    }

    /// A unit ended, well or badly.
    pub(super) fn ended(&mut self, good: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.failed |= !good;
    }

    /// Nothing begins any more.
    pub(super) fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// Nodes that began.
    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    fn closed(&self) -> bool {
        self.cancelled || self.phase > 0 || (self.failed && !self.plan.keep_going)
    }

    /// One past the last node that this phase takes. After a failure that is where it stands; later phases of
    /// step-first still take every node that began, for what is due on failure or always.
    fn phase_end(&self) -> usize {
        if self.cancelled {
            0
        } else if self.phase > 0 || (self.failed && !self.plan.keep_going) {
            self.begun
        } else {
            self.plan.nodes
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any as arbitrary, prop, prop_assert_eq, proptest};

    use super::*;

    fn plan(strategy: Strategy, steps: usize, nodes: usize, threads: usize) -> Plan {
        Plan { steps, nodes, threads, keep_going: false, strategy, window: 4 }
    }

    /// Runs a schedule on a fake executor that ends units in the order in which they began.
    fn run(plan: Plan, fails: impl Fn(&Unit) -> bool) -> Vec<Unit> {
        let mut schedule = Schedule::new(plan);
        let mut running = std::collections::VecDeque::new();
        let mut done = Vec::new();
        loop {
            while let Some(range) = schedule.announce() {
                schedule.confirm(range.end);
            }
            match schedule.next() {
                Next::Run(unit) => running.push_back(unit),
                next => {
                    let Some(unit) = running.pop_front() else {
                        assert_eq!(next, Next::Done, "waits for nothing: {schedule:?}");
                        return done;
                    };
                    assert!(running.len() < plan.threads);
                    schedule.ended(!fails(&unit));
                    done.push(unit);
                }
            }
        }
    }

    fn shown(units: &[Unit]) -> String {
        let show = |unit: &Unit| {
            let mark = if unit.after_failure { "!" } else { "" };
            format!("{}:{}-{}{mark}", unit.node, unit.steps.start, unit.steps.end)
        };
        units.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_strategy_has_its_order() {
        fn check(strategy: Strategy, threads: usize, expect: &str) {
            assert_eq!(shown(&run(plan(strategy, 2, 3, threads), |_| false)), expect);
        }
        check(Strategy::NodeFirst, 1, "0:0-2 1:0-2 2:0-2");
        check(Strategy::Parallel, 2, "0:0-2 1:0-2 2:0-2");
        check(Strategy::StepFirst, 1, "0:0-1 1:0-1 2:0-1 0:1-2 1:1-2 2:1-2");
    }

    #[test]
    fn a_failure_lets_nodes_in_flight_end() {
        fn check(strategy: Strategy, threads: usize, keep_going: bool, expect: &str) {
            let plan = Plan { keep_going, ..plan(strategy, 2, 6, threads) };
            assert_eq!(shown(&run(plan, |unit| unit.node == 0 && unit.steps.start == 0)), expect);
        }
        check(Strategy::NodeFirst, 1, false, "0:0-2");
        check(Strategy::NodeFirst, 3, false, "0:0-2 1:0-2 2:0-2");
        check(Strategy::NodeFirst, 3, true, "0:0-2 1:0-2 2:0-2 3:0-2 4:0-2 5:0-2");
        check(Strategy::StepFirst, 2, false, "0:0-1 1:0-1 0:1-2! 1:1-2!");
    }

    #[test]
    fn nothing_begins_before_it_is_confirmed() {
        let mut schedule = Schedule::new(plan(Strategy::NodeFirst, 1, 10, 10));
        assert_eq!(schedule.announce(), Some(0..4));
        assert_eq!(schedule.announce(), None);
        assert_eq!(schedule.next(), Next::Wait);
        schedule.confirm(99);
        for _ in 0..2 {
            assert!(matches!(schedule.next(), Next::Run(_)));
        }
        assert_eq!(schedule.announce(), Some(4..6));
        schedule.cancel();
        assert_eq!((schedule.announce(), schedule.next()), (None, Next::Done));
        assert_eq!(schedule.begun(), 2);
    }

    proptest! {
        #[test]
        fn every_node_that_begins_gets_every_step(
            strategy in prop::sample::select(vec![Strategy::NodeFirst, Strategy::StepFirst, Strategy::Parallel]),
            steps in 1usize..4, nodes in 0usize..20, threads in 1usize..6, keep_going in arbitrary::<bool>(),
            window in 1usize..8, bad in prop::option::of((0usize..20, 0usize..4))
        ) {
            let plan = Plan { steps, nodes, threads, keep_going, strategy, window };
            let units = run(plan, |unit| {
                bad.is_some_and(|(node, step)| unit.node == node && unit.steps.contains(&step))
            });
            let mut ran = std::collections::BTreeMap::<usize, Vec<usize>>::new();
            for unit in &units {
                ran.entry(unit.node).or_default().extend(unit.steps.clone());
            }
            for done in ran.values() {
                prop_assert_eq!(done, &(0..steps).collect::<Vec<_>>());
            }
            let failed = bad.is_some_and(|(node, step)| node < nodes && step < steps);
            if keep_going || !failed {
                prop_assert_eq!(ran.len(), nodes);
            }
        }
    }
}
