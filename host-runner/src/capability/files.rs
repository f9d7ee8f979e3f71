//! `files`: the scratch directory and the named paths of the remit.
