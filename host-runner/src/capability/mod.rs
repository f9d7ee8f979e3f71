//! What a component may ask of its host: one file a capability, with the same name as in `wit/`, in
//! `remit_protocol::capability` and in the guest SDK. `log`, `context` and `nodes` are the base that needs no grant.
//!
//! Each file has three parts: the guest's face, which does nothing but hand its call on; the [`Broker`](crate::broker)'s, which
//! checks it against the remit, counts and redacts; and the effect behind one small async trait with owned arguments.
//!
//! *Invariant:* a host function answers with a value that the guest can handle, or with a [`Fault::Halt`] that ends the
//! run; a fault of the host is never told to the guest as its own, nor the other way round.

pub mod context;
pub mod exec;
pub mod files;
pub mod http;
pub(crate) mod imports;
mod inert;
pub mod log;
pub mod nodes;
pub mod secrets;
pub mod ssh;
pub mod tcp;

use std::sync::Arc;

use remit_protocol::{capability::Denial, report::Limit};
use wasmtime::{
    Engine,
    component::{Component, HasData, HasSelf, Linker, ResourceTable},
};

pub(crate) use self::imports::{Class, Imports};
use crate::{
    launcher::Launch,
    sandbox::{Account, OverLimit, State},
};

/// Rust for the packages in `wit/`.
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit", "../wit/step", "../wit/exec", "../wit/ssh", "../wit/tcp", "../wit/secrets", "../wit/files"],
        inline: "
            package remit:host;
            world host {
                import remit:step/log@0.1.0;
                import remit:step/context@0.1.0;
                import remit:step/nodes@0.1.0;
                import remit:exec/run@0.1.1;
                import remit:ssh/run@0.1.1;
                import remit:tcp/connect@0.1.0;
                import remit:secrets/reveal@0.1.0;
                import remit:files/named@0.1.1;
                import remit:files/artifacts@0.1.1;
            }
        ",
        world: "remit:host/host",
        imports: {
            "remit:step/log": async | trappable,
            "remit:step/context.sleep": async | trappable,
            "remit:step/context": trappable,
            "remit:step/nodes": async | trappable,
            default: async | trappable,
        },
        trappable_error_type: {
            "remit:step/types.capability-error" => crate::capability::Fault,
        },
        with: {
            "remit:exec/run.child": crate::capability::exec::Child,
            "remit:files/named.file": crate::capability::files::File,
            "remit:files/artifacts.artifact": crate::capability::files::Begun,
            "remit:ssh/run.command": crate::capability::ssh::Command,
            "remit:tcp/connect.connection": crate::capability::tcp::Connection,
        },
        require_store_data_send: true,
    });
}

pub(crate) use bindings::remit::step::types;
use types::CapabilityError;

/// What capabilities do to the world, one trait each: in this process, or in another one.
pub struct Effects {
    /// Starts programs.
    pub exec: Arc<dyn Launch>,
    /// Reads named files.
    pub files: Arc<dyn files::Shelf>,
}

impl Effects {
    /// All of them in this process, but for programs, which `exec` starts.
    pub fn local(exec: Arc<dyn Launch>) -> Self {
        Self { exec, files: Arc::new(files::Local) }
    }
}

/// How a host function does not do what it was asked.
#[derive(Debug)]
pub enum Fault {
    /// The guest is told, and decides.
    Answer(CapabilityError),
    /// The run ends.
    Halt(wasmtime::Error),
}

impl Fault {
    /// It was allowed and did not work.
    pub(crate) fn failed(why: impl std::fmt::Display) -> Self {
        Self::Answer(CapabilityError::Failed(why.to_string()))
    }

    /// The remit does not allow it: the record gets the whole denial, the guest only the permission's name.
    pub(crate) fn denied(account: &Account, denial: Denial) -> Self {
        let answer = CapabilityError::Denied(denial.permission.clone());
        account.deny(denial);
        Self::Answer(answer)
    }

    /// The run has been cancelled.
    pub(crate) fn cancelled() -> Self {
        Self::Answer(CapabilityError::Cancelled)
    }
}

impl From<OverLimit> for Fault {
    fn from(OverLimit(limit): OverLimit) -> Self {
        Self::Answer(CapabilityError::OverLimit(limit.as_str().to_owned()))
    }
}

impl From<wasmtime::component::ResourceTableError> for Fault {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        match error {
            wasmtime::component::ResourceTableError::Full => Self::Halt(OverLimit(Limit::Handles).into()),
            other => Self::Halt(other.into()),
        }
    }
}

impl types::Host for State {
    fn convert_capability_error(&mut self, fault: Fault) -> wasmtime::Result<CapabilityError> {
        match fault {
            Fault::Answer(answer) => Ok(answer),
            Fault::Halt(error) => Err(error),
        }
    }
}

/// The resource table alone, as the stream interfaces of WASI want it.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links what every component may have: streams, clocks, random numbers, an empty environment, log and context.
fn link_base(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use bindings::remit::step;
    use wasmtime_wasi::{
        WasiView, cli::WasiCli, cli::WasiCliView, clocks::WasiClocks, clocks::WasiClocksView,
        p2::bindings as wasi, random::WasiRandom,
    };

    wasi::io::error::add_to_linker::<State, Table>(linker, |state| &mut state.table)?;
    wasi::io::poll::add_to_linker::<State, Table>(linker, |state| &mut state.table)?;
    wasi::io::streams::add_to_linker::<State, Table>(linker, |state| &mut state.table)?;
    wasi::clocks::wall_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    wasi::clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    wasi::random::random::add_to_linker::<State, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    wasi::random::insecure::add_to_linker::<State, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    wasi::random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, |state| {
        state.ctx().ctx.random()
    })?;
    wasi::cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasi::cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    step::types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    step::log::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    step::context::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    step::nodes::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// A linker that holds the base, the capabilities of `imports` and its inert interfaces, and nothing else: what
/// `component` imports beyond that does not link, before any of its code runs.
pub(crate) fn linker(
    engine: &Engine,
    component: &Component,
    imports: &Imports,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    link_base(&mut linker)?;
    inert::link(&mut linker, engine, component, &imports.inert)?;
    for class in &imports.classes {
        match class {
            Class::Http => http::link(&mut linker)?,
            Class::Exec => exec::link(&mut linker)?,
            Class::Ssh => ssh::link(&mut linker)?,
            Class::Tcp => tcp::link(&mut linker)?,
            Class::Scratch => files::link_scratch(&mut linker)?,
            Class::NamedFiles => files::link_named(&mut linker)?,
            Class::Artifacts => files::link_artifacts(&mut linker)?,
            Class::Reveal => secrets::link(&mut linker)?,
        }
    }
    Ok(linker)
}
