//! The standard streams of a program, as its reader holds them.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::OwnedFd,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
};

use super::Source;

/// Largest piece of output.
const MAX_PIECE: usize = 32 << 10;

/// The reader's ends of three pipes.
pub(super) struct Streams {
    /// What is left to be written, and how much of it was.
    stdin: Option<(Sender, Vec<u8>, usize)>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
}

/// What becomes a program's standard input, output and error.
pub type Ends = [OwnedFd; 3];

impl Streams {
    /// Of a program whose streams somebody else holds: nothing comes.
    pub(super) fn none() -> Self {
        Self { stdin: None, stdout: None, stderr: None }
    }

    /// Three pipes; `stdin` is written to the first.
    pub(super) fn new(stdin: Vec<u8>) -> io::Result<(Self, Ends)> {
        let (input_end, input): (PipeReader, PipeWriter) = io::pipe()?;
        let (output, output_end) = io::pipe()?;
        let (error, error_end) = io::pipe()?;
        let streams = Self {
            stdin: Some((Sender::from_owned_fd(input.into())?, stdin, 0)),
            stdout: Some(Receiver::from_owned_fd(output.into())?),
            stderr: Some(Receiver::from_owned_fd(error.into())?),
        };
        Ok((streams, [input_end.into(), output_end.into(), error_end.into()]))
    }

    /// The next piece of output; none when both streams have ended. Feeds the standard input meanwhile.
    pub(super) async fn read(&mut self) -> io::Result<Option<(Source, Vec<u8>)>> {
        while self.stdout.is_some() || self.stderr.is_some() {
            let (source, piece) = tokio::select! {
                () = feed(&mut self.stdin) => continue,
                piece = piece(&mut self.stdout) => (Source::Output, piece?),
                piece = piece(&mut self.stderr) => (Source::Error, piece?),
            };
            if let Some(bytes) = piece {
                return Ok(Some((source, bytes)));
            }
        }
        Ok(None)
    }

    /// Feeds the standard input and drops the output, for as long as it is polled.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        while self.read().await?.is_some() {}
        feed(&mut self.stdin).await;
        Ok(())
    }
}

/// Writes what is left and closes the pipe; never ends when there is nothing to write.
async fn feed(stdin: &mut Option<(Sender, Vec<u8>, usize)>) {
    while let Some((pipe, bytes, written)) = stdin {
        let rest = bytes.get(*written..).unwrap_or_default();
        match pipe.write(rest).await {
            Ok(more) if !rest.is_empty() && more > 0 => *written += more,
            // The program closed its side, or everything is written.
            _ => *stdin = None,
        }
    }
    std::future::pending::<()>().await;
}

/// The next piece of a stream, none at its end; waits for ever on a stream that has ended before.
async fn piece(stream: &mut Option<Receiver>) -> io::Result<Option<Vec<u8>>> {
    let Some(pipe) = stream else { return std::future::pending().await };
    let mut bytes = vec![0; MAX_PIECE];
    let length = pipe.read(&mut bytes).await?;
    bytes.truncate(length);
    if length == 0 {
        *stream = None;
        return Ok(None);
    }
    Ok(Some(bytes))
}
