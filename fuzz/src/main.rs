//! `remit-fuzz`: what `cargo xtask fuzz` starts.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;
use remit_fuzz::{
    campaign::{Campaign, Finding, check},
    target::{TARGETS, Target},
};

/// An answer that takes longer is told.
const SLOW: Duration = Duration::from_secs(1);
/// How many inputs are tried between two looks at the clock.
const BATCH: u32 = 200;

/// Makes hostile inputs for everything that reads what others wrote.
#[derive(Parser)]
#[command(name = "cargo xtask fuzz")]
struct Arguments {
    /// What is fuzzed; absent: each target after the other.
    #[arg(value_parser = TARGETS.map(|target| target.name))]
    target: Option<String>,
    /// How long each target is run.
    #[arg(long, default_value_t = 1.0, conflicts_with = "iterations")]
    minutes: f64,
    /// How many inputs each target is given, in place of a time.
    #[arg(long)]
    iterations: Option<u64>,
    /// The same seed makes the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Try this input alone.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // Panics are findings; their words come with the finding.
    std::panic::set_hook(Box::new(|_| {}));
    let chosen = |target: &&Target| arguments.target.as_ref().is_none_or(|name| name == target.name);
    let mut clean = true;
    for target in TARGETS.iter().filter(chosen) {
        if let Some(file) = &arguments.input {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            match check(target, &bytes) {
                Ok((accepted, words)) => {
                    say(&format!("sound: {}: {words}", if accepted { "accepted" } else { "refused" }));
                }
                Err(why) => bail!("broken: {why}"),
            }
            continue;
        }
        clean &= run(*target, &arguments)?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "the program's answer")]
fn say(text: &str) {
    println!("{text}");
}

/// Runs a target; true if nothing was found.
#[expect(clippy::disallowed_methods, reason = "a run ends by the clock if it is told so")]
fn run(target: Target, arguments: &Arguments) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let patience = Duration::from_secs_f64(arguments.minutes.clamp(0.0, 100_000.0) * 60.0);
    let mut campaign = Campaign::new(target, arguments.seed);
    let mut slowest = Duration::ZERO;
    let mut found = campaign.try_seeds();
    while found.is_ok() {
        let done = match arguments.iterations {
            Some(most) => campaign.tried >= most,
            None => begun.elapsed() >= patience,
        };
        if done {
            break;
        }
        for _ in 0..BATCH {
            let at = Instant::now();
            found = campaign.step();
            let took = at.elapsed();
            // A busy machine makes anything slow once, and hardly three times.
            let again = || {
                (0..3).map(|_| {
                    let at = Instant::now();
                    let _ = check(&target, campaign.last());
                    at.elapsed()
                })
            };
            slowest = slowest.max(if took > SLOW { again().min().unwrap_or(took) } else { took });
            if found.is_err() {
                break;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = campaign.tried as f64 / seconds.max(0.001);
    say(&format!(
        "{}: {} inputs in {seconds:.0} s ({rate:.0}/s), {} accepted, {} kept, slowest {} ms, seed {}",
        target.name,
        campaign.tried,
        campaign.accepted,
        campaign.kept(),
        slowest.as_millis(),
        arguments.seed
    ));
    if slowest > SLOW {
        say(&format!(
            "{}: an input took {} ms: look for it with the same seed",
            target.name,
            slowest.as_millis()
        ));
    }
    let Err(finding) = found else { return Ok(slowest <= SLOW) };
    let file = keep(target.name, &finding)?;
    say(&format!("{}: {}\n    {}", target.name, finding.why, file.display()));
    Ok(false)
}

/// Writes a finding where it can be tried again.
fn keep(target: &str, finding: &Finding) -> anyhow::Result<PathBuf> {
    let folder = Path::new("target/fuzz-findings").join(target);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let digest = remit_protocol::Digest::of(&finding.input).to_string();
    let file = folder.join(digest.trim_start_matches("sha256:").get(..16).unwrap_or_default());
    std::fs::write(&file, &finding.input).with_context(|| file.display().to_string())?;
    Ok(file)
}
