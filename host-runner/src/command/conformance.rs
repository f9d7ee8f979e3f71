//! `remit-runner conformance`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use remit_runner::{
    conformance::{self, bench::Suite},
    start::Environment,
};

use super::Form;
use crate::terminal::{say, say_json};

#[derive(Args)]
pub(crate) struct Conformance {
    /// The folder of the hostile components, as `cargo xtask guests` leaves it.
    #[arg(long, value_name = "DIR")]
    suite: PathBuf,
    /// Only the rows of this threat; SECURITY.md numbers them.
    #[arg(long, value_name = "NUMBER")]
    threat: Option<u8>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

pub(crate) async fn conform(arguments: Conformance, environment: &Environment) -> anyhow::Result<ExitCode> {
    let suite = Suite::new(&arguments.suite, &environment.program).alone();
    let text = matches!(arguments.output, Form::Text);
    let report = conformance::run(&suite, arguments.threat, |row| {
        if text {
            say(&format!("{} {:>2} {}", if row.passed { "held  " } else { "FAILED" }, row.threat, row.name));
            for (which, seen) in [("attack", &row.attack), ("twin", &row.twin)] {
                if !seen.fault.is_empty() {
                    say(&format!("          {which} `{}`: {}", seen.act, seen.fault));
                }
            }
        }
    })
    .await?;
    match arguments.output {
        Form::Json => say_json(&report)?,
        Form::Text => say(&format!(
            "{} of {} attacks held, each beside a twin that is permitted; remit-runner {}, Linux {}, confinement: {}",
            report.passed,
            report.rows.len(),
            report.version,
            report.kernel,
            report.confinement
        )),
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
