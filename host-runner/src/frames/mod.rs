//! What the processes of a runner say to one another: frames on one stream socket.
//!
//! A supervisor and its broker speak so, and either of them and a worker. `length u32 | kind u8 | run u32 | stream u32 |
//! head's length u32 | head | bytes`, little-endian, the length counting what follows it. The head is JSON and holds words
//! only; what can be long travels as bytes. A frame that is not one ends the connection, and with it the process that sent
//! it.
//!
//! *Must not know:* what is said. *Invariant:* however many bytes come, a frame is at most as long as its reader says, and
//! what waits for a reader that does not read is bounded.

mod link;
mod socket;

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::link::{Link, Unread};

/// What stands before a frame's head, without the length itself.
const FIXED: usize = 1 + 4 + 4 + 4;
/// Bytes of the length itself.
const LENGTH: usize = 4;

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To a worker: what it is to load. To a broker: which version speaks.
    Hello,
    /// From the other process: it is confined and ready, or why not.
    Ready,
    /// To the other process: run a component once.
    Begin,
    /// From the worker: a call of the component.
    Ask,
    /// The answer to a call, or to what a broker was told to do.
    Answer,
    /// From the worker: the component has let go of a handle.
    Release,
    /// From the worker: a message for the log.
    Write,
    /// From the worker: bytes of standard output or error.
    Stdio,
    /// To the supervisor: how far the component is.
    Progress,
    /// To the other process: the run is to end.
    Stop,
    /// To the supervisor: how the run ended.
    Finish,
    /// From the worker: an HTTP request; its number is the stream's.
    Request,
    /// To the worker: the head of the answer to a request.
    Response,
    /// A piece of a body.
    Data,
    /// A body's trailer fields; nothing follows them.
    Trailers,
    /// The end of a body.
    End,
    /// A body that breaks off.
    Fail,
    /// So many bytes of a body were taken.
    Window,
    /// A body is not wanted any more.
    Cancel,
    /// To the broker: a component, by the number that stands for it from then on.
    Load,
    /// To the broker: nobody runs that component any more.
    Unload,
    /// To the broker: have a worker load a component.
    Warm,
    /// To the broker: what runs of a component will be given.
    Admit,
    /// To the broker: a case is over.
    Forget,
    /// To the broker: where the orchestrator was found, where nothing of a step goes.
    Bar,
    /// To the broker: say when nothing that steps have started is running any more.
    Idle,
    /// From the broker: a line of a run's log, ready to leave.
    Line,
}

const KINDS: [Kind; 27] = [
    Kind::Hello,
    Kind::Ready,
    Kind::Begin,
    Kind::Ask,
    Kind::Answer,
    Kind::Release,
    Kind::Write,
    Kind::Stdio,
    Kind::Progress,
    Kind::Stop,
    Kind::Finish,
    Kind::Request,
    Kind::Response,
    Kind::Data,
    Kind::Trailers,
    Kind::End,
    Kind::Fail,
    Kind::Window,
    Kind::Cancel,
    Kind::Load,
    Kind::Unload,
    Kind::Warm,
    Kind::Admit,
    Kind::Forget,
    Kind::Bar,
    Kind::Idle,
    Kind::Line,
];

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Which run, component or question, by the number that the supervisor gave it.
    pub(crate) run: u32,
    /// Which request of the run, by the number that the worker gave it.
    pub(crate) stream: u32,
    head: Bytes,
    /// What it carries beside its words.
    pub(crate) bytes: Bytes,
}

/// What came is no frame, or none that belongs here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it broke the rules of its socket: {0}")]
pub(crate) struct Broken(pub(crate) String);

impl Broken {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// A frame as it is sent.
pub(crate) fn encode(kind: Kind, run: u32, stream: u32, head: &impl Serialize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LENGTH + FIXED + 256 + bytes.len());
    frame.extend_from_slice(&[0; LENGTH]);
    frame.push(kind as u8);
    frame.extend_from_slice(&run.to_le_bytes());
    frame.extend_from_slice(&stream.to_le_bytes());
    frame.extend_from_slice(&[0; 4]);
    // Words of our own always have a form in JSON; a head that had none would be no frame to its reader.
    let _ = serde_json::to_writer(&mut frame, head);
    let head = frame.len() - LENGTH - FIXED;
    frame[LENGTH + FIXED - 4..LENGTH + FIXED].copy_from_slice(&number(head).to_le_bytes());
    frame.extend_from_slice(bytes);
    let length = number(frame.len() - LENGTH);
    frame[..LENGTH].copy_from_slice(&length.to_le_bytes());
    frame
}

/// A frame without words.
pub(crate) fn plain(kind: Kind, run: u32, stream: u32, bytes: &[u8]) -> Vec<u8> {
    encode(kind, run, stream, &(), bytes)
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Frame {
    /// The words of the head.
    pub(crate) fn head<T: DeserializeOwned>(&self) -> Result<T, Broken> {
        serde_json::from_slice(&self.head).map_err(|error| Broken(format!("{:?}: {error}", self.kind)))
    }

    /// The bytes as text.
    pub(crate) fn text(&self) -> Result<String, Broken> {
        String::from_utf8(self.bytes.to_vec()).map_err(|_| Broken(format!("{:?}: not text", self.kind)))
    }
}

/// Takes frames out of what has come.
pub(crate) struct Frames {
    pub(crate) buffer: BytesMut,
    most: usize,
}

impl Frames {
    /// Frames of at most so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { buffer: BytesMut::new(), most }
    }

    /// The next frame, if it is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Broken> {
        let Some(length) = self.buffer.first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length < FIXED || length > self.most {
            return Err(Broken(format!("a frame of {length} bytes")));
        }
        if self.buffer.len() < LENGTH + length {
            self.buffer.reserve(LENGTH + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(LENGTH);
        let mut frame = self.buffer.split_to(length).freeze();
        let kind = usize::from(frame.get_u8());
        let kind = *KINDS.get(kind).ok_or_else(|| Broken(format!("a frame of kind {kind}")))?;
        let (run, stream, head) = (frame.get_u32_le(), frame.get_u32_le(), frame.get_u32_le());
        let head = usize::try_from(head).unwrap_or(usize::MAX);
        if head > frame.len() {
            return Err(Broken(format!("{kind:?}: a head of {head} bytes")));
        }
        let head = frame.split_to(head);
        Ok(Some(Frame { kind, run, stream, head, bytes: frame }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], most: usize) -> Result<Vec<Frame>, Broken> {
        let mut frames = Frames::new(most);
        frames.buffer.extend_from_slice(bytes);
        let mut read = Vec::new();
        while let Some(frame) = frames.next()? {
            read.push(frame);
        }
        Ok(read)
    }

    #[test]
    fn every_kind_comes_back() {
        for (place, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            let bytes = encode(kind, 7, 9, &("words", 1), b"bytes");
            let frames = read(&bytes, 1024).unwrap();
            assert_eq!(frames.len(), 1);
            assert_eq!((frames[0].kind, frames[0].run, frames[0].stream), (kind, 7, 9));
            assert_eq!(frames[0].head::<(String, u8)>().unwrap(), ("words".to_owned(), 1));
            assert_eq!(&frames[0].bytes[..], b"bytes");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        fn check(change: impl FnOnce(&mut Vec<u8>), expect: bool) {
            let mut bytes = plain(Kind::Data, 1, 1, b"abc");
            change(&mut bytes);
            assert_eq!(read(&bytes, 64).is_ok(), expect, "{bytes:?}");
        }
        check(|_| {}, true);
        check(|bytes| bytes[0] = 200, false);
        check(|bytes| bytes[0] = 3, false);
        check(|bytes| bytes[4] = 27, false);
        check(|bytes| bytes[13] = 90, false);
        let whole = plain(Kind::Data, 1, 1, b"abc");
        assert!(read(&whole, 64).unwrap()[0].head::<String>().is_err());
        assert!(read(&plain(Kind::Data, 1, 1, b"\xff"), 64).unwrap()[0].text().is_err());
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_frames_come_out(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1usize..40) {
            let mut sent = encode(Kind::Write, 1, 0, &"a", &bytes);
            sent.extend(encode(Kind::Finish, 2, 0, &"b", &bytes));
            let mut frames = Frames::new(1024);
            let mut read = Vec::new();
            for piece in sent.chunks(cut) {
                frames.buffer.extend_from_slice(piece);
                while let Some(frame) = frames.next().unwrap() {
                    read.push((frame.run, frame.bytes.to_vec()));
                }
            }
            prop_assert_eq!(read, vec![(1, bytes.clone()), (2, bytes)]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, 256);
        }
    }
}
