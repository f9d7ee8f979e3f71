//! The attributes: the function as it was, a check of its form, and on `wasm32` the exports.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, FnArg, ItemFn, parse2, spanned::Spanned};

/// What one attribute makes of a function.
pub(crate) struct Export {
    attribute: &'static str,
    form: &'static str,
    arguments: usize,
    describe: &'static str,
    world: &'static str,
    interface: &'static str,
    export: &'static str,
    call: &'static str,
    output: fn() -> TokenStream,
}

pub(crate) const STEP: Export = Export {
    attribute: "step",
    form: "fn name(input: Input, context: &Context) -> Result<Output, Fail>",
    arguments: 2,
    describe: "describe_step",
    world: "step_world",
    interface: "main",
    export: "export_step",
    call: "run",
    output: || quote!(::std::string::String),
};

pub(crate) const NODE_SOURCE: Export = Export {
    attribute: "node_source",
    form: "fn name(input: Input, nodes: &mut Nodes, context: &Context) -> Result<(), Fail>",
    arguments: 3,
    describe: "describe_node_source",
    world: "node_source_world",
    interface: "source",
    export: "export_node_source",
    call: "discover",
    output: || quote!(()),
};

pub(crate) fn expand(export: &Export, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let checked = parse2::<ItemFn>(item.clone()).and_then(|function| {
        check(export, &arguments, &function)?;
        Ok(function)
    });
    match checked {
        Ok(function) => glue(export, &function),
        Err(error) => {
            let error = error.to_compile_error();
            quote!(#error #item)
        }
    }
}

fn check(export: &Export, arguments: &TokenStream, function: &ItemFn) -> Result<(), Error> {
    let Export { attribute, form, .. } = export;
    let wrong = |span, what: &str| Err(Error::new(span, format!("#[{attribute}] {what}: {form}")));
    let signature = &function.sig;
    if !arguments.is_empty() {
        return wrong(arguments.span(), "takes no arguments; it stands before a function of this form");
    }
    if let Some(asyncness) = &signature.asyncness {
        return wrong(asyncness.span(), "wants a function that is not async; what waits simply waits");
    }
    if !signature.generics.params.is_empty() {
        return wrong(signature.generics.span(), "wants a function without generics");
    }
    let methods = signature.inputs.iter().any(|input| matches!(input, FnArg::Receiver(_)));
    if methods || signature.inputs.len() != export.arguments {
        return wrong(signature.inputs.span(), "wants a function of this form");
    }
    Ok(())
}

fn glue(export: &Export, function: &ItemFn) -> TokenStream {
    let name = &function.sig.ident;
    let [describe, world, interface, macro_name, call] =
        [export.describe, export.world, export.interface, export.export, export.call]
            .map(|name| format_ident!("{name}"));
    let output = (export.output)();
    quote! {
        #function

        const _: () = {
            // Natively this only checks the types, and keeps the function from being called unused.
            fn describe() -> ::std::string::String {
                ::remit_sdk::__private::#describe(#name)
            }
            const _: fn() -> ::std::string::String = describe;

            #[cfg(target_arch = "wasm32")]
            struct Exported;

            #[cfg(target_arch = "wasm32")]
            impl ::remit_sdk::__private::#world::exports::remit::step::#interface::Guest for Exported {
                fn describe() -> ::std::string::String {
                    describe()
                }

                fn #call(
                    input: ::std::string::String,
                ) -> ::std::result::Result<#output, ::remit_sdk::__private::End> {
                    ::remit_sdk::__private::#call(#name, &input)
                }
            }

            #[cfg(target_arch = "wasm32")]
            ::remit_sdk::__private::#macro_name!(Exported with_types_in ::remit_sdk::__private::#world);
        };
    }
}
