//! The notes about one run of a job: `remit/run/v1` by who began it, `remit/approve/v1` by who agreed at a gate,
//! `remit/result/v1` by the runner that ran a section of it.

use std::time::Duration;

use remit_protocol::{
    AttemptId, Digest, ExecutionId, RunnerId, SectionNumber, StepName, Timestamp, digest::Sized,
    sealed::MAX_SEALED,
};
use serde::{Deserialize, Serialize};

use crate::{
    JobPath, Refusal,
    component::check_validity,
    note::{Fields, NoteKind, TextWriter, UnverifiedNote},
};

/// Longest validity of a note on a run or an approval.
pub const MAX_VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// What a run is of: fixed from its beginning to its end, and the same in every note about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The execution.
    pub run: ExecutionId,
    /// The job.
    pub job: JobPath,
    /// The exact bytes of the job document.
    pub definition: Sized,
    /// The exact bytes of the option values, as JSON.
    pub options: Sized,
    /// The exact bytes of the node set, attributes and all; none for a job without nodes.
    pub nodes: Option<Sized>,
}

impl Order {
    pub(crate) fn write(&self, text: TextWriter) -> TextWriter {
        let text = text
            .line("run", self.run)
            .line("job", &self.job)
            .sized("definition", &self.definition)
            .sized("options", &self.options);
        match &self.nodes {
            Some(nodes) => text.sized("nodes", nodes),
            None => text,
        }
    }

    /// What stands for this very order: the digest of its lines.
    pub(crate) fn identity(&self) -> Digest {
        Digest::of(self.write(TextWriter::headed("remit/order/v1")).finish().as_bytes())
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            run: fields.parsed("run")?,
            job: fields.parsed("job")?,
            definition: fields.sized("definition")?,
            options: fields.sized("options")?,
            nodes: fields.optional_sized("nodes")?,
        })
    }
}

/// Somebody wants this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunNote {
    /// What is run.
    pub order: Order,
    /// Digest and length of each secret that was typed and sealed for it, in any order; at most [`MAX_SEALED`].
    pub sealed: Vec<Sized>,
    /// The one runner that may; none: any that believes the note, and each of them once.
    pub runner: Option<RunnerId>,
    /// When it was signed, to the second.
    pub issued: Timestamp,
    /// Nothing of it begins from then on; at most a day later.
    pub expires: Timestamp,
}

impl RunNote {
    /// The text to sign.
    pub fn to_text(&self) -> String {
        let text = self.order.write(TextWriter::new(NoteKind::Run));
        let text = self.sealed.iter().fold(text, |text, sealed| text.sized("sealed", sealed));
        let text = match &self.runner {
            Some(runner) => text.line("runner", runner),
            None => text,
        };
        text.time("issued", self.issued).time("expires", self.expires).finish()
    }

    /// Reads the text of a note that is well formed; the signatures are [`crate::verify`]'s to judge.
    ///
    /// # Errors
    /// `E_SYNTAX`.
    pub fn parse(note: &UnverifiedNote) -> Result<Self, Refusal> {
        expect(note, NoteKind::Run)?;
        let mut fields = Fields::of(note);
        let order = Order::read(&mut fields)?;
        let mut sealed = Vec::new();
        while let Some(one) = fields.optional_sized("sealed")? {
            if sealed.len() == MAX_SEALED {
                return Err(Refusal::syntax(format_args!(
                    "The note has more than {MAX_SEALED} lines 'sealed'."
                )));
            }
            sealed.push(one);
        }
        let runner = fields.optional_parsed("runner")?;
        let (issued, expires) = (fields.time("issued")?, fields.time("expires")?);
        fields.finish()?;
        check_validity(issued, expires, MAX_VALIDITY)?;
        Ok(Self { order, sealed, runner, issued, expires })
    }
}

/// Somebody agrees at a gate, to exactly this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApproveNote {
    /// To what.
    pub order: Order,
    /// At which gate.
    pub step: StepName,
    /// When it was signed, to the second.
    pub issued: Timestamp,
    /// Nothing behind the gate begins from then on; at most a day later.
    pub expires: Timestamp,
}

impl ApproveNote {
    /// The text to sign.
    pub fn to_text(&self) -> String {
        self.order
            .write(TextWriter::new(NoteKind::Approve))
            .line("step", &self.step)
            .time("issued", self.issued)
            .time("expires", self.expires)
            .finish()
    }

    /// Reads the text of a note that is well formed; the signatures are [`crate::verify`]'s to judge.
    ///
    /// # Errors
    /// `E_SYNTAX`.
    pub fn parse(note: &UnverifiedNote) -> Result<Self, Refusal> {
        expect(note, NoteKind::Approve)?;
        let mut fields = Fields::of(note);
        let order = Order::read(&mut fields)?;
        let step = fields.parsed("step")?;
        let (issued, expires) = (fields.time("issued")?, fields.time("expires")?);
        fields.finish()?;
        check_validity(issued, expires, MAX_VALIDITY)?;
        Ok(Self { order, step, issued, expires })
    }
}

/// A runner stands for what the steps of a section came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultNote {
    /// Of which run.
    pub order: Order,
    /// Of which section.
    pub section: SectionNumber,
    /// In which attempt.
    pub attempt: AttemptId,
    /// The exact bytes that say what each step came to, as JSON.
    pub steps: Sized,
    /// When it ended, by the runner's clock.
    pub at: Timestamp,
}

impl ResultNote {
    /// The text to sign.
    pub fn to_text(&self) -> String {
        self.order
            .write(TextWriter::new(NoteKind::Result))
            .line("section", self.section)
            .line("attempt", self.attempt)
            .sized("steps", &self.steps)
            .time("at", self.at)
            .finish()
    }

    /// Reads the text of a note that is well formed; the signature is [`crate::verify`]'s to judge.
    ///
    /// # Errors
    /// `E_SYNTAX`.
    pub fn parse(note: &UnverifiedNote) -> Result<Self, Refusal> {
        expect(note, NoteKind::Result)?;
        let mut fields = Fields::of(note);
        let order = Order::read(&mut fields)?;
        let section = fields.number("section")?;
        let section = u32::try_from(section).map(SectionNumber);
        let section = section.map_err(|_| Refusal::syntax("The line 'section' is too large."))?;
        let (attempt, steps) = (fields.parsed("attempt")?, fields.sized("steps")?);
        let at = fields.time("at")?;
        fields.finish()?;
        Ok(Self { order, section, attempt, steps, at })
    }
}

fn expect(note: &UnverifiedNote, kind: NoteKind) -> Result<(), Refusal> {
    if note.kind() == kind {
        return Ok(());
    }
    Err(Refusal::syntax(format_args!("This is not a {} note.", kind.type_line())))
}
