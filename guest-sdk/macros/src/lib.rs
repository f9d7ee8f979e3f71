//! The attributes `#[step]` and `#[node_source]` and the derive `JsonSchema` of `remit-sdk`.
//!
//! They hold no behaviour: what a run does is in `remit_sdk`, where it can be read and tested without expanding anything.

use proc_macro::TokenStream;

mod export;
mod schema;

/// Makes a function the step of its crate: `fn(input: I, context: &Context) -> Result<O, Fail>`.
///
/// `I` is `Deserialize` and `JsonSchema`, `O` is `Serialize` and `JsonSchema`. The function stays callable as it is; on
/// `wasm32` the crate exports `run` and `describe` of the world `remit:step/step`. One a crate.
#[proc_macro_attribute]
pub fn step(arguments: TokenStream, item: TokenStream) -> TokenStream {
    export::expand(&export::STEP, arguments.into(), item.into()).into()
}

/// Makes a function the node source of its crate: `fn(input: I, nodes: &mut Nodes, context: &Context) -> Result<(), Fail>`.
///
/// `I` is `Deserialize` and `JsonSchema`. The function stays callable as it is; on `wasm32` the crate exports `discover` and
/// `describe` of the world `remit:step/node-source`. One a crate.
#[proc_macro_attribute]
pub fn node_source(arguments: TokenStream, item: TokenStream) -> TokenStream {
    export::expand(&export::NODE_SOURCE, arguments.into(), item.into()).into()
}

/// Derives `schemars::JsonSchema`, as schemars does and with the same attributes, without a dependency on it.
#[proc_macro_derive(JsonSchema, attributes(schemars, serde, validate, garde))]
pub fn json_schema(item: TokenStream) -> TokenStream {
    schema::expand(item.into()).into()
}
