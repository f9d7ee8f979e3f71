//! One step in one store: engine, state, limits.
