//! OpenAPI schemas of types that are text on the wire but not a newtype over it.

use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};

macro_rules! text_schema {
    ($($type:ty),*) => {
        $(
            impl utoipa::PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    ObjectBuilder::new().schema_type(Type::String).into()
                }
            }
            impl utoipa::ToSchema for $type {}
        )*
    };
}

text_schema!(crate::ComponentName, crate::ComponentSelector, crate::Outcome, crate::operator::Place);
