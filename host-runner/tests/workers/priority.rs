//! What computes for long waits behind the others, and leaves a processor to them.

use std::time::Duration;

use remit_protocol::{Span, limits::LimitsPart};
use remit_runner::sandbox::Cancel;

use crate::support::{Bench, GRACE, Setup};

/// The turns of one that has not computed for long, and of one that only computes.
const SHORT: Duration = Duration::from_micros(100);
const LONG: Duration = Duration::from_millis(100);

/// A scratch directory has the bench's own name in the arguments of its workers.
fn bench(cpu: Span) -> Bench {
    const SCRATCH: &str = r#"{"files":[{"scratch":true}]}"#;
    let limits = LimitsPart { cpu: Some(cpu), ..LimitsPart::default() };
    Bench::new(Setup { guest: "scratch", requests: SCRATCH, grant: SCRATCH, limits, ..Setup::default() })
}

/// Process and priority of each worker of a bench.
fn workers(bench: &Bench) -> Vec<(u32, i32)> {
    let folder = bench.scratch.path().to_str().unwrap();
    let of = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        if words.nth(1)? != "worker" || !words.any(|word| word.contains(folder)) {
            return None;
        }
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // Fields are counted from behind the name, which may hold anything.
        let priority = stat.rsplit(')').next()?.split_whitespace().nth(16)?.parse().ok()?;
        Some((pid, priority))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

/// The processors on which a process may run.
fn processors(pid: u32) -> rustix::thread::CpuSet {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::thread::sched_getaffinity(Some(pid)).unwrap()
}

/// How long turns a process takes on its processor; none where the kernel does not hear of them, or does not tell.
fn turns(pid: u32) -> Option<Duration> {
    let uname = rustix::system::uname();
    let mut version = uname.release().to_str().ok()?.split('.').map_while(|part| part.parse::<u32>().ok());
    if (version.next()?, version.next()?) < (6, 12) {
        return None;
    }
    let told = std::fs::read_to_string(format!("/proc/{pid}/sched")).ok()?;
    let slice = told.lines().find(|line| line.starts_with("se.slice"))?.rsplit(':').next()?;
    Some(Duration::from_nanos(slice.trim().parse().ok()?))
}

#[tokio::test]
async fn what_computes_for_long_waits_behind_others_and_what_comes_later_does_not() {
    let mut bench = bench(Span::from_secs(600));
    assert_eq!(bench.end("list /scratch").await.0, "succeeded");
    let [(first, 0)] = workers(&bench)[..] else { panic!("{:?}", workers(&bench)) };
    let all = processors(first);
    assert!(turns(first).is_none_or(|turn| turn == SHORT), "{:?}", turns(first));
    let cancel = async {
        while !workers(&bench).contains(&(first, 5)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // One is left to others, if there is another.
        let kept = all.count().saturating_sub(1).max(1);
        while processors(first).count() != kept {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // It only computes, and others are let in before its turn ends.
        while turns(first).is_some_and(|turn| turn != LONG) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bench.cancel.within(GRACE);
    };
    let (ended, ()) = tokio::join!(bench.run("loop"), cancel);
    assert_eq!(ended.outcome.to_string(), "cancelled", "{}", ended.message);
    assert!(turns(first).is_none_or(|turn| turn != LONG && turn != SHORT), "{:?}", turns(first));
    // Until its worker is replaced the next runs share its place.
    bench.cancel = Cancel::new();
    loop {
        assert_eq!(bench.end("list /scratch").await.0, "succeeded");
        let fresh = |(pid, priority): &(u32, i32)| *pid != first && *priority == 0 && processors(*pid) == all;
        if workers(&bench).iter().any(fresh) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn what_computes_for_long_again_and_again_keeps_its_worker() {
    let bench = bench(Span::from_millis(100));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        assert_eq!(bench.end("loop").await.0, "over-limit(cpu)");
        seen.extend(workers(&bench).into_iter().map(|(pid, _)| pid));
    }
    // With a fresh one each second there would be four and more; one is due where this machine stood still for that long.
    assert!(seen.len() <= 2, "{seen:?}");
    assert!(workers(&bench).iter().all(|(_, priority)| *priority == 5), "{:?}", workers(&bench));
}
