//! What reviewers say: taken in from those whom the registry's policy knows, served beside the component, judged by runners.

use remit_protocol::{
    ComponentName, ComponentSelector, ComponentVersion, RefusalCode, Timestamp,
    operator::{PublishVerdict, VerdictView},
};
use remit_signing::{
    Refusal, TrustPolicy,
    note::UnverifiedNote,
    verdict::{MAX_VERDICTS, Opinion, Scope, VerdictNote},
    verify,
};

use super::{PublishError, Registry, audit::signer};
use crate::store::{Component, StoreError, Verdict};

impl Registry {
    /// Verifies and keeps a verdict about a published release.
    ///
    /// # Errors
    /// A refusal with its code: it is about other bytes, or by nobody whom the registry's policy knows as a reviewer.
    pub async fn publish_verdict(
        &self,
        (name, version): (ComponentName, ComponentVersion),
        publish: PublishVerdict,
        by: &str,
        now: Timestamp,
    ) -> Result<VerdictView, PublishError> {
        let policy = self.policy().await?;
        let verified = verify::verdict(publish.note.as_bytes(), &policy, now)?;
        let says = verified.note();
        let selector = format!("{name}@{version}");
        let exact = ComponentSelector::new(&selector);
        let exact = exact.map_err(|_| StoreError::not_found("component", &selector))?;
        let component = self.store.select_component(&exact).await?;
        let component = component.ok_or_else(|| StoreError::not_found("component", &selector))?;
        let same = says.name == name
            && says.version == version
            && says.component.digest == component.digest
            && says.manifest.is(component.manifest.as_bytes());
        if !same {
            let detail = format!(
                "The verdict is about {}@{} {}, which is not what is published as {selector}.",
                says.name, says.version, says.component.digest
            );
            return Err(Refusal::new(RefusalCode::Digest, detail).into());
        }
        let since = match says.scope {
            Scope::Full => None,
            Scope::Delta(base) => Some(base.component),
        };
        let view = view(&publish.note, &policy, now)?;
        // Nothing unlogged is served: a crash in between leaves a leaf that nobody asks for.
        self.log.append(publish.note.as_bytes()).await?;
        let verdict = Verdict {
            component: component.digest,
            since,
            pass: says.opinion == Opinion::Pass,
            note: publish.note,
            published: now,
            publisher: by.to_owned(),
        };
        self.store.keep_verdict(verdict).await?;
        Ok(view)
    }

    /// The verdict notes that travel with a component: about it, and about what their deltas began from.
    ///
    /// # Errors
    /// The store's.
    pub async fn verdicts(&self, component: &Component) -> Result<Vec<String>, StoreError> {
        self.store.verdicts_behind(component.digest, MAX_VERDICTS).await
    }
}

/// A kept verdict as people see it, by what `policy` says at `now`.
pub(super) fn view(note: &str, policy: &TrustPolicy, now: Timestamp) -> Result<VerdictView, Refusal> {
    let unverified = UnverifiedNote::parse(note.as_bytes())?;
    let says = VerdictNote::parse(&unverified)?;
    let judged = verify::verdict(note.as_bytes(), policy, now);
    let signers = judged.as_ref().map(|judged| judged.signers().iter().map(signer).collect());
    Ok(VerdictView {
        note_id: unverified.identity(),
        name: says.name,
        version: says.version,
        component: says.component.digest,
        criteria: says.criteria.to_string(),
        since: match says.scope {
            Scope::Full => None,
            Scope::Delta(base) => Some(base.component),
        },
        pass: says.opinion == Opinion::Pass,
        signers: signers.unwrap_or_default(),
        refused: judged.err().map(|refusal| refusal.to_string()),
        issued: says.issued,
        expires: says.expires,
        note: note.to_owned(),
    })
}
