//! A profile's interfaces: a component that calls them gets an error, and nobody outside hears of it.

use std::{
    io::ErrorKind,
    net::{TcpListener, UdpSocket},
};

use remit_protocol::{
    Limits, RefusalCode,
    capability::imports::Profile,
    manifest::{Kind, Manifest},
};
use remit_signing::verify::check_wasm;

use crate::support::{Bench, Setup, guest, verified_under};

const SCRATCH: &str = r#"{"files":[{"scratch":true}]}"#;

fn python(requests: &str) -> Bench {
    let profile = Some(Profile::Python);
    Bench::new(Setup { guest: "inert", profile, requests, grant: requests, ..Setup::default() })
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the one who would be called, were it not denied")]
async fn a_socket_is_denied_and_nobody_hears_of_it() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let bench = python("{}");
    for act in [
        &format!("connect {}", tcp.local_addr().unwrap()),
        &format!("send {}", udp.local_addr().unwrap()),
        "connect localhost:80",
        "listen 127.0.0.1:0",
        "look-up localhost:80",
    ] {
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome.to_string(), "failed", "{act}: {:?}", ended.output);
        let denial = ended.denials.first().unwrap_or_else(|| panic!("{act}: nothing is on record"));
        assert!(denial.permission.starts_with("wasi:sockets/"), "{act}: {denial}");
    }
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(udp.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn to_ask_again_and_again_changes_nothing() {
    let bench = python("{}");
    let ended = bench.run("insist 20000").await;
    assert_eq!(ended.output, Some(serde_json::json!("0")), "{}", ended.message);
    assert!(ended.denials.len() <= 2, "{:?}", ended.denials);
}

#[tokio::test]
async fn no_file_is_there() {
    let bench = python("{}");
    for act in ["read /etc/hostname", "read hostname", "write /scratch/a", "write /tmp/a", "list /"] {
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome.to_string(), "failed", "{act}: {:?}", ended.output);
    }
    assert!(bench.left_behind().is_empty(), "{:?}", bench.left_behind());
    assert_eq!(bench.output("nothing").await, serde_json::json!("nothing"));
}

#[tokio::test]
async fn what_is_asked_for_is_real_under_a_profile_too() {
    let bench = python(SCRATCH);
    assert_eq!(bench.output("write /scratch/a").await, serde_json::json!("written"));
    let ended = bench.run("read /etc/hostname").await;
    assert_eq!(ended.outcome.to_string(), "failed");
    let ended = bench.run("connect 127.0.0.1:9").await;
    assert_eq!(ended.outcome.to_string(), "failed");
}

#[test]
fn the_same_bytes_are_refused_without_their_profile() {
    let python = verified_under("inert", Kind::Step, Some(Profile::Python), "{}", Limits::default());
    let check = |profile: Option<Profile>, requests: &str, expect: Result<(), RefusalCode>| {
        let requests = serde_json::from_str(requests).unwrap();
        let manifest = Manifest { profile, requests, ..python.manifest().clone() };
        let found = check_wasm(&guest("inert"), &manifest);
        assert_eq!(found.map(|_| ()).map_err(|refusal| refusal.code), expect, "{profile:?}");
    };
    check(Some(Profile::Python), "{}", Ok(()));
    check(None, "{}", Err(RefusalCode::Imports));
    check(None, SCRATCH, Err(RefusalCode::Imports));
    check(Some(Profile::Js), "{}", Err(RefusalCode::Imports));
}
