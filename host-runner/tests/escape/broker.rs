//! What a worker that was taken over says to its supervisor.

use std::{path::Path, time::Duration};

use remit_runner::conformance::bench::{Bench, Suite};
use serde_json::{Value, json};

use crate::{
    Expect, check,
    service::Service,
    setup,
    wire::{ASK, DATA, END, FINISH, PROGRESS, RELEASE, REQUEST, RESPONSE, WINDOW, WRITE, Worker, frame},
};

type Words = (&'static str, fn(&mut Worker), Expect, u32);

const fn told(says: &'static str) -> Expect {
    Expect { outcome: "succeeded", says }
}

const fn given_up(says: &'static str) -> Expect {
    Expect { outcome: "host-fault", says }
}

/// What is said, what must come of it, and how many connections the service sees.
const WORDS: &[Words] = &[
    // What the remit names, so that refusing everything does not pass.
    ("run the permitted program", |worker| tell(worker, &start("echo", &["permitted"])), told("Opened"), 0),
    ("read the permitted file", |worker| tell(worker, &open("open", "")), told("Opened"), 0),
    ("call the permitted host", |worker| call(worker, "GET", "/open", &[]), told("GET /open"), 1),
    (
        "run the program that is given a secret",
        |worker| {
            let child = worker.ask(&start("env", &[]), b"")["Ok"]["Opened"].clone();
            let mut output = String::new();
            loop {
                let (head, bytes) = worker.ask_for_bytes(&json!({"Output": child}));
                if head["Ok"] == "End" || head.get("Err").is_some() {
                    break;
                }
                output += &String::from_utf8_lossy(&bytes);
            }
            worker.output(&output);
        },
        told("TOKEN=[redacted:keys/test/token]"),
        0,
    ),
    // What it does not.
    ("run another program", |worker| tell(worker, &start("sh", &["-c", "id"])), told("Denied"), 0),
    (
        "run a program by its path",
        |worker| tell(worker, &start("/bin/echo", &["permitted"])),
        told("Denied"),
        0,
    ),
    ("run it with other arguments", |worker| tell(worker, &start("echo", &["other"])), told("Denied"), 0),
    (
        "see a secret that is bound to a rule",
        |worker| tell(worker, &json!({"Reveal": "token"})),
        told("Denied"),
        0,
    ),
    (
        "see a secret by its path",
        |worker| tell(worker, &json!({"Reveal": "keys/test/token"})),
        told("Denied"),
        0,
    ),
    (
        "read a file of the ceiling that was not granted",
        |worker| tell(worker, &open("closed", "")),
        told("Denied"),
        0,
    ),
    ("read beside a file", |worker| tell(worker, &open("open", "../closed")), told("Denied"), 0),
    ("read by an absolute path", |worker| tell(worker, &open("open", "/etc/passwd")), told("Denied"), 0),
    (
        "use ssh without a node",
        |worker| {
            tell(worker, &json!({"Command": {"argv": ["id"]}}));
        },
        told("only a node step"),
        0,
    ),
    (
        "find nodes in a step",
        |worker| {
            tell(worker, &json!({"Emit": [{"name": "n", "tags": [], "attributes": []}]}));
        },
        told("does not take nodes"),
        0,
    ),
    (
        "call another host",
        |worker| request(worker, "GET", "http://b.example:1/open", &[]),
        told("HttpRequestDenied"),
        0,
    ),
    (
        "call the address itself",
        |worker| {
            let port = worker.scene["port"].clone();
            request(worker, "GET", &format!("http://127.0.0.1:{port}/open"), &[]);
        },
        told("HttpRequestUriInvalid"),
        0,
    ),
    ("call another path", |worker| call(worker, "GET", "/closed", &[]), told("HttpRequestDenied"), 0),
    ("call by another method", |worker| call(worker, "POST", "/open", &[]), told("HttpRequestDenied"), 0),
    (
        "name another host in a header",
        |worker| {
            call(worker, "GET", "/open", &[("host", "b.example")]);
        },
        told("HttpRequestDenied"),
        0,
    ),
    (
        "smuggle a header",
        |worker| call(worker, "GET", "/open", &[("x", "a\r\nb: c")]),
        given_up("a header field"),
        0,
    ),
    (
        "ask for more requests than the remit has",
        |worker| {
            for _ in 0..302 {
                let head = exchange(worker, "GET", "http://b.example:1/x", &[]);
                if head.to_string().contains("ConnectionLimitReached") {
                    return worker.output("no more");
                }
            }
            worker.output("all of them");
        },
        told("no more"),
        0,
    ),
    (
        "start more programs than the remit has",
        |worker| {
            let answers: Vec<_> = (0..9).map(|_| worker.ask(&start("echo", &["permitted"]), b"")).collect();
            worker.output(&answers[8].to_string());
        },
        told("OverLimit"),
        0,
    ),
    // Words that are not its own.
    ("use what is not open", |worker| tell(worker, &json!({"Output": 77})), told("Halt"), 0),
    (
        "use a program as a file",
        |worker| {
            worker.ask(&start("echo", &["permitted"]), b"");
            tell(worker, &json!({"Read": {"file": 1, "max": 10}}));
        },
        told("Halt"),
        0,
    ),
    (
        "close what is not open",
        |worker| {
            worker.send(RELEASE, worker.run, 0, &json!(77), b"");
            worker.output("closed");
        },
        told("closed"),
        0,
    ),
    (
        "speak of a run that will be",
        |worker| {
            worker.send(ASK, worker.run + 1, 0, &start("echo", &["permitted"]), b"");
        },
        given_up("not its own"),
        0,
    ),
    ("speak of no run", |worker| worker.send(FINISH, 0, 0, &json!(null), b""), given_up("not its own"), 0),
    (
        "speak of every run",
        |worker| {
            worker.send(ASK, u32::MAX, 0, &start("echo", &["permitted"]), b"");
        },
        given_up("not its own"),
        0,
    ),
    (
        "speak as a supervisor",
        |worker| worker.send(2, worker.run, 0, &json!({}), b""),
        given_up("not a worker's to say"),
        0,
    ),
    (
        "answer itself",
        |worker| worker.send(4, worker.run, 0, &json!({"Ok": "Done"}), b""),
        given_up("not a worker's to say"),
        0,
    ),
    (
        "ask twice at once",
        |worker| {
            let slow = frame(ASK, worker.run, 0, &json!({"Wait": 1}), b"");
            worker.ask(&start("sleep", &["60"]), b"");
            let both = [slow.clone(), slow].concat();
            std::io::Write::write_all(&mut worker.socket, &both).unwrap();
        },
        given_up("in the middle of a call"),
        0,
    ),
    (
        "ask for what there is not",
        |worker| {
            worker.send(ASK, worker.run, 0, &json!({"Format": "/"}), b"");
        },
        given_up("broke the rules"),
        0,
    ),
    (
        "send words that are none",
        |worker| {
            let mut broken = frame(ASK, worker.run, 0, &json!("xxxx"), b"");
            broken[17] = b'{';
            std::io::Write::write_all(&mut worker.socket, &broken).unwrap();
        },
        given_up("broke the rules"),
        0,
    ),
    (
        "send a frame of two gigabytes",
        |worker| {
            std::io::Write::write_all(&mut worker.socket, &[0, 0, 0, 0x80]).unwrap();
        },
        given_up("a frame of"),
        0,
    ),
    (
        "claim that it was refused",
        |worker| {
            worker.finish(&json!({"Stopped": ["refused(E_GRANT)", "by itself"]}), "");
        },
        given_up("by itself"),
        0,
    ),
    (
        "end with something that is no document",
        |worker| worker.finish(&json!("Output"), "{"),
        Expect { outcome: "failed", says: "not acceptable JSON" },
        0,
    ),
    (
        "end with more than the remit has",
        |worker| {
            worker.finish(&json!("Output"), &json!("x".repeat(300 << 10)).to_string());
        },
        Expect { outcome: "over-limit(output)", says: "its limit is" },
        0,
    ),
    (
        "end twice",
        |worker| {
            worker.output("once");
            worker.finish(&json!({"Trapped": "twice"}), "");
        },
        told("once"),
        0,
    ),
    // Floods.
    (
        "flood the log",
        |worker| {
            for _ in 0..64 {
                worker.send(WRITE, worker.run, 0, &json!(["info", []]), &[b'x'; 1 << 20]);
            }
            worker.output("flooded");
        },
        Expect { outcome: "over-limit(log)", says: "log" },
        0,
    ),
    (
        "flood with progress",
        |worker| {
            for done in 0..20_000 {
                worker.send(PROGRESS, worker.run, 0, &json!([done, 20_000]), b"");
            }
            worker.output("flooded");
        },
        told("flooded"),
        0,
    ),
    (
        "begin requests without end",
        |worker| {
            for stream in 0..400 {
                let head = head("GET", "http://b.example:1/x", &[]);
                worker.send(REQUEST, worker.run, 1000 + stream, &head, b"");
            }
            worker.output("begun");
        },
        Expect { outcome: "", says: "" },
        0,
    ),
    (
        "begin two requests of one number",
        |worker| worker.together(&[(REQUEST, &asking(worker), b""), (REQUEST, &asking(worker), b"")]),
        given_up("two of one number"),
        9,
    ),
    (
        "send pieces of nothing",
        |worker| worker.together(&[(REQUEST, &asking(worker), b""), (DATA, &json!(null), b"")]),
        given_up("that nobody has taken"),
        9,
    ),
    (
        "take what was not sent",
        |worker| worker.together(&[(REQUEST, &asking(worker), b""), (WINDOW, &json!(1_000_000), b"")]),
        given_up("more was taken"),
        9,
    ),
];

/// How many are tried.
pub(crate) fn count() -> usize {
    WORDS.len()
}

fn start(program: &str, args: &[&str]) -> Value {
    json!({"Start": {"program": program, "args": args, "variables": []}})
}

fn open(name: &str, path: &str) -> Value {
    json!({"Open": {"name": name, "path": path}})
}

/// A request that is permitted.
fn asking(worker: &Worker) -> Value {
    head("GET", &format!("http://a.example:{}/open", worker.scene["port"]), &[])
}

/// Asks, and ends with the answer as the output.
fn tell(worker: &mut Worker, call: &Value) {
    let answer = worker.ask(call, b"");
    worker.output(&answer.to_string());
}

fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Value {
    json!({"method": method, "uri": uri, "fields": fields, "patience": [null, null, null]})
}

/// Sends a request and gives the answer's head, with the body beside it.
fn exchange(worker: &mut Worker, method: &str, uri: &str, fields: &[(&str, &str)]) -> Value {
    static LAST: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let stream = LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    worker.send(REQUEST, worker.run, stream, &head(method, uri, fields), b"");
    worker.send(END, worker.run, stream, &json!(null), b"");
    let mut answer = json!(null);
    let mut body = Vec::new();
    loop {
        match worker.receive() {
            (RESPONSE, of, head, _) if of == stream => {
                answer = head;
                if answer.get("Err").is_some() {
                    return answer;
                }
            }
            (DATA, of, _, bytes) if of == stream => body.extend(bytes),
            (END, of, ..) if of == stream => {
                return json!([answer, String::from_utf8_lossy(&body)]);
            }
            _ => {}
        }
    }
}

fn request(worker: &mut Worker, method: &str, uri: &str, fields: &[(&str, &str)]) {
    let answer = exchange(worker, method, uri, fields);
    worker.output(&answer.to_string());
}

fn call(worker: &mut Worker, method: &str, path: &str, fields: &[(&str, &str)]) {
    let port = worker.scene["port"].clone();
    request(worker, method, &format!("http://a.example:{port}{path}"), fields);
}

/// In the worker: says it.
pub(crate) fn play(name: &str, worker: &mut Worker) {
    match name {
        "say who it is" => worker.output(&std::process::id().to_string()),
        "say nothing" => {}
        "end itself" => std::process::exit(7),
        name => {
            let (_, say, ..) = WORDS.iter().find(|(known, ..)| *known == name).unwrap();
            say(worker);
        }
    }
}

fn act(name: &str, port: u16) -> String {
    json!({"act": format!("broker:{name}"), "port": port}).to_string()
}

/// Has each of the words said by a worker of `bench`.
pub(crate) async fn attack(bench: &Bench, service: &Service) {
    for (name, _, expect, connections) in WORDS {
        let before = service.connections();
        bench.log.lines.lock().unwrap().clear();
        bench.log.progress.lock().unwrap().clear();
        let ended = bench.run(&act(name, service.port)).await;
        let seen = service.connections() - before;
        if expect.outcome.is_empty() {
            // Either the requests were too many at once, or each was refused in time.
            assert!(["host-fault", "succeeded"].contains(&ended.outcome.to_string().as_str()), "{name}");
        } else {
            check(name, &ended, expect);
        }
        assert!(seen == *connections || (*connections == 9 && seen <= 1), "{name}: {seen} connections");
        let logged: usize = bench.log.texts().iter().map(String::len).sum();
        assert!(logged <= 1 << 20, "{name}: {logged} bytes were logged");
        let progress = bench.log.progress.lock().unwrap().len();
        assert!(progress < 100, "{name}: {progress} words of progress");
        let usage = ended.usage.unwrap();
        assert!(usage.used.requests <= 300 && usage.used.processes <= 8, "{name}: {usage:?}");
    }
}

/// Workers that end in the middle of a run take that run with them, and nothing else.
pub(crate) async fn deaths(suite: &Suite, service: &Service, files: &Path) {
    let mut bench = Bench::load(suite, setup(service, files)).unwrap();
    let say = async |bench: &Bench, name: &str| bench.run(&act(name, service.port)).await;
    check("an exit", &say(&bench, "end itself").await, &given_up("exit code 7"));

    // One that is killed from outside, as the kernel does for want of memory.
    let pid: i32 = say(&bench, "say who it is").await.output.unwrap().as_str().unwrap().parse().unwrap();
    let killed = async {
        // The run that says nothing has begun when it is the one that is told to end.
        tokio::task::yield_now().await;
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    let (ended, ()) = tokio::join!(say(&bench, "say nothing"), killed);
    check("a kill", &ended, &given_up("SIGKILL"));
    let other: i32 = say(&bench, "say who it is").await.output.unwrap().as_str().unwrap().parse().unwrap();
    assert_ne!(pid, other, "another worker took over");

    // One that does not end when it should is ended; what waits for it is told.
    bench.timeout = Some(remit_protocol::Span::from_millis(50));
    check("silence", &say(&bench, "say nothing").await, &given_up("did not end a run in time"));
    bench.timeout = None;
    bench.cancel.within(Duration::ZERO);
    let ended = say(&bench, "say nothing").await;
    assert_eq!(ended.outcome.to_string(), "cancelled");
}
