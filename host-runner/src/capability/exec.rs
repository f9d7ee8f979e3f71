//! `exec`: starting the programs that the remit names.
