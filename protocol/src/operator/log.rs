//! The transparency log, as people and programs ask for it.

use serde::{Deserialize, Serialize};

/// The orchestrator's transparency log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogView {
    /// Its name.
    pub origin: String,
    /// The verification key of its heads, as `[log] keys` of a trust policy takes it.
    pub key: String,
    /// Its newest signed head, a `c2sp.org/tlog-checkpoint`.
    pub checkpoint: String,
}
