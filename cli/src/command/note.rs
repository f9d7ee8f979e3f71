//! `remit note`: what a signed note says and who stands for it.

use std::path::PathBuf;

use clap::Subcommand;
use remit_protocol::Timestamp;
use remit_signing::{TrustPolicy, check, note::NoteKind, verify::Published};
use serde::Serialize;

use crate::{
    failure::{Code, Failure, Result},
    files,
    output::{Output, harmless},
};

#[derive(Subcommand)]
pub(crate) enum Note {
    /// Print a note's identity and its distinct signers, or the code of the refusal.
    Check {
        /// The note.
        file: PathBuf,
        /// What it should be.
        #[arg(long, value_parser = ["component", "job", "verdict"])]
        kind: String,
        /// Whose signatures count.
        #[arg(long, value_name = "TRUST.TOML")]
        trust: PathBuf,
        /// The transparency log's proof; it has to be good by `[log] keys` of the trust policy.
        #[arg(long, value_name = "FILE")]
        proof: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Checked {
    identity: Option<String>,
    subject: Option<String>,
    signers: Vec<String>,
    logged: Option<Logged>,
    refusal: Option<&'static str>,
}

/// Where a log lists the note.
#[derive(Serialize)]
struct Logged {
    index: u64,
    size: u64,
    origin: String,
}

/// Largest proof that is read.
const MAX_PROOF: u64 = 64 << 10;

impl Note {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let Self::Check { file, kind, trust: trust_file, proof } = self;
        let policy = trust(&trust_file)?;
        let kind = match kind.as_str() {
            "job" => NoteKind::Job,
            "verdict" => NoteKind::Verdict,
            _ => NoteKind::Component,
        };
        let bytes = files::read(&file, remit_protocol::limits::MAX_NOTE as u64 + 1)?;
        let proof = proof.map(|proof| files::read(&proof, MAX_PROOF)).transpose()?;
        let published = Published { note: &bytes, proof: proof.as_deref(), verdicts: &[] };
        let found = check::note(published, kind, &policy, now());
        let checked = Checked {
            identity: found.identity.map(|identity| identity.to_string()),
            subject: found.subject.clone(),
            signers: found
                .signers
                .iter()
                .map(|signer| format!("{} ({})", signer.holder, signer.key))
                .collect(),
            logged: found.logged.as_ref().map(|proven| Logged {
                index: proven.index,
                size: proven.checkpoint.size(),
                origin: proven.checkpoint.origin().to_owned(),
            }),
            refusal: found.verdict.as_ref().err().map(|refusal| refusal.code.code()),
        };
        output.print(&checked, |checked| {
            let mut lines = vec![format!(
                "note    {}",
                checked.identity.as_deref().unwrap_or("none: this is not a note")
            )];
            lines.extend(checked.subject.iter().map(|subject| format!("about   {}", harmless(subject))));
            lines.extend(checked.signers.iter().map(|signer| format!("signer  {}", harmless(signer))));
            lines.extend(checked.logged.as_ref().map(|logged| {
                format!("logged  leaf {} of {} in {}", logged.index, logged.size, harmless(&logged.origin))
            }));
            lines.push(
                checked
                    .refusal
                    .map_or_else(|| "verdict accepted".to_owned(), |code| format!("verdict {code}")),
            );
            lines.join("\n")
        });
        found.verdict.map_err(|refusal| refused(&refusal))
    }
}

/// Reads a trust policy; every mistake is listed.
pub(crate) fn trust(file: &std::path::Path) -> Result<TrustPolicy> {
    let text = files::read_text(file)?;
    TrustPolicy::from_toml(&text).map_err(|faults| {
        let faults = faults.into_iter().map(|fault| remit_protocol::endpoint::Fault {
            line: Some(fault.line),
            column: Some(fault.column),
            place: String::new(),
            message: fault.what,
            remedy: fault.remedy,
        });
        Failure::input(format_args!("{}: the trust policy is not acceptable", file.display()))
            .with_faults(faults.collect())
    })
}

/// A refusal as a failure of the command.
pub(crate) fn refused(refusal: &remit_signing::Refusal) -> Failure {
    Failure::new(
        Code::Refused,
        format!("{}: {} {}", refusal.code, refusal.code.meaning(), crate::output::harmless(&refusal.detail)),
        refusal.code.remedy(),
    )
}

/// The clock, read where the program begins to need it.
#[expect(clippy::disallowed_methods, reason = "the command line's one look at the clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}
