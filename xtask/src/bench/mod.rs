//! `cargo xtask bench`: the numbers, each beside a baseline of the same run, because machines are shared and noisy.

mod baseline;
mod fleet;
mod job;
mod list;
mod load;
mod process;
mod signing;
mod ssh;

use anyhow::Result;
use serde::Serialize;

use crate::{
    build,
    shell::{cargo, program, run, say},
};

pub(crate) use fleet::{Fleet, simulate};

/// One measured number.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) id: &'static str,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// The baseline of the same run, in the same unit where there is one.
    pub(crate) baseline: f64,
    /// How the two compare; the note says which way.
    pub(crate) ratio: f64,
    /// What the baseline is, and what the goal.
    pub(crate) note: String,
}

/// A row with what stood in its way.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    row: Row,
    /// How much of the processors' time other machines on the same hardware took meanwhile, in hundredths.
    stolen: f64,
}

/// The ids of some rows, and how they are measured together.
type Measure<'a> = (&'a [&'a str], &'a dyn Fn() -> Result<Vec<Row>>);

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// One JSON document instead of the table.
    #[arg(long)]
    json: bool,
    /// Only these rows, by id.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many idle runners the fleet simulator parks.
    #[arg(long, default_value_t = 10_000)]
    fleet: u32,
    /// How long throughput is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The optimised programs are built; measure.
    #[arg(long, hide = true)]
    built: bool,
}

impl Bench {
    /// Builds optimised programs, and measures with the optimised program that this is one of.
    pub(crate) fn run(self) -> Result<()> {
        if self.built {
            return self.measure();
        }
        build::wasm_target()?;
        run(&mut cargo("build --release --workspace --bins"))?;
        build::components(true)?;
        let mut own = program(build::programs(true).join("xtask"));
        own.args([
            "bench",
            "--built",
            "--fleet",
            &self.fleet.to_string(),
            "--seconds",
            &self.seconds.to_string(),
        ]);
        if self.json {
            own.arg("--json");
        }
        if !self.only.is_empty() {
            own.args(["--only", &self.only.join(",")]);
        }
        run(&mut own)
    }

    fn wanted(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == id)
    }

    fn measure(&self) -> Result<()> {
        let mut rows = Vec::new();
        let measures: &[Measure<'_>] = &[
            (&["fsync"], &|| Ok(vec![baseline::fsync_row()?])),
            (&["runner-binary"], &|| Ok(vec![process::binary()?])),
            (&["warm-step"], &|| Ok(vec![process::warm_step()?])),
            (&["warm-step-in-worker", "dispatch", "dispatch-from-idle"], &process::in_worker),
            (&["broker"], &|| Ok(vec![process::broker()?])),
            (&["live-sandboxes"], &|| Ok(vec![process::live()?])),
            (&["compile"], &|| Ok(vec![process::compile()?])),
            (&["noisy-neighbours"], &|| Ok(vec![process::neighbours()?])),
            (&["warm-python-step"], &|| Ok(vec![process::warm_python_step()?])),
            (&["trigger-to-outcome", "throughput", "fan-out", "runner-rss"], &|| load::rows(self.seconds)),
            (&["policy-decision", "redaction"], &process::rules),
            (&["verify-component", "verify-hashing"], &signing::component),
            (&["signed-request"], &|| Ok(vec![signing::request()?])),
            (&["log-append"], &|| Ok(vec![signing::append()?])),
            (&["log-proof"], &|| Ok(vec![signing::proof_size()?])),
            (&["import-jobs"], &|| Ok(vec![job::import()?])),
            (&["filter"], &|| Ok(vec![job::filter()?])),
            (&["plan"], &|| Ok(vec![job::plan()?])),
            (&["ssh-fan-out"], &|| Ok(vec![ssh::fan_out()?])),
            (&["job-list"], &|| Ok(vec![list::jobs()?])),
            (&["idle-runner-memory"], &|| Ok(vec![fleet::idle(self.fleet)?])),
        ];
        let mut failed = 0;
        for (ids, measure) in measures {
            if ids.iter().any(|id| self.wanted(id)) {
                say(&format!("measuring {} …", ids.join(", ")));
                let before = baseline::Processors::now()?;
                match measure() {
                    Ok(found) => {
                        let stolen = before.stolen_since()?;
                        let found = found.into_iter().filter(|row| self.wanted(row.id));
                        rows.extend(found.map(|row| Measured { row, stolen }));
                    }
                    Err(error) => {
                        failed += 1;
                        say(&format!("{}: not measured: {error:#}", ids.join(", ")));
                    }
                }
            }
        }
        print(&rows, self.json)?;
        anyhow::ensure!(failed == 0, "{failed} measurements failed");
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "the numbers are what this program is asked for")]
fn print(rows: &[Measured], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(&serde_json::json!({ "rows": rows }))?);
        return Ok(());
    }
    println!(
        "{:<20} {:>12} {:<14} {:>12} {:>8} {:>7}  note",
        "id", "value", "unit", "baseline", "ratio", "stolen"
    );
    for Measured { row, stolen } in rows {
        println!(
            "{:<20} {:>12.2} {:<14} {:>12.2} {:>8.2} {stolen:>6.1}%  {}",
            row.id, row.value, row.unit, row.baseline, row.ratio, row.note
        );
    }
    Ok(())
}

/// The value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
