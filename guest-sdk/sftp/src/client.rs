//! The connection: requests and their answers.

use remit_sdk::{Fail, log, output::Chunk, ssh::Session};

use crate::packet::{Fields, Packet};

/// Bytes of one write: every server takes so many (draft-ietf-secsh-filexfer-02, section 3).
pub(crate) const WRITE: u32 = 32 << 10;
/// Writes that are on their way before an answer is waited for.
const AHEAD: usize = 16;
/// Largest answer.
const MAX_ANSWER: usize = 256 << 10;

const INIT: u8 = 1;
const VERSION: u8 = 2;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const WRITE_KIND: u8 = 6;
const FSTAT: u8 = 8;
const FSETSTAT: u8 = 10;
const REMOVE: u8 = 13;
const MAKE: u8 = 14;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const ATTRIBUTES: u8 = 105;
const EXTENDED: u8 = 200;

/// To write, made if missing, emptied if not.
const CREATE: u32 = 0x02 | 0x08 | 0x10;
/// Flags of attributes.
const HAS_SIZE: u32 = 0x01;
const HAS_PERMISSIONS: u32 = 0x04;
/// Replaces the target in one go, which the plain rename does not.
const POSIX_RENAME: &[u8] = b"posix-rename@openssh.com";

const OK: u32 = 0;
const NO_SUCH_FILE: u32 = 2;
const UNSUPPORTED: u32 = 8;

/// A connection.
pub(crate) struct Sftp {
    session: Session,
    received: Vec<u8>,
    next: u32,
    /// Writes whose answers have not come.
    open: usize,
    /// Extensions that the server offers.
    posix_rename: bool,
}

/// An open file, by the server's name for it.
#[derive(Debug)]
pub(crate) struct File(Vec<u8>);

/// A status other than success.
struct Status {
    code: u32,
    message: String,
}

impl Status {
    fn into_fail(self, what: &str) -> Fail {
        let words = match self.code {
            NO_SUCH_FILE => "no such file or folder",
            3 => "permission denied",
            _ if self.message.is_empty() => "the server refuses",
            _ => &self.message,
        };
        Fail::new(format!("{what}: {words}")).with("sftp_status", self.code)
    }
}

fn broken() -> Fail {
    Fail::new("the node does not speak SFTP version 3")
}

impl Sftp {
    /// Agrees on the version.
    pub(crate) fn new(session: Session) -> Result<Self, Fail> {
        let mut sftp = Self { session, received: Vec::new(), next: 0, open: 0, posix_rename: false };
        sftp.send(Packet::new(INIT).number(3))?;
        let answer = sftp.receive()?;
        let mut fields = Fields::new(&answer);
        if fields.kind() != Some(VERSION) || fields.number().is_none_or(|version| version < 3) {
            return Err(broken());
        }
        while let (Some(name), Some(_)) = (fields.bytes(), fields.bytes()) {
            sftp.posix_rename |= name == POSIX_RENAME;
        }
        Ok(sftp)
    }

    fn send(&mut self, packet: Packet) -> Result<(), Fail> {
        Ok(self.session.write(&packet.finish())?)
    }

    /// The next packet, without its length.
    fn receive(&mut self) -> Result<Vec<u8>, Fail> {
        loop {
            if let Some((length, rest)) = self.received.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length == 0 || length > MAX_ANSWER {
                    return Err(broken());
                }
                if rest.len() >= length {
                    let later = self.received.split_off(4 + length);
                    let packet = std::mem::replace(&mut self.received, later);
                    return Ok(packet.get(4..).unwrap_or_default().to_vec());
                }
            }
            match self.session.read()? {
                Some(Chunk::Stdout(bytes)) => self.received.extend(bytes),
                Some(Chunk::Stderr(bytes)) => {
                    log::warn!("the node says", text = String::from_utf8_lossy(&bytes).trim());
                }
                None => {
                    return Err(Fail::new("the node closed the connection; does its SSH server have SFTP?"));
                }
            }
        }
    }

    /// The next answer, which has to be to request `id`: answers come in order from OpenSSH, and here each is waited for.
    fn answer(&mut self, id: u32, kind: u8) -> Result<Result<Vec<u8>, Status>, Fail> {
        let packet = self.receive()?;
        let mut fields = Fields::new(&packet);
        let (found, own) = (fields.kind(), fields.number());
        if own != Some(id) {
            return Err(broken());
        }
        match found {
            Some(found) if found == kind && kind != STATUS => {
                Ok(Ok(packet.get(5..).unwrap_or_default().to_vec()))
            }
            Some(STATUS) => {
                let code = fields.number().ok_or_else(broken)?;
                let text = String::from_utf8_lossy(fields.bytes().unwrap_or_default());
                let message = text.chars().filter(|c| !c.is_control()).take(200).collect();
                Ok(if code == OK && kind == STATUS { Ok(Vec::new()) } else { Err(Status { code, message }) })
            }
            _ => Err(broken()),
        }
    }

    fn ask(
        &mut self,
        kind: u8,
        fields: impl FnOnce(Packet) -> Packet,
        wanted: u8,
    ) -> Result<Result<Vec<u8>, Status>, Fail> {
        self.settle()?;
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.send(fields(Packet::new(kind).number(id)))?;
        self.answer(id, wanted)
    }

    fn done(&mut self, what: &str, kind: u8, fields: impl FnOnce(Packet) -> Packet) -> Result<(), Fail> {
        self.ask(kind, fields, STATUS)?.map(drop).map_err(|status| status.into_fail(what))
    }

    /// True if there is something at `path`.
    pub(crate) fn exists(&mut self, path: &str) -> Result<bool, Fail> {
        match self.ask(STAT, |packet| packet.bytes(path.as_bytes()), ATTRIBUTES)? {
            Ok(_) => Ok(true),
            Err(Status { code: NO_SUCH_FILE, .. }) => Ok(false),
            Err(status) => Err(status.into_fail(path)),
        }
    }

    pub(crate) fn make_folder(&mut self, path: &str) -> Result<(), Fail> {
        self.done(&format!("making the folder {path}"), MAKE, |packet| {
            packet.bytes(path.as_bytes()).number(0)
        })
    }

    /// Makes an empty file that only its owner can read until it is whole.
    pub(crate) fn create(&mut self, path: &str, mode: u32) -> Result<File, Fail> {
        let fields = |packet: Packet| {
            packet.bytes(path.as_bytes()).number(CREATE).number(HAS_PERMISSIONS).number(mode & 0o700)
        };
        let handle = self.ask(OPEN, fields, HANDLE)?.map_err(|status| status.into_fail("making the file"))?;
        let handle = Fields::new(&handle).bytes().ok_or_else(broken)?.to_vec();
        Ok(File(handle))
    }

    /// Writes bytes; several writes are on their way at once, and [`Sftp::settle`] waits for them.
    pub(crate) fn write(&mut self, file: &File, at: u64, bytes: &[u8]) -> Result<(), Fail> {
        if self.open >= AHEAD {
            self.settle_one()?;
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.send(Packet::new(WRITE_KIND).number(id).bytes(&file.0).long(at).bytes(bytes))?;
        self.open += 1;
        Ok(())
    }

    fn settle_one(&mut self) -> Result<(), Fail> {
        let id = self.next.wrapping_sub(u32::try_from(self.open).unwrap_or(0));
        self.open -= 1;
        self.answer(id, STATUS)?.map(drop).map_err(|status| status.into_fail("writing the file"))
    }

    /// Waits for all writes.
    pub(crate) fn settle(&mut self) -> Result<(), Fail> {
        while self.open > 0 {
            self.settle_one()?;
        }
        Ok(())
    }

    /// How large the file is.
    pub(crate) fn size(&mut self, file: &File) -> Result<u64, Fail> {
        let found = self.ask(FSTAT, |packet| packet.bytes(&file.0), ATTRIBUTES)?;
        let found = found.map_err(|status| status.into_fail("looking at the file"))?;
        let mut fields = Fields::new(&found);
        let flags = fields.number().ok_or_else(broken)?;
        if flags & HAS_SIZE == 0 { Err(broken()) } else { fields.long().ok_or_else(broken) }
    }

    pub(crate) fn permit(&mut self, file: &File, mode: u32) -> Result<(), Fail> {
        let fields = |packet: Packet| packet.bytes(&file.0).number(HAS_PERMISSIONS).number(mode);
        self.done("setting the permissions", FSETSTAT, fields)
    }

    pub(crate) fn close(&mut self, file: &File) -> Result<(), Fail> {
        self.done("closing the file", CLOSE, |packet| packet.bytes(&file.0))
    }

    pub(crate) fn remove(&mut self, path: &str) -> Result<(), Fail> {
        self.done("removing the file", REMOVE, |packet| packet.bytes(path.as_bytes()))
    }

    /// Puts a file in the place of another: in one go where the server can, else after removing the other.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<(), Fail> {
        let (from, target) = (from.as_bytes(), to.as_bytes());
        if self.posix_rename {
            let fields = |packet: Packet| packet.bytes(POSIX_RENAME).bytes(from).bytes(target);
            match self.ask(EXTENDED, fields, STATUS)? {
                Ok(_) => return Ok(()),
                Err(Status { code: UNSUPPORTED, .. }) => {}
                Err(status) => return Err(status.into_fail("taking the old file's place")),
            }
        }
        if self.exists(to)? {
            self.remove(to)?;
        }
        self.done("taking the old file's place", RENAME, |packet| packet.bytes(from).bytes(target))
    }
}
