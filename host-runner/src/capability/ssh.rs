//! `ssh`: running commands on the node.
