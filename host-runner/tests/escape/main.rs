//! A worker that was taken over altogether, and a broker: what is left to them, toward the kernel and toward those whom they
//! speak with.
//!
//! This program is its own runner, launcher, broker and worker. As a broker it does what stands in [`apart`]. As a worker
//! it confines itself as every worker does, and then does what the input of a run names: a system call of [`kernel`], or
//! words of [`broker`] that no honest worker says. The other side is the product's own: the sandbox with its broker, given
//! a remit, and a service on loopback that counts who calls.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "a test without a harness says what it has done")]

mod apart;
mod broker;
mod kernel;
mod service;
mod wire;

use std::{os::fd::AsFd as _, path::Path};

use remit_protocol::{
    SecretPath, Size, Span,
    capability::{
        Ceiling,
        exec::ExecCeiling,
        files::FilesCeiling,
        secrets::{SecretCeiling, SecretUse},
    },
    limits::LimitsPart,
};
use remit_runner::{
    conformance::bench::{Bench, Setup, Suite},
    launcher,
    sandbox::Ended,
};
use serde_json::{Value, json};

use self::service::Service;

/// What an attack is told, and what must come of it.
struct Expect {
    outcome: &'static str,
    /// Part of the message or the output.
    says: &'static str,
}

fn text(ended: &Ended) -> String {
    format!("{} {}", ended.message, ended.output.as_ref().map(Value::to_string).unwrap_or_default())
}

fn check(name: &str, ended: &Ended, expect: &Expect) {
    let text = text(ended);
    assert_eq!(ended.outcome.to_string(), expect.outcome, "{name}: {text}");
    assert!(text.contains(expect.says), "{name}: {text}");
    assert!(!text.contains(remit_runner::conformance::bench::SECRET), "{name}: the secret was seen");
}

fn suite() -> Suite {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../guests");
    Suite::new(&folder, &std::env::current_exe().unwrap())
}

/// A remit with something of everything.
fn setup(service: &Service, files: &Path) -> Setup {
    let rule = |more: Value| {
        let mut rule = json!({"scheme": "http", "host": "a.example", "port": service.port, "methods": ["GET"], "paths": ["/open"]});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([rule])
    };
    let grant = json!({
        "exec": [
            {"program": "echo"},
            {"program": "sleep"},
            {"program": "env", "secret": {"name": "token", "env": "TOKEN"}},
        ],
        "http": rule(json!({"private": true})),
        "files": [{"name": "open"}],
    });
    let program = |name: &str, args: &[&str]| ExecCeiling {
        program: name.to_owned(),
        path: format!("/usr/bin/{name}").into(),
        args: args.iter().map(|arg| arg.parse().unwrap()).collect(),
        cwd: None,
        env: std::collections::BTreeMap::new(),
        variables: Vec::new(),
    };
    let ceiling = Ceiling {
        exec: vec![program("echo", &["permitted"]), program("sleep", &["{int}"]), program("env", &[])],
        http: serde_json::from_value(rule(json!({"private": ["127.0.0.0/8"]}))).unwrap(),
        files: vec![
            FilesCeiling { name: "open".to_owned(), path: files.join("open"), mode: Default::default() },
            FilesCeiling { name: "closed".to_owned(), path: files.join("closed"), mode: Default::default() },
        ],
        secrets: vec![SecretCeiling {
            path: SecretPath::new("keys/test/token").unwrap(),
            usage: SecretUse::Env,
            hosts: vec![],
            users: vec![],
            programs: vec!["env".to_owned()],
            components: None,
            projects: None,
        }],
        ..Ceiling::default()
    };
    Setup {
        requests:
            r#"{"exec":[{"program":"granted"}],"http":[{"host":"granted"}],"files":[{"path":"granted"}]}"#
                .to_owned(),
        grant: grant.to_string(),
        ceiling,
        limits: LimitsPart {
            requests: Some(300),
            processes: Some(8),
            wall: Some(Span::from_secs(30)),
            log: Some(Size::from_mib(1)),
            ..LimitsPart::default()
        },
        names: [("a.example".to_owned(), vec![vec!["127.0.0.1".parse().unwrap()]])].into(),
        ..Setup::default()
    }
}

fn parent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let suite = suite();
        let files = tempfile::tempdir().unwrap();
        for name in ["open", "closed"] {
            std::fs::write(files.path().join(name), name).unwrap();
        }
        let service = Service::start().await;
        let bench = Bench::load(&suite, setup(&service, files.path())).unwrap();
        kernel::attack(&bench, kernel::PROBES, service.port, files.path()).await;
        broker::attack(&bench, &service).await;
        let scratch = Setup {
            guest: "scratch".to_owned(),
            requests: r#"{"files":[{"scratch":true}]}"#.to_owned(),
            grant: r#"{"files":[{"scratch":true}]}"#.to_owned(),
            ..Setup::default()
        };
        let bench = Bench::load(&suite, scratch).unwrap();
        kernel::attack(&bench, kernel::SCRATCH, service.port, files.path()).await;
        broker::deaths(&suite, &service, files.path()).await;
        apart::words(&suite).await;
        apart::attack(&service).await;
    });
    println!(
        "escape: of workers {} system calls, {} words and a few deaths, of brokers {} attempts, as expected",
        kernel::PROBES.len() + kernel::SCRATCH.len(),
        broker::count(),
        apart::count()
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["launch"] => launcher::serve(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap(),
        ["broker"] => apart::live(),
        ["worker", ..] => wire::live(|worker| {
            let act = worker.act.clone();
            let (place, act) = act.split_once(':').unwrap();
            match place {
                "kernel" => kernel::play(act, worker),
                _ => broker::play(act, worker),
            }
        }),
        _ => parent(),
    }
}
