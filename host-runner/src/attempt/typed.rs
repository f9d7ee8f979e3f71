//! What was typed for a section: looked at before anybody opens it, against the job document and who wanted the run.

use remit_job::{document::Document, options};
use remit_protocol::{RefusalCode, SecretPath, assignment::Assignment, sealed::Sealed};
use remit_signing::{
    policy::{TypedRun, Wanted},
    sealing,
};

use super::{order, prepare::NotReady, prepare::ReadyStep};
use crate::{attempt::Workshop, secrets::TypedSecrets, trust::Belief};

fn refused(detail: impl std::fmt::Display) -> NotReady {
    NotReady::refused(RefusalCode::Sealed, detail)
}

/// What was typed, where all of it is for this section of this run; none if nothing was.
///
/// # Errors
/// `E_SEALED`.
pub(super) fn check(
    workshop: &Workshop,
    (assignment, document): (&Assignment, &Document),
    steps: &[ReadyStep],
    run: Option<&Wanted>,
    belief: &Belief,
) -> Result<Option<TypedSecrets>, NotReady> {
    if assignment.sealed.is_empty() {
        return Ok(None);
    }
    let typed = options::typed(&document.options, &assignment.options);
    let used = |path: &SecretPath| {
        let components = steps.iter().flat_map(ReadyStep::components);
        components.flat_map(|ready| ready.remit.secrets()).any(|secret| secret.path == *path)
    };
    for sealed in &assignment.sealed {
        sealing::check(sealed, workshop.itself.runner, belief.now)?;
        let Sealed { option, path, .. } = sealed;
        if !typed.contains(&(option, path)) {
            return Err(refused(format!("The job types nothing for {option} that arrives at {path}.")));
        }
        if !used(path) {
            return Err(refused(format!("No step of this section uses {path}.")));
        }
        let signed = match run {
            Some(Wanted::Signed(run)) => run.note().sealed.contains(&sealed.value.sized()),
            Some(Wanted::Scheduled(_) | Wanted::Child(_)) => false,
            Some(Wanted::Typed(_)) | None => true,
        };
        if !signed {
            let detail = format!("Whoever signed the run did not type this value for {option}.");
            return Err(refused(detail));
        }
    }
    Ok(Some(TypedSecrets { order: order::of(assignment), values: assignment.sealed.clone() }))
}

/// Why the run may begin, where nobody had to sign it: it is remembered, so that what was typed for it is not used twice for
/// what must not be done twice.
pub(super) fn wanted(run: Option<Wanted>, typed: Option<&TypedSecrets>) -> Option<Wanted> {
    run.or_else(|| {
        let typed = typed?;
        let expires = typed.values.iter().map(|sealed| sealed.expires).max()?;
        Some(Wanted::Typed(TypedRun { order: typed.order.clone(), expires }))
    })
}

/// The part of it that a component of the section may use.
pub(super) fn part(typed: Option<&TypedSecrets>, uses: impl Fn(&SecretPath) -> bool) -> Option<TypedSecrets> {
    let typed = typed?;
    let values: Vec<Sealed> = typed.values.iter().filter(|sealed| uses(&sealed.path)).cloned().collect();
    (!values.is_empty()).then(|| TypedSecrets { order: typed.order.clone(), values })
}
