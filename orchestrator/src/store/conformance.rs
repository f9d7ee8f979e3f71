//! One suite for every store back end: the same history, the same answers.
