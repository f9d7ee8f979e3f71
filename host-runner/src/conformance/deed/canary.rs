//! Where a secret's value must not be: in the runner's own log at its loudest, and in the memory and the environment of the
//! worker that uses it.

use std::fs;

use anyhow::{Result, bail};
use remit_protocol::Size;

use super::{Needle, Seen, output, seen};
use crate::{
    conformance::{
        World,
        bench::{Bench, SECRET, Setup, Suite},
        http::encrypted,
    },
    launcher::Exit,
};

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

pub(super) async fn loudest(suite: &Suite) -> Result<Seen> {
    let folder = fs::canonicalize(&suite.folder)?.display().to_string();
    let words = ["--log", "trace", "conformance", "--suite", &folder, "--threat", "9", "--output", "json"];
    let (exit, all) = output(suite, words.map(str::to_owned).to_vec()).await?;
    let encoded = data_encoding::BASE64.encode(SECRET.as_bytes());
    let canary = holds(&all, SECRET.as_bytes()) || holds(&all, encoded.trim_end_matches('=').as_bytes());
    let text = String::from_utf8_lossy(&all);
    let loud = text.lines().filter(|line| line.contains(" TRACE ")).count();
    if exit != Exit::Code(0) || loud == 0 {
        let last = text.lines().last().unwrap_or_default();
        bail!("the loudest run ended with {exit} and wrote {loud} lines of trace: {last}");
    }
    let leak = text.lines().find(|line| line.contains(SECRET)).unwrap_or_default();
    Ok(seen(!canary, format!("{loud} lines at TRACE; the canary was seen: {canary} {leak}")))
}

/// The worker processes below this one.
fn workers() -> Vec<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_worker = |number: &u32| {
        let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"worker")
    };
    numbers.filter(is_worker).collect()
}

/// What a process holds in memory of its own: not what is mapped from files, as the program's own text is.
fn memory_of(number: u32) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{number}/maps")).ok()?;
    let memory = fs::File::open(format!("/proc/{number}/mem")).ok()?;
    let mut all = fs::read(format!("/proc/{number}/environ")).ok()?;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        // An empty address space behind a guard is not read: only what may be written holds anything.
        if !rights.starts_with("rw") || words.nth(3).is_some_and(|path| path.starts_with('/')) {
            continue;
        }
        let (from, to) = range.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut piece = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(piece.len()).min(piece.len());
            match memory.read_at(piece.get_mut(..wanted)?, at) {
                Ok(length) if length > 0 => {
                    let read = piece.get(..length)?;
                    if read.iter().any(|byte| *byte != 0) {
                        all.extend_from_slice(read);
                    }
                    at += length as u64;
                }
                _ => break,
            }
        }
    }
    Some(all)
}

/// The header by which the worker in question is known.
const MARK: &str = "canary-in-plain-sight";

pub(super) async fn search(suite: &Suite, world: &World, needle: Needle) -> Result<Seen> {
    let suite = Suite::new(&suite.folder, &suite.program);
    let mut setup: Setup = encrypted(world, world.encrypted.port())?;
    setup.limits.requests = Some(100_000);
    setup.limits.egress = Some(Size::from_mib(1024));
    setup.limits.ingress = Some(Size::from_mib(1024));
    let bench = Bench::load(&suite, setup)?;
    let port = world.encrypted.port();
    let act = format!("GET https a.example:{port} /echo x-mark={MARK} timed:90000");
    let mut requests = world.encrypted.requests();
    let looking = async {
        requests.changed().await?;
        let found =
            tokio::task::spawn_blocking(|| workers().into_iter().map(memory_of).collect::<Option<Vec<_>>>());
        let found = found.await?;
        bench.cancel.within(std::time::Duration::ZERO);
        anyhow::Ok(found)
    };
    let (ended, found) = tokio::join!(bench.run(&act), looking);
    if ended.outcome != remit_protocol::Outcome::Cancelled {
        bail!("the guest ended too soon: {}: {}", ended.outcome, ended.message);
    }
    let Some(found) = found? else {
        return Ok(seen(true, "not even its own user may look into a worker"));
    };
    let ours: Vec<_> = found.iter().filter(|memory| holds(memory, MARK.as_bytes())).collect();
    let bytes: usize = ours.iter().map(|memory| memory.len()).sum();
    Ok(match needle {
        Needle::Mark => seen(!ours.is_empty(), format!("{} workers hold the guest's own header", ours.len())),
        Needle::Secret => {
            let leaks = ours.iter().filter(|memory| holds(memory, SECRET.as_bytes())).count();
            let good = leaks == 0 && !ours.is_empty();
            seen(
                good,
                format!("{leaks} of {} workers hold the value, in {bytes} bytes of memory", ours.len()),
            )
        }
    })
}
