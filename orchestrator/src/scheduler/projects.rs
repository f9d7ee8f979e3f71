//! What a project says of all its executions: its variables, and how many may be open.

use std::sync::Arc;

use remit_protocol::{ProjectName, operator::ProjectSettings};
use serde_json::{Map, Value};

use super::{Scheduler, trigger::TriggerError};
use crate::store::StoreError;

impl Scheduler {
    /// The settings of a project, as they are since they were last configured here.
    pub(super) async fn settings(&self, project: &ProjectName) -> Result<Arc<ProjectSettings>, StoreError> {
        let changes = {
            let state = self.state();
            if let Some(settings) = state.settings.get(project) {
                return Ok(Arc::clone(settings));
            }
            state.settings_changed
        };
        let found = self.store().project(project).await?.map(|project| project.settings);
        let settings = Arc::new(found.unwrap_or_default());
        let mut state = self.state();
        // What was configured while this was read is read the next time.
        if state.settings_changed == changes {
            state.settings.insert(project.clone(), Arc::clone(&settings));
        }
        Ok(settings)
    }

    /// The settings of a project have changed: they are read anew.
    pub fn project_changed(&self, project: &ProjectName) {
        let mut state = self.state();
        state.settings_changed += 1;
        state.settings.remove(project);
    }

    /// Counts only where there could be too many: most projects are far from it.
    pub(super) fn check_quota(&self, project: &ProjectName, most: u32) -> Result<(), TriggerError> {
        let state = self.state();
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        if state.live.len() < limit {
            return Ok(());
        }
        let open = state.live.values().filter(|live| live.head.project == *project).count();
        if open < limit { Ok(()) } else { Err(TriggerError::Quota(most)) }
    }
}

/// The variables of a project as expressions see them.
pub(super) fn variables(settings: &ProjectSettings) -> Map<String, Value> {
    settings.variables.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
}
