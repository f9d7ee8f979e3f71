//! `secrets`: showing a value to a component that may see it.
