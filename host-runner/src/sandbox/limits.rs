//! What one run has used of its limits: counted in one place, for every capability, and reported with the result.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use remit_protocol::{
    Limits, Outcome, SecretName, Size, Span,
    capability::Denial,
    limits::Fuel,
    report::{Limit, Usage},
};
use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

/// Most denials that one run records: a component that asks in a loop does not fill the record.
const MAX_DENIALS: usize = 32;
/// Longest text of a denial that the other half of a run tells.
const MAX_CLAIM: usize = 4 << 10;
/// The limits that are counted where the component runs.
const HERE: [Limit; 6] =
    [Limit::Memory, Limit::Cpu, Limit::Fuel, Limit::Call, Limit::Scratch, Limit::Handles];
/// What one element of a table is charged against the limit of memory.
const TABLE_ELEMENT: usize = 16;
/// Instances, memories and tables of one component; components with a whole interpreter stay far below.
pub(super) const MAX_INSTANCES: usize = 64;
/// Linear memories of one component: its own, and one of an adapter.
pub(super) const MAX_MEMORIES: usize = 4;
/// Tables of one component.
pub(super) const MAX_TABLES: usize = 64;

/// A limit of the remit is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit `{}` of the remit is used up", .0.as_str())]
pub struct OverLimit(pub Limit);

/// What was counted in the half of a run in which the component ran.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// How much was used of each.
    used: [u64; HERE.len()],
    /// The first limit that refused something.
    over: Option<Outcome>,
    denials: Vec<Denial>,
    /// Nanoseconds from the making of the sandbox to its end.
    took: u64,
}

impl Counted {
    /// Changes all texts in it.
    pub(crate) fn each_text(&mut self, change: impl Fn(&mut String)) {
        for denial in &mut self.denials {
            change(&mut denial.permission);
            change(&mut denial.remedy);
        }
    }
}

/// What one run has used, what was refused to it, and which secrets it has seen. Shared by all capabilities of the run.
#[derive(Debug)]
pub struct Account {
    allowed: Limits,
    counters: [AtomicU64; Limit::ALL.len()],
    first_over: OnceLock<Limit>,
    denials: Mutex<Vec<Denial>>,
    revealed: Mutex<Vec<SecretName>>,
    took: AtomicU64,
}

impl Account {
    /// An account on which nothing has been used.
    pub fn new(allowed: Limits) -> Self {
        Self {
            allowed,
            counters: [const { AtomicU64::new(0) }; Limit::ALL.len()],
            first_over: OnceLock::new(),
            denials: Mutex::default(),
            revealed: Mutex::default(),
            took: AtomicU64::new(0),
        }
    }

    /// The limits of the remit.
    pub fn allowed(&self) -> &Limits {
        &self.allowed
    }

    /// Uses `amount` of a limit (bytes, milliseconds or a number), or says that it is used up and takes nothing.
    pub fn charge(&self, limit: Limit, amount: u64) -> Result<(), OverLimit> {
        let most = self.most(limit);
        let counter = &self.counters[limit as usize];
        let taken = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(amount).filter(|sum| *sum <= most)
        });
        taken.map(|_| ()).map_err(|_| self.over(limit))
    }

    /// Uses `amount` of a limit for a moment: what counts is the largest amount at once.
    pub(crate) fn peak(&self, limit: Limit, amount: usize) -> Result<(), OverLimit> {
        let (most, amount) = (self.most(limit), u64::try_from(amount).unwrap_or(u64::MAX));
        self.counters[limit as usize].fetch_max(amount.min(most), Ordering::Relaxed);
        if amount <= most { Ok(()) } else { Err(self.over(limit)) }
    }

    /// How much of a limit is left.
    pub fn left(&self, limit: Limit) -> u64 {
        self.most(limit).saturating_sub(self.used(limit))
    }

    /// How much of a limit is used.
    pub fn used(&self, limit: Limit) -> u64 {
        self.counters[limit as usize].load(Ordering::Relaxed)
    }

    /// Says how much is used, where it was measured instead of counted.
    pub(crate) fn set(&self, limit: Limit, used: u64) {
        self.counters[limit as usize].store(used, Ordering::Relaxed);
    }

    /// Remembers that `limit` refused something.
    pub(crate) fn over(&self, limit: Limit) -> OverLimit {
        self.first_over.get_or_init(|| limit);
        OverLimit(limit)
    }

    /// The first limit that refused something.
    pub fn first_over(&self) -> Option<Limit> {
        self.first_over.get().copied()
    }

    /// Records something that the remit did not allow; beyond a bound, later ones are left out.
    pub fn deny(&self, denial: Denial) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        if denials.len() < MAX_DENIALS && !denials.contains(&denial) {
            denials.push(denial);
        }
    }

    /// Records that the component has seen the value of a secret: the run is tainted.
    pub fn reveal(&self, name: &SecretName) {
        let mut revealed = self.revealed.lock().unwrap_or_else(PoisonError::into_inner);
        if !revealed.contains(name) {
            revealed.push(name.clone());
        }
    }

    pub(crate) fn take_denials(&self) -> Vec<Denial> {
        std::mem::take(&mut self.denials.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn take_revealed(&self) -> Vec<SecretName> {
        std::mem::take(&mut self.revealed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says how long the sandbox was there, without what stands around it.
    pub(crate) fn set_took(&self, took: Duration) {
        self.took.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn took(&self) -> Duration {
        Duration::from_nanos(self.took.load(Ordering::Relaxed))
    }

    /// What only the half in which the component runs can count.
    pub(crate) fn counted(&self) -> Counted {
        let used = HERE.map(|limit| self.used(limit));
        let (over, took) = (self.first_over().map(Outcome::OverLimit), self.took.load(Ordering::Relaxed));
        Counted { used, over, denials: self.take_denials(), took }
    }

    /// Takes over what the other half has counted. It is a claim: it changes nothing that is counted here.
    pub(crate) fn adopt(&self, counted: Counted) {
        for (limit, used) in HERE.into_iter().zip(counted.used) {
            // Time on the processor is measured, not granted: it may be a little more than the limit.
            let most = self.most(limit).saturating_mul(if limit == Limit::Cpu { 2 } else { 1 });
            self.set(limit, used.min(most));
        }
        if let Some(Outcome::OverLimit(limit)) = counted.over
            && HERE.contains(&limit)
        {
            self.over(limit);
        }
        self.took.store(counted.took, Ordering::Relaxed);
        for mut denial in counted.denials {
            for text in [&mut denial.permission, &mut denial.remedy] {
                text.truncate(text.floor_char_boundary(MAX_CLAIM));
            }
            self.deny(denial);
        }
    }

    /// The account as it is reported, after `wall` from beginning to end.
    pub(super) fn usage(&self, wall: Span) -> Usage {
        let size = |limit| Size::from_bytes(self.used(limit));
        let number = |limit| u32::try_from(self.used(limit)).unwrap_or(u32::MAX);
        let used = Limits {
            memory: size(Limit::Memory),
            wall,
            cpu: Span::from_millis(self.used(Limit::Cpu)),
            fuel: if self.allowed.fuel.is_counted() {
                Fuel::new(self.used(Limit::Fuel))
            } else {
                Fuel::UNCOUNTED
            },
            log: size(Limit::Log),
            lines: number(Limit::Lines),
            output: size(Limit::Output),
            call: size(Limit::Call),
            requests: number(Limit::Requests),
            egress: size(Limit::Egress),
            ingress: size(Limit::Ingress),
            processes: number(Limit::Processes),
            scratch: size(Limit::Scratch),
            handles: number(Limit::Handles),
            artifacts: size(Limit::Artifacts),
        };
        Usage { used, allowed: self.allowed }
    }

    fn most(&self, limit: Limit) -> u64 {
        let allowed = &self.allowed;
        match limit {
            Limit::Memory => allowed.memory.bytes(),
            Limit::Cpu => allowed.cpu.as_millis(),
            Limit::Fuel => allowed.fuel.units(),
            Limit::Log => allowed.log.bytes(),
            Limit::Lines => allowed.lines.into(),
            Limit::Output => allowed.output.bytes(),
            Limit::Call => allowed.call.bytes(),
            Limit::Requests => allowed.requests.into(),
            Limit::Egress => allowed.egress.bytes(),
            Limit::Ingress => allowed.ingress.bytes(),
            Limit::Processes => allowed.processes.into(),
            Limit::Scratch => allowed.scratch.bytes(),
            Limit::Handles => allowed.handles.into(),
            Limit::Artifacts => allowed.artifacts.bytes(),
        }
    }
}

/// Sums what all memories and tables of a component hold. Growth beyond the limit ends the run: a component that was told
/// "no" would break off with a message that does not name the limit.
pub(super) struct MemoryLimiter(pub(super) std::sync::Arc<Account>);

impl MemoryLimiter {
    fn grow(&self, current: usize, desired: usize, unit: usize) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current).saturating_mul(unit);
        self.0.charge(Limit::Memory, u64::try_from(more).unwrap_or(u64::MAX))?;
        Ok(true)
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(current, desired, 1)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(current, desired, TABLE_ELEMENT)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_used_up_exactly() {
        let account = Account::new(Limits { log: Size::from_bytes(10), ..Limits::default() });
        assert_eq!(account.charge(Limit::Log, 7), Ok(()));
        assert_eq!(account.charge(Limit::Log, 4), Err(OverLimit(Limit::Log)));
        assert_eq!(account.charge(Limit::Log, 3), Ok(()));
        assert_eq!(account.charge(Limit::Log, u64::MAX), Err(OverLimit(Limit::Log)));
        assert_eq!((account.used(Limit::Log), account.left(Limit::Log)), (10, 0));
        assert_eq!(account.first_over(), Some(Limit::Log));
    }

    #[test]
    fn every_limit_is_counted_apart_and_reported() {
        let account = Account::new(Limits { fuel: Fuel::new(99), ..Limits::MOST });
        for (at, limit) in Limit::ALL.into_iter().enumerate() {
            account.charge(limit, at as u64 + 1).unwrap();
        }
        for (at, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(account.used(limit), at as u64 + 1, "{}", limit.as_str());
        }
        let used = account.usage(Span::from_secs(1)).used;
        assert_eq!((used.memory.bytes(), used.handles, used.wall), (1, 13, Span::from_secs(1)));
        assert_eq!((used.fuel, used.lines, used.call), (Fuel::new(3), 5, Size::from_bytes(7)));
        assert_eq!(Account::new(Limits::MOST).usage(Span::from_secs(0)).used.fuel, Fuel::UNCOUNTED);
    }

    #[test]
    fn of_calls_the_largest_counts() {
        let account = Account::new(Limits { call: Size::from_bytes(10), ..Limits::default() });
        for (bytes, expect) in [(7, Ok(())), (10, Ok(())), (3, Ok(())), (11, Err(OverLimit(Limit::Call)))] {
            assert_eq!(account.peak(Limit::Call, bytes), expect, "{bytes}");
        }
        assert_eq!((account.used(Limit::Call), account.first_over()), (10, Some(Limit::Call)));
    }

    #[test]
    fn what_the_other_half_claims_changes_nothing_that_is_counted_here() {
        let denial = |text: &str| Denial {
            permission: text.to_owned(),
            side: remit_protocol::capability::Side::Request,
            remedy: String::new(),
        };
        let account = Account::new(Limits { requests: 3, handles: 10, ..Limits::default() });
        account.charge(Limit::Requests, 2).unwrap();
        let used = [7, u64::MAX, 0, 8, 9, 11];
        let over = Some(Outcome::OverLimit(Limit::Requests));
        let denials =
            vec![denial(&"x".repeat(10_000)); 1].into_iter().chain((0..99).map(|n| denial(&n.to_string())));
        account.adopt(Counted { used, over, denials: denials.collect(), took: 5 });
        assert_eq!((account.used(Limit::Requests), account.first_over()), (2, None));
        assert_eq!((account.used(Limit::Memory), account.used(Limit::Handles)), (7, 10));
        assert_eq!(account.used(Limit::Cpu), 2 * account.allowed().cpu.as_millis());
        let denials = account.take_denials();
        assert_eq!((denials.len(), denials[0].permission.len()), (MAX_DENIALS, MAX_CLAIM));
        let over = Some(Outcome::OverLimit(Limit::Memory));
        account.adopt(Counted { used, over, denials: Vec::new(), took: 0 });
        assert_eq!(account.first_over(), Some(Limit::Memory));
    }

    #[test]
    fn memories_and_tables_are_summed() {
        let account =
            std::sync::Arc::new(Account::new(Limits { memory: Size::from_mib(1), ..Limits::default() }));
        let mut limiter = MemoryLimiter(account.clone());
        assert!(limiter.memory_growing(0, 512 << 10, None).unwrap());
        assert!(limiter.table_growing(0, 16 << 10, None).unwrap());
        assert!(limiter.memory_growing(512 << 10, 900 << 10, None).is_err());
        assert_eq!(account.first_over(), Some(Limit::Memory));
    }
}
