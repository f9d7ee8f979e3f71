//! A component that wants sockets of its own: TCP, UDP and the resolver, beside the one door.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/step"],
        inline: "
            package guest:sockets;
            world guest {
                include remit:step/step@0.1.0;
            }
        ",
        world: "guest:sockets/guest",
        generate_all,
    });
}

use bindings::exports::remit::step::main::{End, Guest};

struct Sockets;
bindings::export!(Sockets with_types_in bindings);

impl Guest for Sockets {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    /// The input is a name with a port; the standard library turns the calls into imports of `wasi:sockets`.
    fn run(input: String) -> Result<String, End> {
        let place = input.trim_matches('"');
        let tcp = std::net::TcpStream::connect(place).is_ok();
        let udp =
            std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", place)).is_ok();
        Ok(format!("[{tcp},{udp}]"))
    }
}
