//! The engine: one configuration for compiling and for running, and the thread whose ticks interrupt guests.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use remit_protocol::Limits;
use serde::{Deserialize, Serialize};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
};

use super::limits::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES};

/// How often a guest that computes is interrupted: its limits are looked at, and others get their turn.
const TICK: Duration = Duration::from_millis(10);
/// After so many ticks without anything that runs the ticks rest.
const QUIET: u32 = 100;
/// Stack of a guest; recursion beyond it is a trap.
const GUEST_STACK: usize = 512 << 10;
/// Stack of guest and host calls together.
const FIBER_STACK: usize = 1 << 20;
/// Memory of a slot that stays mapped between two runs: what a small component touches.
const KEEP_MEMORY: usize = 512 << 10;
/// Stack of a slot that stays mapped between two runs.
const KEEP_STACK: usize = 16 << 10;
/// Most elements of a table; interpreters have some ten thousand functions.
const TABLE_ELEMENTS: usize = 40_000;
/// Core instances and tables that a slot counts on: components of Rust have three or four.
const USUAL_INSTANCES: u32 = 16;

/// Whether native code counts the fuel that it uses; it is one or the other when it is compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Metering {
    /// It does not: it computes faster.
    #[default]
    Off,
    /// It does.
    On,
}

impl Metering {
    /// As it is wanted where `counted`.
    pub fn where_counted(counted: bool) -> Self {
        if counted { Self::On } else { Self::Off }
    }
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine could not be started: {0}")]
pub struct EngineError(String);

/// What decides over generated code: equal for compiling and running, or native code does not load.
fn config(metering: Metering) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .consume_fuel(metering == Metering::On)
        .concurrency_support(false)
        .shared_memory(false)
        .wasm_threads(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_tail_call(true)
        .memory_init_cow(true)
        .guard_before_linear_memory(true)
        .signals_based_traps(true)
        .generate_address_map(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(20))
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(FIBER_STACK)
        .async_stack_zeroing(true);
    config
}

/// The engine that compiles; it lives in the short-lived `remit-runner compile` process and never runs a guest.
pub(super) fn compiling(metering: Metering) -> Result<Engine, EngineError> {
    Engine::new(&config(metering)).map_err(|error| EngineError(format!("{error:#}")))
}

/// The engine that runs: without a compiler, with `slots` sandboxes pooled. Where the address space is too short for
/// the pool it allocates each sandbox anew, and says so.
pub(super) fn running(slots: u32, metering: Metering) -> Result<Engine, EngineError> {
    let mut pooled = config(metering);
    pooled.enable_compiler(false).allocation_strategy(pool(slots));
    let reason = match Engine::new(&pooled) {
        Ok(engine) => return Ok(engine),
        Err(error) => format!("{error:#}"),
    };
    tracing::warn!(
        slots,
        reason,
        "sandboxes are not pooled, each step starts more slowly: lift LimitAS, or lower `slots`"
    );
    idle(metering)
}

fn pool(slots: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_stacks(slots)
        .total_core_instances(slots.saturating_mul(USUAL_INSTANCES))
        .total_tables(slots.saturating_mul(USUAL_INSTANCES))
        .total_memories(slots.saturating_mul(2))
        .max_core_instances_per_component(u32::try_from(MAX_INSTANCES).unwrap_or(u32::MAX))
        .max_tables_per_component(u32::try_from(MAX_TABLES).unwrap_or(u32::MAX))
        .max_memories_per_component(u32::try_from(MAX_MEMORIES).unwrap_or(u32::MAX))
        .max_memory_size(usize::try_from(Limits::MOST.memory.bytes()).unwrap_or(usize::MAX))
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(slots.min(64))
        .linear_memory_keep_resident(KEEP_MEMORY)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(KEEP_STACK)
        .pagemap_scan(Enabled::Auto);
    InstanceAllocationStrategy::Pooling(pool)
}

/// What native code of this program depends on beside the component: version, settings and processor.
pub(super) fn compatibility(engine: &Engine) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};

    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// An engine that runs nothing: it is asked what it would accept.
pub(super) fn idle(metering: Metering) -> Result<Engine, EngineError> {
    let mut config = config(metering);
    config.enable_compiler(false).allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config).map_err(|error| EngineError(format!("{error:#}")))
}

/// The thread that ticks. It rests when nothing has run for a while, and ends with the engine.
pub(super) struct Ticks {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    resting: AtomicBool,
}

/// Keeps the ticks coming.
pub(super) struct Ticking<'a>(&'a Shared);

impl Ticks {
    /// Starts the thread.
    pub(super) fn start(engine: &Engine) -> Result<Self, EngineError> {
        let (weak, shared) = (engine.weak(), Arc::<Shared>::default());
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
                let mut quiet = 0;
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                    quiet = if shared.running.load(Ordering::SeqCst) == 0 { quiet + 1 } else { 0 };
                    if quiet > QUIET {
                        shared.rest();
                        quiet = 0;
                    }
                }
            })
        };
        let thread = thread.map_err(|error| EngineError(format!("no thread for the ticks: {error}")))?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// To be held while something runs.
    pub(super) fn ticking(&self) -> Ticking<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.resting.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ticking(&self.shared)
    }
}

impl Shared {
    /// Whoever begins to run looks at `resting` after it has counted itself, and this looks the other way round: one of
    /// the two sees the other.
    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) == 0 {
            std::thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}
