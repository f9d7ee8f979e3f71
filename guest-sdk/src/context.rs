//! What a step may know of its run, and how the run is told about.

use std::time::Duration;

use crate::{Fail, Node, Span, host};

/// What a step may know of its run, and how it tells about it. The attribute hands it over; in native tests
/// `fake::Fake::run` does.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context {}

impl Context {
    pub(crate) fn new() -> Self {
        Self {}
    }

    /// The node that the step is being run for; none in a workflow step and in a node source.
    pub fn node(&self) -> Option<Node> {
        host::node()
    }

    /// The node that the step is being run for, or the failure of a node step that a job runs once.
    pub fn target(&self) -> Result<Node, Fail> {
        self.node().ok_or_else(|| Fail::new("this step runs on a node: write `per: node` in the job"))
    }

    /// The execution's id.
    pub fn execution(&self) -> String {
        host::execution()
    }

    /// The step's name in the job.
    pub fn step(&self) -> String {
        host::step()
    }

    /// The number of this try, from 1.
    pub fn attempt(&self) -> u32 {
        host::attempt()
    }

    /// The same for every try of this step on this node in this execution, and for nothing else. A server that knows it
    /// does a repeated request once.
    pub fn idempotency_key(&self) -> String {
        host::idempotency_key()
    }

    /// Tells how far the run is. A total of 0 means that it is not known.
    pub fn progress(&self, done: impl TryInto<u64>, total: impl TryInto<u64>) {
        host::progress(done.try_into().unwrap_or(0), total.try_into().unwrap_or(0));
    }

    /// True as soon as the run has been cancelled: end soon, by [`Context::check_cancelled`] or with [`Fail::cancelled`].
    pub fn cancelled(&self) -> bool {
        host::cancelled()
    }

    /// Ends the step as cancelled, by `?`, if the run has been cancelled: for loops that wait for nothing.
    pub fn check_cancelled(&self) -> Result<(), Fail> {
        if self.cancelled() { Err(Fail::cancelled()) } else { Ok(()) }
    }

    /// What is left until the wall clock limit ends the run.
    pub fn remaining(&self) -> Duration {
        Duration::from_millis(host::remaining())
    }

    /// Asks again and again, with `every` between, until something is given; none when `at_most` is over, or what is left of
    /// the run. The first time is at once.
    pub fn poll<T>(
        &self,
        every: Span,
        at_most: Span,
        mut ask: impl FnMut() -> Result<Option<T>, Fail>,
    ) -> Result<Option<T>, Fail> {
        let begun = self.remaining();
        loop {
            if let Some(found) = ask()? {
                return Ok(Some(found));
            }
            let waited = begun.saturating_sub(self.remaining());
            let late = waited + every.duration() > at_most.duration();
            if late || self.remaining() <= every.duration() {
                return Ok(None);
            }
            self.sleep(every.duration())?;
        }
    }

    /// The time since the beginning of 1970 in UTC, by the clock of the runner's host.
    pub fn now(&self) -> Duration {
        host::now()
    }

    /// Waits, rounded up to whole milliseconds. When the run is cancelled meanwhile, it ends at once with an error that ends
    /// the step as cancelled.
    pub fn sleep(&self, time: Duration) -> Result<(), Fail> {
        let milliseconds = time.as_nanos().div_ceil(1_000_000);
        host::sleep(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }
}
