//! The frames of a worker, written anew: an attacker does not use the product's code.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use remit_runner::confine::{
    Confinement,
    worker::{self as bars, Files},
};
use serde_json::{Value, json};

pub(crate) const READY: u8 = 1;
const BEGIN: u8 = 2;
pub(crate) const ASK: u8 = 3;
pub(crate) const ANSWER: u8 = 4;
pub(crate) const RELEASE: u8 = 5;
pub(crate) const WRITE: u8 = 6;
pub(crate) const PROGRESS: u8 = 8;
pub(crate) const FINISH: u8 = 10;
pub(crate) const REQUEST: u8 = 11;
pub(crate) const RESPONSE: u8 = 12;
pub(crate) const DATA: u8 = 13;
pub(crate) const END: u8 = 15;
pub(crate) const WINDOW: u8 = 17;

/// A worker in the hands of an attacker.
pub(crate) struct Worker {
    pub(crate) socket: UnixStream,
    /// Which run.
    pub(crate) run: u32,
    /// What is to be done, and with what.
    pub(crate) act: String,
    pub(crate) scene: Value,
    pub(crate) scratch: Option<PathBuf>,
    /// A thread that lived before the bars were up.
    pub(crate) older: std::sync::mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Worker {
    pub(crate) fn send(&mut self, kind: u8, run: u32, stream: u32, head: &Value, bytes: &[u8]) {
        // A supervisor that has seen enough closes the socket.
        let _ = self.socket.write_all(&frame(kind, run, stream, head, bytes));
    }

    /// The next frame: kind, stream, head and bytes.
    pub(crate) fn receive(&mut self) -> (u8, u32, Value, Vec<u8>) {
        let (kind, _, stream, head, bytes) = receive(&mut self.socket);
        (kind, stream, head, bytes)
    }

    /// Says several things about one request at once, so that none is heard before the others are there.
    pub(crate) fn together(&mut self, words: &[(u8, &Value, &[u8])]) {
        let frames: Vec<u8> =
            words.iter().flat_map(|(kind, head, bytes)| frame(*kind, self.run, 1, head, bytes)).collect();
        self.socket.write_all(&frames).unwrap();
    }

    /// Asks the broker and waits.
    pub(crate) fn ask(&mut self, call: &Value, bytes: &[u8]) -> Value {
        self.send(ASK, self.run, 0, call, bytes);
        self.answer().0
    }

    /// The same, for an answer with bytes.
    pub(crate) fn ask_for_bytes(&mut self, call: &Value) -> (Value, Vec<u8>) {
        self.send(ASK, self.run, 0, call, b"");
        self.answer()
    }

    fn answer(&mut self) -> (Value, Vec<u8>) {
        loop {
            if let (ANSWER, _, head, bytes) = self.receive() {
                return (head, bytes);
            }
        }
    }

    pub(crate) fn finish(&mut self, said: &Value, output: &str) {
        let head = json!({"said": said, "counted": {"used": [0, 0, 0, 0, 0, 0], "over": null, "denials": [], "took": 0}});
        self.send(FINISH, self.run, 0, &head, output.as_bytes());
    }

    /// Ends the run with a text as its output.
    pub(crate) fn output(&mut self, text: &str) {
        self.finish(&json!("Output"), &Value::from(text).to_string());
    }
}

pub(crate) fn frame(kind: u8, run: u32, stream: u32, head: &Value, bytes: &[u8]) -> Vec<u8> {
    let head = head.to_string();
    let mut frame = u32::try_from(13 + head.len() + bytes.len()).unwrap().to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend(run.to_le_bytes());
    frame.extend(stream.to_le_bytes());
    frame.extend(u32::try_from(head.len()).unwrap().to_le_bytes());
    frame.extend(head.as_bytes());
    frame.extend(bytes);
    frame
}

pub(crate) fn receive(socket: &mut UnixStream) -> (u8, u32, u32, Value, Vec<u8>) {
    let mut length = [0; 4];
    if socket.read_exact(&mut length).is_err() {
        // Nobody is left to play with.
        std::process::exit(0);
    }
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut frame).unwrap();
    let number = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
    let head = 13 + number(9) as usize;
    (
        frame[0],
        number(1),
        number(5),
        serde_json::from_slice(&frame[13..head]).unwrap(),
        frame[head..].to_vec(),
    )
}

/// Becomes a worker as all workers do; then `play` has each run.
pub(crate) fn live(play: impl Fn(&mut Worker)) {
    use std::os::fd::AsFd as _;

    bars::begin().unwrap();
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    receive(&mut socket);
    let arguments = std::env::args();
    let scratch =
        arguments.into_iter().find_map(|argument| Some(argument.strip_prefix("--scratch=")?.into()));
    let scratch: Option<PathBuf> = scratch;
    let files = scratch.clone().map_or(Files::None, Files::Below);
    bars::leave_namespaces();
    bars::bar_files(&files, Confinement::Required).unwrap();
    let (older, orders) = std::sync::mpsc::channel::<Box<dyn FnOnce() + Send>>();
    std::thread::spawn(move || orders.iter().for_each(|order| order()));
    bars::seal(&files, Confinement::Required).unwrap();
    socket.write_all(&frame(READY, 0, 0, &json!({"Ok": null}), b"")).unwrap();
    loop {
        let (kind, run, _, _, input) = receive(&mut socket);
        if kind != BEGIN {
            continue;
        }
        // The input is a JSON string, and in it the JSON of what is to be done.
        let input: String = serde_json::from_slice(&input).unwrap();
        let scene: Value = serde_json::from_str(&input).unwrap();
        let act = scene["act"].as_str().unwrap().to_owned();
        let own = socket.try_clone().ok();
        let Some(own) = own else { std::process::exit(9) };
        let (scratch, older) = (scratch.clone(), older.clone());
        play(&mut Worker { socket: own, run, act, scene, scratch, older });
    }
}
