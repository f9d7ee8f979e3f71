//! The clock and the dice of the runner: read here, and given to everything else as arguments.

use remit_protocol::Timestamp;

/// Reads the host's clock.
pub type Clock = fn() -> Timestamp;

/// The operating system's clock.
#[expect(clippy::disallowed_methods, reason = "the one place where the runner reads the wall clock")]
pub fn system() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// Random bytes from the operating system. Without them nothing here is safe, so the program ends.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "the operating system gives no random numbers");
        std::process::abort();
    }
    bytes
}
