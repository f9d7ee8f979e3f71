//! A component that imports sockets and files, as those of an interpreter do, and tries to use them.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/step", world: "remit:step/step", generate_all });
}

use std::{
    fs, io,
    io::Write as _,
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
};

use bindings::{
    exports::remit::step::main::{End, Guest},
    remit::step::types::Failure,
};

struct Inert;
bindings::export!(Inert with_types_in bindings);

impl Guest for Inert {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    fn run(input: String) -> Result<String, End> {
        let text = input.trim_matches('"');
        let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
        match act(name, argument) {
            Ok(text) => Ok(format!("{text:?}")),
            Err(error) => {
                Err(End::Failed(Failure { message: format!("{:?}: {error}", error.kind()), fields: vec![] }))
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what it must not be able to do")]
fn act(name: &str, argument: &str) -> io::Result<String> {
    match name {
        "nothing" => Ok("nothing".to_owned()),
        "connect" => {
            TcpStream::connect(argument)?.write_all(b"hello")?;
            Ok("connected".to_owned())
        }
        "listen" => TcpListener::bind(argument).map(|_| "listens".to_owned()),
        "send" => {
            UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", argument)?;
            Ok("sent".to_owned())
        }
        "look-up" => Ok(argument.to_socket_addrs()?.map(|address| address.to_string()).collect()),
        "insist" => {
            let tries: usize = argument.parse().map_err(io::Error::other)?;
            let opened = (0..tries).filter(|_| TcpStream::connect("127.0.0.1:9").is_ok()).count();
            Ok(opened.to_string())
        }
        "read" => fs::read_to_string(argument),
        "write" => fs::write(argument, "hello").map(|()| "written".to_owned()),
        "list" => Ok(fs::read_dir(argument)?.count().to_string()),
        other => Err(io::Error::other(format!("{other:?} is nothing that it does"))),
    }
}
