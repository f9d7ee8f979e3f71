//! The derive: schemars' own, applied to a hidden copy of the type, which can be told where schemars is; the type itself passes
//! every question on to its copy.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Field, parse_quote, parse2};

/// The attributes that mean something to schemars; others belong to other derives and are unknown on the copy.
const KEPT: [&str; 7] = ["doc", "deprecated", "serde", "schemars", "validate", "garde", "cfg_attr"];

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let mut copy = match parse2::<DeriveInput>(item) {
        Ok(copy) => copy,
        Err(error) => return error.to_compile_error(),
    };
    keep(&mut copy.attrs);
    match &mut copy.data {
        Data::Struct(data) => data.fields.iter_mut().for_each(keep_field),
        Data::Enum(data) => {
            for variant in &mut data.variants {
                keep(&mut variant.attrs);
                variant.fields.iter_mut().for_each(keep_field);
            }
        }
        Data::Union(_) => {}
    }
    let name = copy.ident.clone();
    let (_, of_type, _) = copy.generics.split_for_impl();
    let mut bounded = copy.generics.clone();
    let clause = bounded.make_where_clause();
    clause.predicates.push(parse_quote!(#name #of_type: ::remit_sdk::schemars::JsonSchema));
    let (of_impl, _, wheres) = bounded.split_for_impl();
    // Inside the inner block the name means the copy, so the original gets another one outside of it. A type alias ignores
    // bounds, which is why it has the parameters only.
    let declared = alias_generics(&copy);
    quote! {
        const _: () = {
            type Original #declared = #name #of_type;

            const _: () = {
                #[derive(::remit_sdk::schemars::JsonSchema)]
                #[schemars(crate = "::remit_sdk::schemars")]
                #[expect(dead_code, reason = "only its schema is used")]
                #copy

                impl #of_impl ::remit_sdk::schemars::JsonSchema for Original #of_type #wheres {
                    fn inline_schema() -> bool {
                        <#name #of_type as ::remit_sdk::schemars::JsonSchema>::inline_schema()
                    }

                    fn schema_name() -> ::std::borrow::Cow<'static, str> {
                        <#name #of_type as ::remit_sdk::schemars::JsonSchema>::schema_name()
                    }

                    fn schema_id() -> ::std::borrow::Cow<'static, str> {
                        <#name #of_type as ::remit_sdk::schemars::JsonSchema>::schema_id()
                    }

                    fn json_schema(
                        generator: &mut ::remit_sdk::schemars::SchemaGenerator,
                    ) -> ::remit_sdk::schemars::Schema {
                        <#name #of_type as ::remit_sdk::schemars::JsonSchema>::json_schema(generator)
                    }
                }
            };
        };
    }
}

fn alias_generics(item: &DeriveInput) -> TokenStream {
    let mut generics = item.generics.clone();
    for parameter in &mut generics.params {
        match parameter {
            syn::GenericParam::Type(parameter) => {
                parameter.bounds.clear();
                parameter.colon_token = None;
                parameter.default = None;
            }
            syn::GenericParam::Lifetime(parameter) => {
                parameter.bounds.clear();
                parameter.colon_token = None;
            }
            syn::GenericParam::Const(parameter) => {
                parameter.default = None;
            }
        }
    }
    generics.where_clause = None;
    quote!(#generics)
}

fn keep(attributes: &mut Vec<Attribute>) {
    attributes.retain(|attribute| KEPT.iter().any(|kept| attribute.path().is_ident(kept)));
}

fn keep_field(field: &mut Field) {
    keep(&mut field.attrs);
}
