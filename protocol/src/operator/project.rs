//! Projects: the unit of jobs, nodes, runners' assignment, access and history.

use serde::{Deserialize, Serialize};

use crate::{Description, ProjectName, Timestamp};

/// A project to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewProject {
    /// Its name, once and for all.
    pub name: ProjectName,
    /// For people.
    #[serde(default)]
    pub description: Description,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// For people.
    pub description: Description,
    /// When it was made.
    pub created: Timestamp,
}
