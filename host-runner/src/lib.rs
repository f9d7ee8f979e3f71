//! host-runner.
