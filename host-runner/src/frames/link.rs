//! One end of the socket between two processes of a runner, shared by everything at that end.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use rustix::io::Errno;
use tokio::{sync::Notify, time::timeout};

use super::{Broken, Frame, Frames, socket::Socket};

/// What waits to be sent before those who can wait are asked to.
const FULL: usize = 256 << 10;

/// An end of the socket. What does not fit the socket waits here, in order, for [`Link::flush`].
pub(crate) struct Link {
    socket: Socket,
    waiting: Mutex<BytesMut>,
    /// Most bytes that wait: beyond it the other side is not reading any more.
    most: usize,
    closed: AtomicBool,
    /// Something waits.
    more: Notify,
    /// What waited was sent.
    room: Notify,
}

/// Why nothing more is read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("its socket: {0}")]
    Socket(#[from] io::Error),
}

impl Link {
    /// One end; at most so many bytes wait in it.
    pub(crate) fn new(socket: std::os::unix::net::UnixStream, most: usize) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::new(socket)?,
            waiting: Mutex::default(),
            most,
            closed: AtomicBool::new(false),
            more: Notify::new(),
            room: Notify::new(),
        })
    }

    /// Sends a frame, now or as soon as the socket takes it. Whoever must hear that the other side is gone waits for an
    /// answer of it.
    pub(crate) fn send(&self, frame: &[u8]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut rest = frame;
        while waiting.is_empty() && !rest.is_empty() {
            match self.socket.send(rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return,
            }
        }
        if rest.is_empty() {
            return;
        }
        if waiting.len() + rest.len() > self.most {
            drop(waiting);
            return self.close();
        }
        waiting.extend_from_slice(rest);
        drop(waiting);
        self.more.notify_one();
    }

    /// True while so much waits that those who can wait should.
    pub(crate) fn full(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len() > FULL
    }

    /// Waits until there is room again, or nobody at the other end.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if !self.full() || self.closed.load(Ordering::Relaxed) {
                return;
            }
            room.await;
        }
    }

    /// Sends what waits, for as long as it is polled.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        loop {
            self.more.notified().await;
            loop {
                self.socket.room().await?;
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.is_empty() {
                    break;
                }
                match self.socket.send(&waiting) {
                    Ok(sent) => waiting.advance(sent),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                if waiting.len() <= FULL {
                    self.room.notify_waiters();
                }
            }
        }
    }

    /// The first word of a process that has just been started, while it is sent what waits for it; none if it has closed.
    ///
    /// # Errors
    /// It does not answer within `patience`, it breaks the rules, or its socket breaks.
    pub(crate) async fn first(&self, frames: &mut Frames, patience: Duration) -> io::Result<Option<Frame>> {
        let first = async {
            tokio::select! {
                flushed = self.flush() => Err(flushed.err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())),
                frame = self.receive(frames) => frame.map_err(io::Error::other),
            }
        };
        timeout(patience, first).await.map_err(|_| io::Error::other("it does not answer"))?
    }

    /// The next frame; none when the other side has closed.
    pub(crate) async fn receive(&self, frames: &mut Frames) -> Result<Option<Frame>, Unread> {
        loop {
            if let Some(frame) = frames.next()? {
                return Ok(Some(frame));
            }
            if self.socket.read(&mut frames.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Nothing is sent or read any more.
    pub(crate) fn close(&self) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            self.socket.close();
            self.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Kind, plain},
        *,
    };

    #[tokio::test]
    async fn what_does_not_fit_the_socket_comes_later_and_in_order() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let (near, far) = (Link::new(near, 64 << 20).unwrap(), Link::new(far, 1024).unwrap());
        let frames = 2000;
        for number in 0..frames {
            near.send(&plain(Kind::Data, number, 0, &[7; 1000]));
        }
        assert!(near.full());
        let read = async {
            let mut buffer = Frames::new(4096);
            for number in 0..frames {
                let frame = far.receive(&mut buffer).await.unwrap().unwrap();
                assert_eq!((frame.run, frame.bytes.len()), (number, 1000));
            }
        };
        tokio::select! {
            _ = near.flush() => unreachable!(),
            () = async { tokio::join!(read, near.room()); } => {}
        }
        near.close();
        assert!(far.receive(&mut Frames::new(64)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn whoever_does_not_read_is_given_up() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let near = Link::new(near, 4 << 10).unwrap();
        for _ in 0..1000 {
            near.send(&plain(Kind::Data, 0, 0, &[0; 1000]));
        }
        assert!(near.closed.load(Ordering::Relaxed));
        assert!(near.receive(&mut Frames::new(64)).await.unwrap().is_none());
        near.room().await;
    }
}
