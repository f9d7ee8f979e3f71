//! Where the values of secrets come from: one file a provider.
