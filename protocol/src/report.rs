//! x
/// x
pub enum Outcome {}
