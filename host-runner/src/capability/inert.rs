//! Interfaces that a toolchain imports and a step does not use: they exist, so that the component links, and nothing is
//! behind them. There is no code here that opens a socket or a file, so nothing a guest says can lead to one.
//!
//! What may fail says `access-denied`, what lists something lists nothing, and what can only be called on a thing that no
//! function gives out ends the run.

use std::collections::BTreeSet;

use remit_protocol::capability::{Denial, Side};
use wasmtime::{
    Engine, StoreContextMut,
    component::{Component, Linker, ResourceDynamic, ResourceType, Type, Val, types::ComponentItem},
};

use crate::sandbox::State;

/// The resources of these interfaces; the place is what the engine tells them apart by.
const RESOURCES: [&str; 8] = [
    "descriptor",
    "directory-entry-stream",
    "network",
    "tcp-socket",
    "udp-socket",
    "incoming-datagram-stream",
    "outgoing-datagram-stream",
    "resolve-address-stream",
];
/// The one resource that is given out: C libraries ask for it before they ask for a socket.
const NETWORK: u32 = 2;
/// What `wasi:sockets` and `wasi:filesystem` call a permission that is lacking.
const DENIED: &str = "access-denied";

/// Links the interfaces in `inert` as `component` imports them.
pub(super) fn link(
    linker: &mut Linker<State>,
    engine: &Engine,
    component: &Component,
    inert: &BTreeSet<String>,
) -> wasmtime::Result<()> {
    for (interface, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if !inert.contains(interface) {
            continue;
        }
        let mut linked = linker.instance(interface)?;
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(function) => {
                    let answer = Answer::of(name, function.results().next().as_ref());
                    let permission = format!("{interface} {name}");
                    linked.func_new(name, move |mut store, _, given, results| {
                        // A handle that the guest lends has to be given back before the call ends.
                        for value in given {
                            if let Val::Resource(lent) = value {
                                lent.try_into_resource_dynamic(&mut store)?;
                            }
                        }
                        let value = answer.give(store, &permission)?;
                        if let (Some(place), Some(value)) = (results.first_mut(), value) {
                            *place = value;
                        }
                        Ok(())
                    })?;
                }
                ComponentItem::Resource(_) => {
                    let own = RESOURCES.into_iter().zip(0..).find(|(resource, _)| *resource == name);
                    // Another interface's resource is that interface's to define.
                    if let Some((_, place)) = own {
                        linked.resource(name, ResourceType::host_dynamic(place), |_, _| Ok(()))?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// How an inert function answers: decided by its type when the component is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// `access-denied`, and the record says that it was asked for.
    Denied,
    /// An empty list.
    Nothing,
    /// No value.
    Absent,
    /// A network that leads nowhere.
    Network,
    /// The run ends: nothing gives out what this is called on.
    Impossible,
}

impl Answer {
    fn of(name: &str, result: Option<&Type>) -> Self {
        match result {
            Some(Type::Result(result)) => match result.err() {
                Some(Type::Enum(codes)) if codes.names().any(|code| code == DENIED) => Self::Denied,
                _ => Self::Impossible,
            },
            Some(Type::List(_)) => Self::Nothing,
            Some(Type::Option(_)) => Self::Absent,
            Some(Type::Own(_)) if name == "instance-network" => Self::Network,
            _ => Self::Impossible,
        }
    }

    fn give(self, store: StoreContextMut<'_, State>, permission: &str) -> wasmtime::Result<Option<Val>> {
        Ok(match self {
            Self::Denied => {
                store.data().account.deny(Denial {
                    permission: permission.to_owned(),
                    side: Side::Request,
                    remedy: "nothing: a profile's interfaces are inert; ask for `[[http]]`, `[[exec]]`, `[[ssh]]` or \
                             `[[files]]` and use the SDK"
                        .to_owned(),
                });
                Some(Val::Result(Err(Some(Box::new(Val::Enum(DENIED.to_owned()))))))
            }
            Self::Nothing => Some(Val::List(Vec::new())),
            Self::Absent => Some(Val::Option(None)),
            Self::Network => {
                Some(Val::Resource(ResourceDynamic::new_own(0, NETWORK).try_into_resource_any(store)?))
            }
            Self::Impossible => {
                return Err(wasmtime::format_err!(
                    "{permission} was called, and the component's profile has nothing to call it on"
                ));
            }
        })
    }
}
