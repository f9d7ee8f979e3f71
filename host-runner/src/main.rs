//! host-runner.
fn main() {}
