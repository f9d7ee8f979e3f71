//! `remit log`: the transparency log, asked and watched.

mod files;
mod monitor;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use remit_protocol::{endpoint::LogProof, limits::MAX_NOTE, operator::LogView, operator::path};
use remit_signing::{
    Vkey,
    log::{leaf_hash, verify_proof},
};
use serde::Serialize;

use self::files::Files;
use crate::{
    connection::{Connection, Target},
    failure::{Code, Failure, Result},
    files as disk,
    output::Output,
};

#[derive(Subcommand)]
pub(crate) enum Log {
    /// Print the log's verification key, for `[log] keys` of a trust policy, and its newest head.
    Key,
    /// Fetch the proof that a note is in the log, and keep it beside the note as FILE.tlog-proof.
    Proof(Box<Proof>),
    /// Copy the log's files into a directory, which any web server can serve and `monitor` reads offline.
    Mirror {
        /// The directory; what it has already is not fetched again.
        directory: PathBuf,
    },
    /// List what was signed with a key since the last look. Exit code 8: nothing new, 4: a bad or forked log.
    Monitor(Box<monitor::Monitor>),
}

#[derive(Args)]
pub(crate) struct Proof {
    /// The note.
    file: PathBuf,
    /// The log's verification key; without it, the one that the orchestrator says it has.
    #[arg(long, value_name = "VKEY")]
    log_key: Option<Vkey>,
    /// Where the proof goes.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Proven {
    index: u64,
    size: u64,
    origin: String,
    proof: PathBuf,
}

impl Log {
    pub(crate) async fn run(self, target: &Target, output: Output) -> Result<()> {
        match self {
            Self::Key => {
                let view: LogView = Connection::open(target)?.get(path::LOG).await?;
                output.print(&view, |view| view.key.clone());
                Ok(())
            }
            Self::Proof(proof) => {
                let Proof { file, log_key, out } = *proof;
                let note = disk::read(&file, MAX_NOTE as u64)?;
                let out = out.unwrap_or_else(|| file.with_extension("tlog-proof"));
                let proven = fetch_proof(&Connection::open(target)?, &note, log_key, &out).await?;
                output.print(&proven, |proven| {
                    format!(
                        "leaf {} of {} in {}  {}",
                        proven.index,
                        proven.size,
                        proven.origin,
                        proven.proof.display()
                    )
                });
                Ok(())
            }
            Self::Mirror { directory } => {
                let connection = Connection::open(target)?;
                let mirrored = files::mirror(&Files::of(connection), &directory).await?;
                output.print(&mirrored, |mirrored| {
                    format!("{} leaves, {} files fetched", mirrored.size, mirrored.fetched)
                });
                Ok(())
            }
            Self::Monitor(monitor) => monitor.run(target, output).await,
        }
    }
}

/// Fetches the proof of a note, verifies it and writes it to `out`.
async fn fetch_proof(connection: &Connection, note: &[u8], log: Option<Vkey>, out: &Path) -> Result<Proven> {
    let log = match log {
        Some(log) => log,
        None => own_key(connection).await?,
    };
    let address = path::fill(path::LOG_PROOF, &[&leaf_hash(note)]);
    let answer: LogProof = connection.get(&address).await?;
    let proven = verify_proof(answer.proof.as_bytes(), note, &[log]).map_err(|error| bad(&error))?;
    disk::write(out, answer.proof.as_bytes(), false)?;
    Ok(Proven {
        index: proven.index,
        size: proven.checkpoint.size(),
        origin: proven.checkpoint.origin().to_owned(),
        proof: out.to_owned(),
    })
}

/// Fetches the proof of a note that was published just now and keeps it at `out`.
pub(crate) async fn keep_proof(connection: &Connection, note: &[u8], out: &Path) -> Result<()> {
    fetch_proof(connection, note, None, out).await.map(|_| ())
}

/// The key that the orchestrator says its log has: good for whoever believes the orchestrator.
async fn own_key(connection: &Connection) -> Result<Vkey> {
    let view: LogView = connection.get(path::LOG).await?;
    view.key.parse().map_err(|error| bad(&error))
}

/// What a log shows is not what it has to be.
fn bad(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Code::Refused,
        format!("the log is not believed: {error}"),
        "keep what it shows, and ask whoever runs it",
    )
}
