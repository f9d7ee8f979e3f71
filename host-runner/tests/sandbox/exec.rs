//! Programs: what the remit names runs as it says, and nothing of it outlives the step.

use std::collections::BTreeMap;

use remit_protocol::{
    SecretPath, Size, Span,
    capability::{
        Ceiling,
        exec::ExecCeiling,
        secrets::{SecretCeiling, SecretUse},
    },
    limits::LimitsPart,
};
use serde_json::json;

use crate::support::{Bench, GRACE, SECRET, Setup};

const REQUESTS: &str = r#"{"exec":[{"program":"granted"}]}"#;

fn program(name: &str, path: &str, args: &[&str]) -> ExecCeiling {
    ExecCeiling {
        program: name.to_owned(),
        path: path.into(),
        args: args.iter().map(|arg| arg.parse().unwrap()).collect(),
        cwd: None,
        env: BTreeMap::from([("OWNER".to_owned(), "value".to_owned())]),
        variables: vec!["REMIT_*".to_owned().try_into().unwrap()],
    }
}

fn ceiling() -> Ceiling {
    Ceiling {
        exec: vec![
            program("echo", "/bin/echo", &["{text}*"]),
            program("env", "/usr/bin/env", &[]),
            program("pwd", "/bin/pwd", &[]),
            program("cat", "/bin/cat", &[]),
            program("false", "/bin/false", &[]),
            program("absent", "/nowhere/absent", &[]),
            // A shell is the owner's choice here: these are the tests' own scripts.
            program("group", "/bin/sh", &["-c", GROUP]),
            program("sleep", "/bin/sleep", &["{int}"]),
            program("file", "/bin/sh", &["-c", FILE]),
        ],
        secrets: vec![secret(SecretUse::Env, "env"), secret(SecretUse::File, "file")],
        ..Ceiling::default()
    }
}

fn secret(usage: SecretUse, program: &str) -> SecretCeiling {
    SecretCeiling {
        path: SecretPath::new("keys/test/token").unwrap(),
        usage,
        hosts: vec![],
        users: vec![],
        programs: vec![program.to_owned()],
        components: None,
        projects: None,
    }
}

fn bench_with(grant: &str, limits: LimitsPart) -> Bench {
    Bench::new(Setup {
        guest: "exec",
        requests: REQUESTS,
        grant,
        ceiling: ceiling(),
        limits,
        ..Setup::default()
    })
}

fn bench() -> Bench {
    let grant = r#"{"exec":[{"program":"echo"},{"program":"env"},{"program":"pwd"},{"program":"cat"},
        {"program":"false"},{"program":"absent"},{"program":"sleep"}]}"#;
    bench_with(grant, LimitsPart::default())
}

#[tokio::test]
async fn a_program_gets_its_arguments_and_nothing_of_the_runner() {
    let bench = bench();
    assert_eq!(bench.output("run echo a $HOME ;b").await, json!("a $HOME ;b\n||code 0"));
    assert_eq!(bench.output("run env").await, json!("OWNER=value\n||code 0"));
    assert_eq!(bench.output("set REMIT_A=b env").await, json!("OWNER=value\nREMIT_A=b\n||code 0"));
    let (_, message) = bench.end("set OWNER=mine env").await;
    assert!(message.contains("denied: exec env with the variable"), "{message}");
    assert_eq!(bench.output("run false").await, json!("||code 1"));
    assert_eq!(bench.output("wait false").await, json!("code 1 code 1"));
    assert_eq!(bench.output("feed 200000 cat").await, json!("200000||code 0"));
    let directory = bench.output("run pwd").await;
    assert!(directory.as_str().unwrap().contains("/exec-"), "{directory}");
    bench.sandbox.idle().await;
    assert!(bench.left_behind().is_empty(), "{:?}", bench.left_behind());
}

#[tokio::test]
async fn only_what_fits_the_remit_is_started() {
    let check = async |act: &str, message: &str, remedy: &str| {
        let bench =
            bench_with(r#"{"exec":[{"program":"echo","args":["{enum a b}"]}]}"#, LimitsPart::default());
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome.to_string(), "failed", "{act}: {:?}", ended.output);
        assert!(ended.message.contains(message), "{act}: {}", ended.message);
        assert_eq!(ended.denials[0].remedy, remedy);
        assert_eq!(ended.usage.unwrap().used.processes, 0);
    };
    check("run echo c", "denied: exec echo", "grant:\n  exec: [{ program: \"echo\", args: [\"c\"] }]").await;
    check(
        "run echo -n",
        "denied",
        "[[ceiling.exec]]\nprogram = \"echo\"\npath = \"/usr/bin/echo\"\nargs = [\"-n\"]",
    )
    .await;
    check("run pwd", "denied: exec pwd", "grant:\n  exec: [{ program: \"pwd\", args: [] }]").await;
    let bench = bench_with(r#"{"exec":[{"program":"echo","args":["{enum a b}"]}]}"#, LimitsPart::default());
    assert_eq!(bench.output("run echo b").await, json!("b\n||code 0"));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failure_to_handle() {
    let (outcome, message) = bench().end("run absent").await;
    assert_eq!(outcome, "failed");
    assert!(message.contains("/nowhere/absent could not be started"), "{message}");
}

#[tokio::test]
async fn a_bound_secret_reaches_the_program_and_is_redacted_from_its_output() {
    let grant = r#"{"exec":[{"program":"env","secret":{"name":"token","env":"TOKEN"}}]}"#;
    let bench = bench_with(grant, LimitsPart::default());
    let output = bench.output("run env").await.as_str().unwrap().to_owned();
    assert!(output.contains("TOKEN=") && !output.contains(SECRET), "{output}");
}

/// What the file holds, and then the environment. One word: the guest takes words.
const FILE: &str = "cat<$TOKEN_FILE;env";

#[tokio::test]
async fn a_program_gets_a_secret_as_a_file_of_its_own() {
    let grant = r#"{"exec":[{"program":"file","secret":{"name":"token","file":"TOKEN_FILE"}}]}"#;
    let bench = bench_with(grant, LimitsPart::default());
    let output = bench.output(&format!("run file -c {FILE}")).await.as_str().unwrap().to_owned();
    let environment = output.strip_prefix("[redacted:keys/test/token]").unwrap();
    assert!(
        environment.contains("TOKEN_FILE=/proc/self/fd/") && !environment.contains("redacted"),
        "{output}"
    );
    bench.sandbox.idle().await;
    assert!(bench.left_behind().is_empty(), "{:?}", bench.left_behind());
}

#[tokio::test]
async fn processes_and_bytes_are_counted() {
    let limits =
        LimitsPart { processes: Some(1), ingress: Some(Size::from_bytes(1000)), ..LimitsPart::default() };
    let bench = bench_with(r#"{"exec":[{"program":"cat"}]}"#, limits);
    let ended = bench.run("feed 500 cat").await;
    let used = ended.usage.unwrap().used;
    assert_eq!((used.processes, used.egress.bytes(), used.ingress.bytes()), (1, 500, 500));
    let (outcome, message) = bench.end("feed 5000 cat").await;
    assert_eq!(outcome, "over-limit(ingress)", "{message}");
}

/// A script that starts another process, which ignores SIGTERM as it does itself, and says both numbers.
const GROUP: &str = "trap '' TERM; sleep 1000 & echo $$ $!; wait";

fn alive(pid: &str) -> bool {
    // A zombie is not running any more.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

async fn group_is_gone(bench: &Bench) {
    bench.sandbox.idle().await;
    let texts = bench.log.texts();
    let pids: Vec<_> = texts[0].split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{texts:?}");
    for pid in pids {
        assert!(!alive(pid), "{pid} is alive");
    }
    assert!(bench.left_behind().is_empty(), "{:?}", bench.left_behind());
}

#[tokio::test]
async fn the_process_group_dies_with_the_step() {
    let limits = LimitsPart { cpu: Some(Span::from_millis(300)), ..LimitsPart::default() };
    let bench = bench_with(r#"{"exec":[{"program":"group"}]}"#, limits);
    assert_eq!(bench.end(&format!("leave {GROUP}")).await.0, "over-limit(cpu)");
    group_is_gone(&bench).await;
}

#[tokio::test]
async fn cancelling_ends_a_program_that_is_waited_for() {
    let bench = bench();
    let cancel = async {
        tokio::time::timeout(std::time::Duration::from_millis(100), bench.log.said.notified()).await.ok();
        bench.cancel.within(GRACE);
    };
    let (ended, ()) = tokio::join!(bench.run("wait sleep 1000"), cancel);
    assert_eq!(ended.outcome.to_string(), "cancelled", "{}", ended.message);
    bench.sandbox.idle().await;
    assert!(bench.left_behind().is_empty());
}
