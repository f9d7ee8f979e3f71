//! Runs a guest's call to its end, or to the first of its bounds.

use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::Ordering,
    task::Poll,
    time::{Duration, Instant},
};

use remit_protocol::report::Limit;
use tokio::time::sleep_until;
use wasmtime::Store;

use super::{
    prepare::{Answer, Export, Linked},
    state::State,
};
use crate::confine::Behind;

/// Which bound ended a call from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its time ran out.
    Wall,
    /// It computed for too long.
    Cpu,
    /// It was cancelled and did not end by itself.
    Cancelled,
}

/// A call that has computed for this long waits behind those that have not.
pub(crate) const LONG: Duration = Duration::from_millis(20);

/// Ticks in a row after which a call counts as one that only computes.
const TICKS: u32 = 2;

/// What came of a call: what the guest answered or how it broke off, or what stopped it.
pub(super) type Driven = Result<wasmtime::Result<Answer>, Stop>;

/// Calls one of the component's functions. Every poll of the call is timed. A guest that computes gives way at each tick of
/// the engine, so that the bounds are looked at even if nothing else ever wakes it.
pub(super) async fn drive(store: &mut Store<State>, linked: &Linked, export: Export) -> Driven {
    let (account, ending, deadline, ticked, mut place) = {
        let state = store.data();
        let place = state.tired.map(Place::new);
        (state.account.clone(), state.ending.clone(), state.deadline, state.ticked.clone(), place)
    };
    let budget = account.allowed().cpu.duration();
    let mut spent = Duration::ZERO;
    let mut call = pin!(linked.call(store, export));
    let mut wall = pin!(sleep_until(deadline));
    let mut cut = pin!(ending.over());
    let driven = poll_fn(|context| {
        let begun = now();
        let polled = call.as_mut().poll(context);
        spent += begun.elapsed();
        if let Poll::Ready(answer) = polled {
            return Poll::Ready(Ok(answer));
        }
        let computes = ticked.swap(false, Ordering::Relaxed);
        if let Some(place) = &mut place {
            place.is_polled(spent, computes);
        }
        if spent > budget {
            return Poll::Ready(Err(Stop::Cpu));
        }
        if wall.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Stop::Wall));
        }
        if cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Stop::Cancelled));
        }
        Poll::Pending
    })
    .await;
    if matches!(driven, Err(Stop::Cpu)) {
        account.over(Limit::Cpu);
    }
    account.set(Limit::Cpu, u64::try_from(spent.as_millis()).unwrap_or(u64::MAX));
    driven
}

/// Where a call's thread is in the kernel's order.
struct Place {
    behind: Behind,
    gone: bool,
    /// Ticks up to which it has computed without waiting for anything.
    ticks: u32,
}

impl Place {
    fn new(behind: Behind) -> Self {
        Self { behind, gone: false, ticks: 0 }
    }

    /// A call was polled that has computed for so long by now, `computes`: up to a tick, and it did not wait for anything.
    fn is_polled(&mut self, spent: Duration, computes: bool) {
        let before = self.is_long();
        if spent > LONG && !self.gone {
            self.gone = true;
            self.behind.go();
        }
        self.ticks = if computes { self.ticks.saturating_add(1) } else { 0 };
        if self.is_long() != before {
            self.behind.turns(!before);
        }
    }

    fn is_long(&self) -> bool {
        self.gone && self.ticks >= TICKS
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_long() {
            self.behind.turns(false);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long a poll takes, which no caller can know")]
fn now() -> Instant {
    Instant::now()
}
