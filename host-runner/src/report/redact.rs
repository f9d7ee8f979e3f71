//! Taking known secret values out of everything that leaves.
