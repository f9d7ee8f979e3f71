//! The runner's program: how large it is, how fast a warm step is in it, how much memory a process holds.

use std::path::Path;

use anyhow::{Context as _, Result};
use harness::{components, programs};

use super::{Row, baseline};
use crate::{
    build,
    shell::{program, read, run},
};

/// Size of the stripped program.
pub(crate) fn binary() -> Result<Row> {
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let value = std::fs::metadata(programs().join("remit-runner"))?.len() as f64 / 1e6;
    Ok(Row {
        id: "runner-binary",
        value,
        unit: "MB",
        baseline: 30.0,
        ratio: value / 30.0,
        note: "stripped; goal ≤ 30 MB".into(),
    })
}

/// What `remit-runner bench` prints of the component of the package in `folder`: instantiated, run and dropped.
fn measured(folder: &Path, input: &str, more: &[&str]) -> Result<serde_json::Value> {
    let mut runner = program(programs().join("remit-runner"));
    runner.args(["bench", "warm-step", "--component"]).arg(folder.join("component.wasm"));
    runner.arg("--manifest").arg(folder.join("manifest.json")).args(["--input", input]).args(more);
    let printed = read(&mut runner)?;
    Ok(serde_json::from_str(printed.lines().last().unwrap_or_default())?)
}

fn number(printed: &serde_json::Value, name: &str) -> Result<f64> {
    printed[name].as_f64().with_context(|| format!("remit-runner bench printed no {name}"))
}

/// Microseconds at the median to instantiate, run and drop the component of the package in `folder`.
fn warm(folder: &Path, input: &str) -> Result<f64> {
    number(&measured(folder, input, &[])?, "p50_us")
}

/// The same step in a worker process: for how long its sandbox is there, and how long it takes from the runner and back. Both
/// with the processors awake; the latter also with nothing else running.
pub(crate) fn in_worker() -> Result<Vec<Row>> {
    let (folder, input) = (components().join("transform"), r#"{"value":1}"#);
    let row = |id, value, baseline, note: &str| Row {
        id,
        value,
        unit: "us",
        baseline,
        ratio: value / baseline,
        note: note.into(),
    };
    let both = || {
        let here = warm(&folder, input)?;
        let there = measured(&folder, input, &["--worker"])?;
        anyhow::Ok((here, number(&there, "inside_us")?, number(&there, "p50_us")?, baseline::round_trip()?))
    };
    let (idle_here, _, idle_dispatch, idle_trip) = both()?;
    let _awake = baseline::Awake::keep()?;
    let (here, inside, dispatch, trip) = both()?;
    Ok(vec![
        row(
            "warm-step-in-worker",
            inside,
            here,
            "confined, processors awake; goal ≤ 15 us; baseline the same step in one process",
        ),
        row(
            "dispatch",
            dispatch,
            here + trip,
            "runner → worker → runner, the step included, processors awake; goal ≤ 60 us; baseline that step in one process, and bytes to `cat` and back",
        ),
        row(
            "dispatch-from-idle",
            idle_dispatch,
            idle_here + idle_trip,
            "the same, nothing else running: mostly what waking idle processors takes; baseline as above, which the kernel may keep on one processor",
        ),
    ])
}

/// What the broker adds to a request on loopback.
pub(crate) fn broker() -> Result<Row> {
    build::guests()?;
    let mut runner = program(programs().join("remit-runner"));
    runner.args(["bench", "broker", "--suite"]).arg(programs().join("../guests"));
    let printed: serde_json::Value =
        serde_json::from_str(read(&mut runner)?.lines().last().unwrap_or_default())?;
    let (direct, through) = (number(&printed, "direct_us")?, number(&printed, "broker_us")?);
    Ok(Row {
        id: "broker",
        value: through - direct,
        unit: "us",
        baseline: direct,
        ratio: through / direct,
        note: "added to a GET on loopback; baseline the GET without; goal ≤ 80 us".into(),
    })
}

/// What `remit-runner bench` prints with these arguments.
fn printed(arguments: &[&str], path: &Path) -> Result<serde_json::Value> {
    let printed = read(program(programs().join("remit-runner")).arg("bench").args(arguments).arg(path))?;
    Ok(serde_json::from_str(printed.lines().last().unwrap_or_default())?)
}

/// What each of a thousand live sandboxes takes.
pub(crate) fn live() -> Result<Row> {
    build::guests()?;
    let found = printed(&["live", "--suite"], &programs().join("../guests"))?;
    let value = number(&found, "each_kib")?;
    Ok(Row {
        id: "live-sandboxes",
        value,
        unit: "KiB",
        baseline: 100.0,
        ratio: value / 100.0,
        note: "each of 1,000 that wait, runner and workers, touched pages of its own memory included; goal ≤ 100 KiB".into(),
    })
}

/// From the start of a compile process to cached code, for the guest that is nearest to 70 KB.
pub(crate) fn compile() -> Result<Row> {
    build::guests()?;
    let found = printed(&["compile", "--component"], &programs().join("../guests/exec.wasm"))?;
    let (value, start) = (number(&found, "p50_ms")?, baseline::fork_exec()? / 1000.0);
    Ok(Row {
        id: "compile",
        value,
        unit: "ms",
        baseline: start,
        ratio: value / start,
        note: format!(
            "{:.0} KB of component, from the process's start to cached code; baseline fork+exec of true; goal ≤ 100 ms",
            number(&found, "bytes")? / 1000.0
        ),
    })
}

/// A quiet step beside four hostile neighbours.
pub(crate) fn neighbours() -> Result<Row> {
    build::guests()?;
    let found = printed(&["neighbours", "--suite"], &programs().join("../guests"))?;
    let p99 = |of: &str| number(&found[of], "p99_us");
    let (alone, bare, beside) = (p99("alone")?, p99("beside_bare")?, p99("beside_all")?);
    let each = found["beside"].as_array().into_iter().flatten().map(|one| {
        let (what, p99) = (one[0].as_str().unwrap_or_default(), number(&one[1], "p99_us")?);
        Ok(format!("{what} {p99:.0}"))
    });
    let each: Vec<String> = each.collect::<Result<_>>()?;
    Ok(Row {
        id: "noisy-neighbours",
        value: beside,
        unit: "us",
        baseline: alone,
        ratio: beside / alone,
        note: format!(
            "p99 of a quiet step beside four neighbours at once (beside one that {}; beside bare threads on all processors {bare:.0}); baseline its p99 alone; goal ≤ 2 times",
            each.join(", ")
        ),
    })
}

/// A step in Python, warm, against the start of an interpreter. Without python3, pip and their way to componentize-py the
/// component cannot be built, and the row says so by being named as not measured.
pub(crate) fn warm_python_step() -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let step = folder.path().join("hello");
    let remit = || program(programs().join("remit"));
    run(remit().args(["step", "new", "hello", "--lang", "python", "--path"]).arg(&step))?;
    // A run that logs would measure the terminal.
    let source = std::fs::read_to_string(step.join("step.py"))?;
    let silent: String =
        source.lines().filter(|line| !line.contains("log.info")).map(|line| format!("{line}\n")).collect();
    std::fs::write(step.join("step.py"), silent)?;
    run(remit().args(["step", "build"]).arg(&step))?;
    let value = warm(&step.join("dist"), r#"{"name":"Ada"}"#)?;
    let baseline = baseline::interpreter()?;
    Ok(Row {
        id: "warm-python-step",
        value,
        unit: "us",
        baseline,
        ratio: baseline / value,
        note: "baseline python3 -c pass; goal ≤ 2,000 us".into(),
    })
}

/// Instantiate, run and drop a pure step, warm, against starting `true`.
pub(crate) fn warm_step() -> Result<Row> {
    let value = warm(&components().join("transform"), r#"{"value":1}"#)?;
    let baseline = baseline::fork_exec()?;
    Ok(Row {
        id: "warm-step",
        value,
        unit: "us",
        baseline,
        ratio: baseline / value,
        note: "baseline fork+exec of true; goal ≤ 20 us and ≥ 25 times faster".into(),
    })
}

/// Judging a request by twenty rules, and taking a hundred secrets out of a text.
pub(crate) fn rules() -> Result<Vec<Row>> {
    let printed = read(program(programs().join("remit-runner")).args(["bench", "rules"]))?;
    let printed: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap_or_default())?;
    let number =
        |name: &str| printed[name].as_f64().with_context(|| format!("remit-runner bench printed no {name}"));
    let (decision, redaction, copy) =
        (number("decision_us")?, number("redaction_mb_s")?, number("copy_mb_s")?);
    Ok(vec![
        Row {
            id: "policy-decision",
            value: decision,
            unit: "us",
            baseline: 2.0,
            ratio: decision / 2.0,
            note: "address, headers and rule of a request, 20 rules; goal ≤ 2 us".into(),
        },
        Row {
            id: "redaction",
            value: redaction,
            unit: "MB/s",
            baseline: copy,
            ratio: redaction / copy,
            note: "100 secrets; baseline copying the text; goal ≥ 500 MB/s".into(),
        },
    ])
}

fn status(pid: u32, field: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        text.lines().find(|line| line.starts_with(field)).with_context(|| format!("no {field} of {pid}"))?;
    line.split_whitespace().nth(1).context("no number")?.parse::<f64>().context("no number")
}

/// Resident memory of a process in KiB.
pub(crate) fn rss(pid: u32) -> Result<f64> {
    status(pid, "VmRSS:")
}

/// CPU time of a process so far, user and system, in milliseconds.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    // Linux counts in hundredths of a second for user space; children that were waited for included.
    Ok((ticks(11) + ticks(12) + ticks(13) + ticks(14)) * 10.0)
}
