//! Hostile bytes for everything that reads what others wrote: capabilities, addresses, redaction, manifests, notes,
//! messages, jobs.
//!
//! A [`target::Target`] checks promises of one reader: it does not panic, what it accepts it writes and reads again the
//! same, what covers matches no less, what was signed is refused when a byte of it changes. A [`campaign::Campaign`] makes
//! inputs from known ones, deterministically by its seed; an input that comes to an answer not seen before is kept to make
//! others from. `cargo xtask fuzz` runs it; a short run of each target is among the tests.
//!
//! Two readers of the runner are compiled here once more from their own files, so that a fuzzer is built without the engine.

pub mod campaign;
pub mod mutate;
pub mod random;
pub mod target;

#[expect(dead_code, reason = "the runner's own file, of which not everything is used here")]
#[path = "../../host-runner/src/secrets/value.rs"]
pub mod secrets;

pub mod report;

#[path = "../../host-runner/src/capability/http/target.rs"]
pub mod address;
