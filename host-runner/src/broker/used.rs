//! What a run really did with its remit: told to whoever keeps its log, and kept by nobody but `step record`.

use remit_protocol::capability::{http::HttpTarget, tcp::TcpScope};

/// One use of a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Used {
    /// An HTTP request that was sent.
    Request(HttpTarget),
    /// A program that was started.
    Program {
        /// Its name in the remit.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// A connection that was made.
    Connection(TcpScope),
    /// A command on the node.
    Command,
    /// A named path.
    Entry(String),
}
