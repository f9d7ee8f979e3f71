//! A file is copied to a server that is played here; the real one is in the stories.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use remit_sdk::{Node, fake::Fake};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::packet::{Fields, Packet};

/// A step that writes a text, as the real one does.
#[derive(Deserialize)]
struct Input {
    bytes: Vec<u8>,
    to: String,
    #[serde(default = "usual_mode")]
    mode: String,
    #[serde(default)]
    make_folders: bool,
}

fn put(input: Input, context: &Context) -> Result<Written, Fail> {
    let target = Target::new(input.to, &input.mode, input.make_folders)?;
    let mut bytes = input.bytes.into_iter();
    target.write(&mut |max| Ok(bytes.by_ref().take(max as usize).collect()), context)
}

/// A file system with an SFTP server before it.
#[derive(Default)]
struct Server {
    files: BTreeMap<String, (u32, Vec<u8>)>,
    folders: Vec<String>,
    open: String,
    /// Operations that are refused, by kind.
    refused: Vec<u8>,
    plain: bool,
    asked: Vec<u8>,
}

fn status(id: u32, code: u32) -> Packet {
    Packet::new(101).number(id).number(code).bytes(b"").bytes(b"")
}

impl Server {
    /// Answers every whole packet in `bytes`.
    fn answer(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        while let Some(packet) = Fields::new(bytes).bytes() {
            bytes = &bytes[4 + packet.len()..];
            answers.extend(self.one(packet).finish());
        }
        answers
    }

    fn one(&mut self, packet: &[u8]) -> Packet {
        let mut fields = Fields::new(packet);
        let (kind, id) = (fields.kind().unwrap(), fields.number().unwrap());
        self.asked.push(kind);
        if kind == 1 {
            let version = Packet::new(2).number(3);
            return if self.plain { version } else { version.bytes(b"posix-rename@openssh.com").bytes(b"1") };
        }
        if self.refused.contains(&kind) {
            return status(id, 3);
        }
        let mut text = || String::from_utf8(fields.bytes().unwrap().to_vec()).unwrap();
        match kind {
            3 => {
                self.open = text();
                let mode = (fields.number(), fields.number(), fields.number()).2.unwrap();
                self.files.insert(self.open.clone(), (mode, Vec::new()));
                Packet::new(102).number(id).bytes(b"h")
            }
            6 => {
                text();
                let (at, bytes) = (fields.long().unwrap(), fields.bytes().unwrap().to_vec());
                let file = &mut self.files.get_mut(&self.open).unwrap().1;
                assert_eq!(at, file.len() as u64);
                file.extend(bytes);
                status(id, 0)
            }
            8 => {
                let size = self.files[&self.open].1.len() as u64;
                Packet::new(105).number(id).number(1).long(size)
            }
            10 => {
                text();
                let mode = (fields.number(), fields.number()).1.unwrap();
                self.files.get_mut(&self.open).unwrap().0 = mode;
                status(id, 0)
            }
            13 => {
                let path = text();
                let code = if self.files.remove(&path).is_some() { 0 } else { 2 };
                status(id, code)
            }
            14 => {
                let path = text();
                self.folders.push(path);
                status(id, 0)
            }
            17 => {
                let path = text();
                let there = self.folders.contains(&path) || self.files.contains_key(&path);
                if there { Packet::new(105).number(id).number(0) } else { status(id, 2) }
            }
            18 | 200 => {
                if kind == 200 {
                    text();
                }
                let (from, to) = (text(), text());
                let file = self.files.remove(&from).unwrap();
                self.files.insert(to, file);
                status(id, 0)
            }
            _ => status(id, 0),
        }
    }
}

fn copy(server: Server, input: &Value) -> (Result<Value, String>, Server) {
    let server = Rc::new(RefCell::new(server));
    let own = Rc::clone(&server);
    let fake = Fake::new().node(Node::new("web1")).sftp(move |bytes| own.borrow_mut().answer(bytes));
    let result = fake.call(put, input).result.map_err(|fail| fail.message().to_owned());
    (result, Rc::into_inner(server).unwrap().into_inner())
}

#[test]
fn a_file_takes_the_place_of_the_old_one() {
    for plain in [false, true] {
        let old = BTreeMap::from([("/etc/app.conf".to_owned(), (0o644, b"old".to_vec()))]);
        let server = Server { files: old, plain, ..Server::default() };
        let input = json!({"bytes": b"new\n", "to": "/etc/app.conf", "mode": "0640"});
        let (result, server) = copy(server, &input);
        assert_eq!(result, Ok(json!({"path": "/etc/app.conf", "bytes": 4})));
        assert_eq!(server.files, BTreeMap::from([("/etc/app.conf".to_owned(), (0o640, b"new\n".to_vec()))]));
    }
}

#[test]
fn a_large_file_arrives_whole_and_folders_are_made() {
    let bytes: Vec<u8> = (0..700_001_u32).map(|number| number.to_le_bytes()[0]).collect();
    let server = Server { folders: vec!["/opt".to_owned()], ..Server::default() };
    let input = json!({"bytes": bytes, "to": "/opt/app/1.2/app.tar", "make_folders": true});
    let (result, server) = copy(server, &input);
    assert_eq!(result.unwrap()["bytes"], bytes.len());
    assert_eq!(server.folders, ["/opt", "/opt/app", "/opt/app/1.2"]);
    assert!(server.files["/opt/app/1.2/app.tar"] == (0o644, bytes));
}

#[test]
fn what_the_node_refuses_is_said_and_nothing_is_left() {
    fn check(refused: u8, expect: &str) {
        let server = Server { refused: vec![refused], ..Server::default() };
        let (result, server) = copy(server, &json!({"bytes": b"x", "to": "/a"}));
        assert_eq!(result.unwrap_err(), format!("/a on web1: {expect}: permission denied"));
        assert_eq!(server.files, BTreeMap::new());
    }
    check(3, "making the file");
    check(6, "writing the file");
    check(10, "setting the permissions");
    check(200, "taking the old file's place");
}

#[test]
fn what_cannot_be_written_is_said() {
    fn check(input: Value, expect: &str) {
        let found = Fake::new().node(Node::new("web1")).call(put, &input).result.unwrap_err();
        assert!(found.message().contains(expect), "{found}");
    }
    let bytes = b"x";
    check(json!({"bytes": bytes, "to": "a/b"}), "write an absolute path");
    check(json!({"bytes": bytes, "to": "/a/"}), "ends with the file's own name");
    check(json!({"bytes": bytes, "to": "/a/../b"}), "holds no `.` or `..`");
    check(json!({"bytes": bytes, "to": "/a", "mode": "rw"}), "write permissions in octal");
    check(json!({"bytes": bytes, "to": "/a", "mode": "77777"}), "write permissions in octal");
    let found = Fake::new().call(put, &json!({"bytes": bytes, "to": "/a"})).result.unwrap_err();
    assert!(found.message().contains("per: node"), "{found}");
    let silent = Fake::new().node(Node::new("web1")).sftp(|_| vec![0, 0, 0, 1, 9]);
    let found = silent.call(put, &json!({"bytes": bytes, "to": "/a"})).result.unwrap_err();
    assert!(found.message().contains("does not speak SFTP version 3"), "{found}");
}
