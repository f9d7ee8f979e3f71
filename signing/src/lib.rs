//! From bytes to belief: notes, keys, the trust policy, and the one way to a [`VerifiedComponent`].
//!
//! A *note* is a text of typed lines with the signatures of people under it ([`note`]); its lines hold digests of exact
//! payload bytes ([`component`], [`job`], [`run`], [`verdict`], [`enrol`]). The owner of a runner says in a [`policy`]
//! whose signatures count for what, and [`verify`] brings the two together. [`http`] signs and verifies requests between
//! runner and orchestrator, [`ticket`] is how a runner first gets there, [`check`] is for people, [`log`] shows that a note
//! is public, [`trail`] that nothing was taken out of a record; [`sealing`] keeps what was typed from whoever carries it.
//!
//! *Never here:* IO, a clock, randomness, async; time, seeds and nonces are arguments. *Invariant:* nothing is believed
//! before it is verified, nothing is re-serialised in between, and what was verified is a value that only the check makes.

pub mod check;
pub mod component;
pub mod enrol;
pub mod http;
pub mod job;
pub mod key;
pub mod log;
pub mod note;
pub mod policy;
pub mod refusal;
pub mod run;
pub mod sealing;
pub mod sections;
pub mod ticket;
pub mod trail;
pub mod verdict;
pub mod verify;
pub mod wasm;
pub mod webhook;

pub use job::JobPath;
pub use key::{KeyKind, KeyName, SigningKey, Vkey};
pub use policy::TrustPolicy;
pub use refusal::Refusal;
pub use verify::{VerifiedComponent, VerifiedJob};
