//! What a runner and its launcher say to one another.
//!
//! The main socket of a client carries nothing but descriptors: for each program a control socket and its three standard
//! streams, for each connection to a daemon a control socket alone. On the control socket stands the order, then the
//! answers; its end, however it comes, is the order to end the program. Before that comes what the launcher is for, from
//! the supervisor, or what a broker is for, from the launcher.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use remit_protocol::capability::exec::Given;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::UnixStream,
};
use zeroize::Zeroizing;

use super::{Catalogue, Client, Exit, Program, streams::Ends};
use crate::secrets::SecretValue;

/// Longest order, and longest instruction: arguments, environments and the owner's file are bounded far below it.
const MAX_ORDER: u32 = 4 << 20;
/// Longest answer.
const MAX_ANSWER: usize = 4 << 10;
/// Control socket and three standard streams.
const DESCRIPTORS: usize = 4;

/// What is started, without its secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    path: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    secret: Option<Given>,
    directory: PathBuf,
}

/// What the launcher says of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// It runs.
    Started,
    /// It does not, with the operating system's number if there is one.
    Failed {
        /// The number.
        code: Option<i32>,
        /// In words.
        message: String,
    },
    /// Its leader has ended.
    Ended(Exit),
}

/// Tells a launcher what it is for.
pub(super) fn instruct(
    launcher: &mut std::os::unix::net::UnixStream,
    catalogue: &Catalogue,
    client: Client,
    charter: &[u8],
) -> io::Result<()> {
    for bytes in [serde_json::to_vec(&(catalogue, client))?.as_slice(), charter] {
        launcher.write_all(&length(bytes)?)?;
        launcher.write_all(bytes)?;
    }
    Ok(())
}

/// Hears what it is for: what may be started, for whom, and what each broker begins with.
pub(super) async fn instructed(
    supervisor: &mut UnixStream,
) -> io::Result<(Catalogue, Client, Zeroizing<Vec<u8>>)> {
    let (catalogue, client) = serde_json::from_slice(&receive(supervisor).await?)?;
    Ok((catalogue, client, receive(supervisor).await?))
}

/// Hands over a control socket, and the standard streams where a program is to be started.
pub(super) async fn send_descriptors(
    socket: &UnixStream,
    control: BorrowedFd<'_>,
    ends: Option<&Ends>,
) -> io::Result<()> {
    let streams = ends.into_iter().flatten().map(OwnedFd::as_fd);
    let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(control).chain(streams).collect();
    hand_over(socket, &descriptors).await
}

/// Sends one byte, and descriptors with it.
async fn hand_over(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    socket
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::other("no room for descriptors"));
            }
            sendmsg(socket, &[IoSlice::new(b"p")], &mut ancillary, SendFlags::NOSIGNAL)?;
            Ok(())
        })
        .await
}

/// Gives the connection that was asked for.
pub(super) async fn send_connection(control: &UnixStream, connection: BorrowedFd<'_>) -> io::Result<()> {
    hand_over(control, &[connection]).await
}

/// Says that there will be no connection; the answer follows.
pub(super) async fn send_no_connection(control: &mut UnixStream) -> io::Result<()> {
    control.write_all(b"n").await
}

/// The connection that was asked for; none where an answer follows that says why not.
pub(super) async fn receive_connection(control: &UnixStream) -> io::Result<Option<OwnedFd>> {
    match taken(control).await? {
        None => Err(io::Error::other("the launcher process is gone; restart the runner")),
        Some(mut descriptors) => Ok(descriptors.pop()),
    }
}

/// What a client asks for.
pub(super) enum Wish {
    /// A program, with these standard streams; the order is on the control socket.
    Program(OwnedFd, Ends),
    /// A connection to a daemon of this host, whose socket is named on the control socket.
    Connection(OwnedFd),
}

/// The next thing that is asked for; none when the runner is gone.
pub(super) async fn receive_wish(socket: &UnixStream) -> io::Result<Option<Wish>> {
    let Some(descriptors) = taken(socket).await? else { return Ok(None) };
    let missing = || io::Error::other("descriptors are missing");
    if descriptors.len() == 1 {
        return Ok(Some(Wish::Connection(descriptors.into_iter().next().ok_or_else(missing)?)));
    }
    let [control, stdin, stdout, stderr] =
        <[OwnedFd; DESCRIPTORS]>::try_from(descriptors).map_err(|_| missing())?;
    Ok(Some(Wish::Program(control, [stdin, stdout, stderr])))
}

/// One byte, and the descriptors that came with it; none at the end.
async fn taken(socket: &UnixStream) -> io::Result<Option<Vec<OwnedFd>>> {
    socket
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let mut slices = [IoSliceMut::new(&mut byte)];
            let received = recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            if received.bytes == 0 {
                return Ok(None);
            }
            let descriptors = ancillary
                .drain()
                .filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                    _ => None,
                })
                .flatten();
            Ok(Some(descriptors.collect()))
        })
        .await
}

/// Writes the order for `program`, whose directory is known.
pub(super) async fn send_order(
    control: &mut UnixStream,
    program: Program,
    directory: PathBuf,
) -> io::Result<()> {
    let Program { path, arguments, environment, secret, .. } = program;
    let (given, value) = secret.unzip();
    let order = Order { path, arguments, environment, secret: given, directory };
    send(control, &serde_json::to_vec(&order)?).await?;
    send(control, value.as_ref().map_or(&[], SecretValue::expose)).await
}

/// Reads an order; its standard input is with its writer.
pub(super) async fn receive_order(control: &mut UnixStream) -> io::Result<(Program, PathBuf)> {
    let bytes = receive(control).await?;
    let Order { path, arguments, environment, secret, directory } = serde_json::from_slice(&bytes)?;
    let value = receive(control).await?;
    let secret = match secret {
        Some(given) => Some((given, SecretValue::from_zeroizing(value).map_err(io::Error::other)?)),
        None => None,
    };
    let program = Program { path, arguments, environment, secret, directory: None, stdin: Vec::new() };
    Ok((program, directory))
}

/// Reads which socket is to be connected to.
pub(super) async fn receive_socket(control: &mut UnixStream) -> io::Result<PathBuf> {
    let bytes = receive(control).await?;
    let path = String::from_utf8(bytes.to_vec()).map_err(|_| io::Error::other("a path is no text"))?;
    Ok(PathBuf::from(path))
}

fn length(bytes: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_ORDER);
    Ok(length.ok_or_else(|| io::Error::other("the program's arguments are too long"))?.to_le_bytes())
}

/// Sends a piece of known length.
pub(super) async fn send(control: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    control.write_all(&length(bytes)?).await?;
    control.write_all(bytes).await
}

async fn receive(control: &mut UnixStream) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut length = [0; 4];
    control.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length);
    if length > MAX_ORDER {
        return Err(io::Error::other("an order is too long"));
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or_default()]);
    control.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Says how the program fares: a line of JSON.
pub(super) async fn answer(control: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    control.write_all(&line).await
}

/// Reads answers; whoever waits for one may give up and wait again.
#[derive(Default)]
pub(super) struct Answers(Vec<u8>);

impl Answers {
    /// The next answer.
    pub(super) async fn next(&mut self, control: &mut UnixStream) -> io::Result<Answer> {
        loop {
            if let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.0.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            if self.0.len() > MAX_ANSWER {
                return Err(io::Error::other("the launcher's answer is too long"));
            }
            if control.read_buf(&mut self.0).await? == 0 {
                return Err(io::Error::other("the launcher process is gone; restart the runner"));
            }
        }
    }
}
