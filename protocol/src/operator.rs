//! The operator API under `/api/v1`: what the CLI, the web pages and other programs say to the orchestrator.
