//! What this room promises, from outside: the profile's negative cases, published vectors, and properties.

#[cfg(test)]
mod component;
#[cfg(test)]
mod http;
#[cfg(test)]
mod support;
