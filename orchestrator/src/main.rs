//! The program `remit-orchestrator`.
fn main() {}
