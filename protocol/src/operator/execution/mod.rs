//! Executions: how they stand, what their steps came to, their log, and what happens to them right now.
//!
//! [`asked`] is what people send, [`shown`] what they are answered, [`live`] what they are told while it happens.

mod asked;
mod live;
mod shown;

pub use asked::*;
pub use live::*;
pub use shown::*;
