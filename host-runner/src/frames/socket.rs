//! A stream socket whose end is woken when something has come for it, and not each time that the other side has read.
//!
//! A local socket tells whoever waits to write of every message that was taken. To be told always, as a usual socket of the
//! runtime is, costs both sides a wake-up for each frame; so that is asked for only while the socket is full.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use bytes::BytesMut;
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};
use tokio::io::{Interest, unix::AsyncFd};

/// What is read at once.
const READ: usize = 64 << 10;

/// One end.
pub(super) struct Socket {
    own: AsyncFd<OwnedFd>,
    /// The same end, for waiting until it takes more.
    again: OwnedFd,
}

impl Socket {
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let again = socket.try_clone()?.into();
        #[expect(unsafe_code, reason = "a descriptor is registered with the runtime by an unsafe call only")]
        // SAFETY: the descriptor is owned by the `AsyncFd`, which is not taken apart, so it stays open while it is registered.
        let own = unsafe { AsyncFd::register_with_interest(socket.into(), Interest::READABLE) }?;
        Ok(Self { own, again })
    }

    /// Sends as much as the socket takes now.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        send(&self.again, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    /// Waits until it takes more. One at a time waits.
    pub(super) async fn room(&self) -> io::Result<()> {
        let socket = waiting(self.again.as_fd())?;
        let mut ready = socket.writable().await?;
        ready.retain_ready();
        Ok(())
    }

    /// Waits for something and reads it behind what is in `buffer`; nothing at the end.
    pub(super) async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            let mut ready = self.own.readable().await?;
            buffer.reserve(READ);
            let room = buffer.spare_capacity_mut();
            let most = room.len();
            match ready.try_io(|socket| Ok(recv(socket, room, RecvFlags::DONTWAIT)?.1)) {
                Ok(Ok(count)) => {
                    if count < most {
                        // There was no more: whatever comes now says so.
                        ready.clear_ready();
                    }
                    #[expect(unsafe_code, reason = "there is no safe call for it")]
                    // SAFETY: the kernel has written so many bytes behind what was there.
                    unsafe {
                        buffer.set_len(buffer.len() + count);
                    };
                    return Ok(count);
                }
                Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    /// Nothing is sent or read any more.
    pub(super) fn close(&self) {
        // The other side may have closed first.
        let _ = shutdown(&self.again, Shutdown::Both);
    }
}

#[expect(unsafe_code, reason = "a descriptor is registered with the runtime by an unsafe call only")]
fn waiting(socket: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: it is borrowed for as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::WRITABLE) }?)
}
