//! What this room promises, from outside: the profile's negative cases, published vectors, and properties.

mod component;
mod support;
