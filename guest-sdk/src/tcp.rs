//! Connections to hosts and ports that the job grants. The runner resolves the name and speaks TLS.
//!
//! ```
//! use std::io::{Read as _, Write as _};
//!
//! use remit_sdk::{Context, Fail, tcp};
//!
//! fn greeting(_: (), _: &Context) -> Result<String, Fail> {
//!     let mut connection = tcp::connect("time.example.com", 13)?;
//!     let mut text = String::new();
//!     connection.read_to_string(&mut text)?;
//!     Ok(text)
//! }
//! # let fake = remit_sdk::fake::Fake::new().tcp("time.example.com", 13, |_| b"noon".to_vec());
//! # assert_eq!(fake.run(|context| greeting((), context)).result.unwrap(), "noon");
//! ```

use std::io;

use crate::{Refusal, host};

/// Most bytes of one call.
const PIECE: usize = 64 << 10;

/// Connects to a host by its name; under TLS, unless the grant says otherwise.
pub fn connect(host: &str, port: u16) -> Result<Connection, Refusal> {
    host::Connection::open(host, port).map(Connection)
}

/// What proves a password by SCRAM-SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The client's last message.
    pub answer: String,
    /// The server's last message: one that says anything else does not know the password.
    pub expected: String,
}

/// A connection. Dropping it closes it. What it reads and writes is [`io::Read`] and [`io::Write`].
#[derive(Debug)]
pub struct Connection(host::Connection);

impl Connection {
    /// From here on it is encrypted, as after `STARTTLS`; the grant has to say `tls: start`.
    pub fn start_tls(&mut self) -> Result<(), Refusal> {
        self.0.start_tls()
    }

    /// Proves the secret that the grant binds to this place, without showing it: SCRAM-SHA-256 without channel binding.
    /// `first` is the client's first message without `n,,`, `asked` the server's answer to it. Once a connection, and under
    /// TLS.
    pub fn scram_sha_256(&mut self, first: &str, asked: &str) -> Result<Proof, Refusal> {
        self.0.scram_sha_256(first, asked)
    }
}

impl io::Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = buffer.len().min(PIECE);
        if max == 0 {
            return Ok(0);
        }
        let bytes = self.0.read(u32::try_from(max).unwrap_or(u32::MAX)).map_err(io::Error::other)?;
        let bytes = bytes.unwrap_or_default();
        let Some(part) = buffer.get_mut(..bytes.len()) else {
            return Err(io::Error::other("the host gave more bytes than were asked for"));
        };
        part.copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl io::Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        self.0.write(piece).map_err(io::Error::other)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
