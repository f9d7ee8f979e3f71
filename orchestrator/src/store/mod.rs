//! What lasts: projects, jobs, components, runners, tokens, executions, blobs and logs. The only SQL.
