//! `http`: the one door through which requests leave.
