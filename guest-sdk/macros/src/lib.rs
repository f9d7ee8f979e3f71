//! guest-sdk/macros.
