//! A component that is loaded and linked, ready to be run many times.

use std::{collections::BTreeSet, sync::Arc};

use remit_protocol::{
    ComponentName, Limits, RefusalCode,
    capability::{Denial, Remit, Requests},
    manifest::{Kind, Manifest},
};
use wasmtime::{
    Engine, Store,
    component::{Component, ComponentExportIndex, InstancePre},
};

use super::{LoadError, state::State};
use crate::{
    broker::apart::Component as Apart,
    capability::{self, Class, Imports, types::End},
    worker::Recipe,
};

/// A component that can be run, as often as is wanted.
pub struct Prepared {
    pub(super) form: Form,
    classes: BTreeSet<Class>,
    kind: Kind,
    name: ComponentName,
    requests: Requests,
    limits: Limits,
    apart: Option<Arc<Apart>>,
}

/// Where the component's code is.
pub(super) enum Form {
    /// Loaded and linked in this process.
    Here(Linked),
    /// Ready to be loaded by workers.
    Away(Recipe),
}

/// A component, loaded and linked with the capabilities that its manifest asks for.
pub(super) struct Linked {
    pre: InstancePre<State>,
    main: ComponentExportIndex,
    describe: ComponentExportIndex,
    kind: Kind,
}

/// Which function is called.
pub(crate) enum Export {
    /// `run` or `discover`, with its input.
    Main(String),
    /// `describe`.
    Describe,
}

/// What a call gave back.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// `run`: the output document.
    Output(String),
    /// `discover`.
    Discovered,
    /// `describe`: the schemas.
    Described(String),
    /// The component says that it did not succeed.
    Ended(Ending),
}

/// How a component says that it did not succeed.
#[derive(Debug, PartialEq)]
pub(super) enum Ending {
    Failed { message: String, fields: Vec<(String, String)> },
    Cancelled,
}

impl From<End> for Answer {
    fn from(end: End) -> Self {
        Self::Ended(match end {
            End::Failed(failure) => Ending::Failed { message: failure.message, fields: failure.fields },
            End::Cancelled => Ending::Cancelled,
        })
    }
}

/// Loads native code and links it; nothing of the component runs.
pub(super) fn load(engine: &Engine, native: &[u8], manifest: &Manifest) -> Result<Linked, LoadError> {
    let refuse = |code, detail: String| LoadError { code, detail };
    let component = deserialize(engine, native)
        .map_err(|error| refuse(RefusalCode::Compile, format!("its native code does not load: {error:#}")))?;
    let imports = imports(engine, &component, manifest)?;
    let pre = capability::linker(engine, &component, &imports)
        .and_then(|linker| linker.instantiate_pre(&component))
        .map_err(|error| refuse(RefusalCode::Unsupported, format!("it cannot be linked: {error:#}")))?;
    let (interface, main) = match manifest.kind {
        Kind::Step => ("remit:step/main@0.1.0", "run"),
        Kind::NodeSource => ("remit:step/source@0.1.0", "discover"),
    };
    let exports = component.get_export_index(None, interface);
    let export = |name: &str| {
        exports
            .and_then(|exports| component.get_export_index(Some(&exports), name))
            .ok_or_else(|| refuse(RefusalCode::World, format!("it does not export `{name}` of {interface}")))
    };
    let (main, describe) = (export(main)?, export("describe")?);
    component
        .initialize_copy_on_write_image()
        .map_err(|error| refuse(RefusalCode::Compile, format!("no memory for it: {error:#}")))?;
    Ok(Linked { pre, main, describe, kind: manifest.kind })
}

#[expect(unsafe_code, clippy::disallowed_methods, reason = "the one place where native code is loaded")]
fn deserialize(engine: &Engine, native: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are of a `NativeCode`, which holds what this engine's compiler wrote, unchanged: it comes straight
    // from `compile` or from the cache, which has checked a MAC over it with a key that only this runner has. A worker
    // reads them out of memory that the runner has sealed.
    unsafe { Component::deserialize(engine, native) }
}

/// What the loaded code imports, checked once more against the manifest: the last look before anything is linked.
fn imports(engine: &Engine, component: &Component, manifest: &Manifest) -> Result<Imports, LoadError> {
    let refuse = |detail| LoadError { code: RefusalCode::Imports, detail };
    let ty = component.component_type();
    let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
    if let Some(extra) = imports.iter().find(|import| !manifest.imports.contains(import)) {
        return Err(refuse(format!("it imports {extra}, which its manifest does not list")));
    }
    capability::imports::check(&imports, &manifest.requests, manifest.profile).map_err(refuse)
}

impl Prepared {
    /// What `manifest` says of it, and where its code is.
    pub(super) fn new(manifest: &Manifest, form: Form, apart: Option<Arc<Apart>>) -> Result<Self, LoadError> {
        let imports = capability::imports::check(&manifest.imports, &manifest.requests, manifest.profile);
        let imports = imports.map_err(|detail| LoadError { code: RefusalCode::Imports, detail })?;
        Ok(Self {
            form,
            classes: imports.classes,
            kind: manifest.kind,
            name: manifest.name.clone(),
            requests: manifest.requests.clone(),
            limits: manifest.limits,
            apart,
        })
    }

    /// The component as the broker process is given it, where there is one.
    pub(crate) fn apart(&self) -> Option<&Arc<Apart>> {
        self.apart.as_ref()
    }

    /// What it asks for, and the limits that it asks for.
    pub(crate) fn asks(&self) -> (&Requests, Limits) {
        (&self.requests, self.limits)
    }

    /// True if runs of it may take something from outside of the sandbox.
    pub(super) fn wants_anything(&self) -> bool {
        self.classes.iter().any(|class| !matches!(class, Class::Scratch | Class::Artifacts))
    }

    /// Step or node source.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The component's name.
    pub fn name(&self) -> &ComponentName {
        &self.name
    }

    /// True if a run under `remit` has a scratch directory.
    pub(super) fn scratch(&self, remit: &Remit) -> bool {
        self.classes.contains(&Class::Scratch) && remit.files().scratch
    }

    /// What the component imports and `remit` gives no permission for.
    pub(super) fn lacking(&self, remit: &Remit) -> Vec<Denial> {
        self.classes.iter().filter_map(|class| class.lacking(remit)).collect()
    }

    /// True if runs of it may have a scratch directory.
    pub(super) fn wants_scratch(&self) -> bool {
        self.classes.contains(&Class::Scratch)
    }
}

impl Linked {
    /// The engine that it was loaded by.
    pub(super) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    /// Instantiates the component and calls one of its functions.
    pub(super) async fn call(&self, store: &mut Store<State>, export: Export) -> wasmtime::Result<Answer> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        match (export, self.kind) {
            (Export::Describe, _) => {
                let call = instance.get_typed_func::<(), (String,)>(&mut *store, &self.describe)?;
                Ok(Answer::Described(call.call_async(store, ()).await?.0))
            }
            (Export::Main(input), Kind::Step) => {
                let call =
                    instance.get_typed_func::<(&str,), (Result<String, End>,)>(&mut *store, &self.main)?;
                Ok(call.call_async(store, (&input,)).await?.0.map_or_else(Answer::from, Answer::Output))
            }
            (Export::Main(input), Kind::NodeSource) => {
                let call = instance.get_typed_func::<(&str,), (Result<(), End>,)>(&mut *store, &self.main)?;
                let found = call.call_async(store, (&input,)).await?.0;
                Ok(found.map_or_else(Answer::from, |()| Answer::Discovered))
            }
        }
    }
}
