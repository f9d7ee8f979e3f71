//! A component without any capability, and what it can try all the same.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]
#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a guest that misbehaves on purpose"
)]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../../../wit/step"],
        inline: "
            package guest:pure;
            world guest {
                include remit:step/step@0.1.0;
                import wasi:clocks/monotonic-clock@0.2.12;
                import wasi:random/random@0.2.12;
            }
        ",
        world: "guest:pure/guest",
        generate_all,
    });
}

use bindings::{
    exports::remit::step::main::{End, Guest},
    remit::step::{
        context,
        log::{self, Level},
        types::Failure,
    },
    wasi::{clocks::monotonic_clock, random::random},
};

struct Pure;
bindings::export!(Pure with_types_in bindings);

impl Guest for Pure {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    fn run(input: String) -> Result<String, End> {
        let text = input.trim_matches('"');
        let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
        act(name, argument)
    }
}

fn number(argument: &str) -> usize {
    argument.parse().unwrap_or_default()
}

fn failed(message: &str) -> End {
    End::Failed(Failure {
        message: message.to_owned(),
        fields: vec![("field".to_owned(), "value".to_owned())],
    })
}

fn act(name: &str, argument: &str) -> Result<String, End> {
    match name {
        "nothing" => {}
        "echo" => return Ok(argument.to_owned()),
        "fail" => return Err(failed(argument)),
        "say-cancelled" => return Err(End::Cancelled),
        "panic" => panic!("{argument}"),
        "exit" => std::process::exit(7),
        "loop" => spin(),
        "recurse" => return Ok(descend(1).to_string()),
        "memory" => hoard(number(argument)),
        "random" => return Ok(random::get_random_bytes(number(argument) as u64).len().to_string()),
        "log" => (0..number(argument)).for_each(|_| log::write(Level::Info, "line", &[])),
        "log-bytes" => log::write(Level::Info, &"x".repeat(number(argument)), &[]),
        "say" => log::write(
            Level::Warn,
            &argument.replace("ESC", "\u{1b}").replace("BEL", "\u{7}").replace("RET", "\r"),
            &[],
        ),
        "print" => {
            println!("out {argument}");
            eprint!("error without end");
        }
        "print-bytes" => return print_bytes(),
        "print-flood" => loop {
            println!("{argument}");
        },
        "print-nothing" => return print_nothing(number(argument)),
        "output" => return Ok(format!("\"{}\"", "y".repeat(number(argument)))),
        "huge-text" => log::write(Level::Info, &"z".repeat(number(argument)), &[]),
        "sleep" => context::sleep(argument.parse().unwrap_or_default())?,
        "tell-and-sleep" => {
            log::write(Level::Info, "here", &[]);
            context::sleep(argument.parse().unwrap_or_default())?;
        }
        "sleep-deaf" => {
            std::thread::sleep(std::time::Duration::from_millis(argument.parse().unwrap_or_default()));
        }
        "read-stdin" => return read_stdin(),
        "environment" => return Ok(format!("{:?}", format!("{:?} {:?}", environment(), arguments()))),
        "context" => return Ok(describe_context()),
        "progress" => (1..=number(argument)).for_each(|done| context::progress(done as u64, 100)),
        "leftovers" => return Ok(leftovers()),
        "pollables" => return Ok(pollables(number(argument))),
        _ => return Err(failed("no such act")),
    }
    Ok("null".to_owned())
}

fn spin() {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 16]);
    if depth == u64::MAX {
        return 0;
    }
    std::hint::black_box(descend(depth + 1)) + frame[3]
}

fn hoard(mebibytes: usize) {
    let mut held = Vec::new();
    for _ in 0..mebibytes {
        held.push(vec![1_u8; 1 << 20]);
    }
    std::hint::black_box(held);
}

/// Bytes that are no text: a byte that no character begins with, and characters that are cut off.
fn print_bytes() -> Result<String, End> {
    use std::io::Write;

    let written = std::io::stdout().write_all(b"no \xff text \xe2\x82 at \xf0\x9f all\n");
    written.map(|()| "null".to_owned()).map_err(|error| failed(&error.to_string()))
}

fn print_nothing(times: usize) -> Result<String, End> {
    use std::io::Write;

    let mut out = std::io::stdout().lock();
    for _ in 0..times {
        out.write_all(b"").map_err(|error| failed(&error.to_string()))?;
        out.flush().map_err(|error| failed(&error.to_string()))?;
    }
    Ok("null".to_owned())
}

fn read_stdin() -> Result<String, End> {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text).map_err(|error| failed(&error.to_string()))?;
    Ok(format!("{text:?}"))
}

fn environment() -> Vec<(String, String)> {
    std::env::vars().collect()
}

fn arguments() -> Vec<String> {
    std::env::args().collect()
}

fn describe_context() -> String {
    let node = context::node().map(|node| format!("{} {:?} {:?}", node.name, node.tags, node.attributes));
    format!(
        "{:?}",
        format!(
            "{} {} {} {} {:?} {}",
            context::execution(),
            context::step(),
            context::attempt(),
            context::idempotency_key(),
            node,
            context::remaining() > 0
        )
    )
}

/// Counts bytes of fresh memory that are not zero, and leaves others there. The allocator takes memory that was just grown
/// for zeroed and does not clear it.
fn leftovers() -> String {
    let mut block = vec![0_u8; 8 << 20];
    let found = std::hint::black_box(&block).iter().filter(|byte| **byte != 0).count();
    block.fill(0xaa);
    std::hint::black_box(&block);
    found.to_string()
}

/// Holds many host resources at once.
fn pollables(count: usize) -> String {
    let held: Vec<_> = (0..count).map(|_| monotonic_clock::subscribe_duration(u64::MAX)).collect();
    held.len().to_string()
}
