//! The half of the sandbox in which a component runs: an engine, one component, and no way to anything else.

use std::sync::Arc;

use remit_protocol::{RefusalCode, manifest::Manifest};
use wasmtime::Engine;

use super::{
    Account, HostFault, LoadError, Metering, drive, engine,
    engine::{EngineError, Ticks},
    judge,
    judge::Said,
    prepare,
    prepare::{Export, Linked},
    state,
    state::Task,
};
use crate::{broker::Access, capability::log::Words};

/// One component, loaded in this process.
pub(crate) struct Stage {
    engine: Engine,
    linked: Linked,
}

impl Stage {
    /// Starts an engine and loads native code of a component of which `manifest` tells; nothing of it runs.
    pub(crate) fn load(
        slots: u32,
        native: &[u8],
        metering: Metering,
        manifest: &Manifest,
    ) -> Result<Self, LoadError> {
        let engine = engine::running(slots.max(1), metering)
            .map_err(|error| LoadError { code: RefusalCode::Compile, detail: error.to_string() })?;
        let linked = prepare::load(&engine, native, manifest)?;
        Ok(Self { engine, linked })
    }

    /// Starts the thread that interrupts what runs.
    pub(crate) fn begin(self) -> Result<Running, EngineError> {
        let ticks = Ticks::start(&self.engine)?;
        Ok(Running { stage: self, ticks })
    }
}

/// A stage on which components run.
pub(crate) struct Running {
    stage: Stage,
    ticks: Ticks,
}

impl Running {
    /// Runs the component once. What it used is on `account`.
    pub(crate) async fn run(
        &self,
        task: Task,
        export: Export,
        account: Arc<Account>,
        log: Arc<dyn Words>,
        broker: Access,
    ) -> Result<Said, HostFault> {
        let _ticking = self.ticks.ticking();
        let mut store = state::store(&self.stage.engine, task, account, log, broker)?;
        let driven = drive::drive(&mut store, &self.stage.linked, export).await;
        let (_, said, _) = judge::finish(store, driven).await;
        Ok(said)
    }
}
