//! From a digest to something that runs: fetch, verify, compile, keep.
//!
//! What the orchestrator sends is material: the digest is computed here, the note is believed by this runner's own trust
//! policy, and native code comes from this host's compile process or from under this host's MAC. What was loaded stays in
//! memory, so that a warm step touches no file. *Must not know:* attempts, jobs. *Invariant:* only what was verified under
//! the policy at hand is run, at the time at which it is run.

pub mod cache;
pub mod compile;
mod shelf;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use remit_protocol::{
    ComponentPin, Digest, RefusalCode, Timestamp, digest::Sized, endpoint::ComponentBundle,
    manifest::Manifest,
};
use remit_signing::{
    Refusal, VerifiedComponent,
    component::ComponentNote,
    verify::{self, Published, VerifiedRelease},
};

use self::{cache::Cache, compile::CannotCompile, compile::Compiler, shelf::Shelf};
use crate::{
    orchestrator::{CallError, Client},
    sandbox::{Metering, NativeCode, Prepared, Sandbox},
    trust::{
        Belief, NotBelieved, Trust,
        heads::{Heads, History, NotShown},
    },
    worker::NoWorker,
};

/// Components that stay loaded: each takes a few megabytes of mappings.
const MAX_LOADED: usize = 64;
/// After how long reviewers are listened to again: so late at most is a verdict against a component that is in use.
const LISTEN: Duration = Duration::from_secs(15 * 60);

/// Where components come from.
#[async_trait]
pub trait Source: History {
    /// Note, manifest and length of a component.
    async fn bundle(&self, pin: &ComponentPin) -> Result<ComponentBundle, CallError>;
    /// The component's bytes.
    async fn bytes(&self, component: Sized) -> Result<Bytes, CallError>;
}

#[async_trait]
impl History for Client {
    async fn consistency(&self, older: u64, newer: u64) -> Result<Vec<Digest>, CallError> {
        Ok(self.log_consistency(older, newer).await?.hashes)
    }

    async fn proof(&self, leaf: Digest) -> Result<String, CallError> {
        Ok(self.log_proof(leaf).await?.proof)
    }
}

#[async_trait]
impl Source for Client {
    async fn bundle(&self, pin: &ComponentPin) -> Result<ComponentBundle, CallError> {
        self.component(pin).await
    }

    async fn bytes(&self, component: Sized) -> Result<Bytes, CallError> {
        self.blob(component).await
    }
}

/// A component that may be run now.
pub struct Loaded {
    /// What the sandbox runs.
    pub prepared: Arc<Prepared>,
    /// What it is and asks for.
    pub manifest: Manifest,
    not_before: Timestamp,
    expires: Timestamp,
    /// The note by which it was believed.
    pub note: Digest,
    /// Whose signatures counted: holder and key.
    pub signers: Vec<String>,
    /// The reviewers' notes by which it was let through.
    pub verdicts: Vec<Digest>,
    /// Why it runs without a review that the policy asks for.
    pub exempt: Vec<String>,
    /// Of the policy that believed it.
    edition: u64,
}

/// Why a component is not run.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    /// It must not, by the owner's policy or its own form.
    #[error("{0}")]
    Refused(Refusal),
    /// It could not be fetched.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The host failed.
    #[error("{0}")]
    Host(String),
}

impl From<NotBelieved> for NotLoaded {
    fn from(error: NotBelieved) -> Self {
        match error {
            NotBelieved::Refused(refusal) => refusal.into(),
            NotBelieved::State(error) => Self::Host(error.to_string()),
        }
    }
}

impl From<Refusal> for NotLoaded {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NotShown> for NotLoaded {
    fn from(error: NotShown) -> Self {
        match error {
            NotShown::Refused(refusal) => Self::Refused(refusal),
            NotShown::Call(error) => Self::Call(error),
            error @ NotShown::State(_) => Self::Host(error.to_string()),
        }
    }
}

fn refusal(code: RefusalCode, detail: String) -> NotLoaded {
    NotLoaded::Refused(Refusal { code, detail })
}

/// The note and the log's proof of a bundle, with what reviewers say.
fn published<'a>(bundle: &'a ComponentBundle, verdicts: &'a [String]) -> Published<'a> {
    let proof = bundle.proof.as_ref().map(String::as_bytes);
    Published { note: bundle.note.as_bytes(), proof, verdicts }
}

/// Refuses a note about another release than the one that the job pins.
fn check_pin(pin: &ComponentPin, note: &ComponentNote) -> Result<(), NotLoaded> {
    if note.component.digest == pin.digest && note.name == pin.name && note.version == pin.version {
        return Ok(());
    }
    let detail = format!(
        "{pin} was asked for, and the note is about {}@{} {}",
        note.name, note.version, note.component.digest
    );
    Err(refusal(RefusalCode::Digest, detail))
}

fn verify(
    pin: &ComponentPin,
    bundle: &ComponentBundle,
    verdicts: &[String],
    bytes: Bytes,
    belief: &Belief,
) -> Result<VerifiedComponent, NotLoaded> {
    let (published, manifest) = (published(bundle, verdicts), bundle.manifest.as_bytes());
    let verified = verify::component(published, manifest, bytes.as_ref(), &belief.policy, belief.now)?;
    check_pin(pin, verified.release().note())?;
    Ok(verified)
}

/// True if reviewers have a say in whether the component runs.
fn is_reviewed(pin: &ComponentPin, belief: &Belief) -> bool {
    belief.policy.reviews_of(pin.name.namespace()).next().is_some()
}

/// All components of this runner.
pub struct Components {
    trust: Arc<Trust>,
    heads: Heads,
    sandbox: Sandbox,
    cache: Cache,
    shelf: Shelf,
    compiler: Compiler,
    loaded: Mutex<Loads>,
}

#[derive(Default)]
struct Loads {
    /// What is loaded, and when it was last asked for.
    ready: HashMap<Wanted, (u64, Arc<Loaded>)>,
    /// One at a time loads a component; the others wait for it.
    turns: HashMap<Wanted, Arc<tokio::sync::Mutex<()>>>,
    uses: u64,
}

/// A release, and whether its code counts its fuel.
type Wanted = (ComponentPin, Metering);

impl Components {
    /// Components that `trust` believes, run in `sandbox`, with native code in `cache`.
    pub fn new(trust: Arc<Trust>, heads: Heads, sandbox: Sandbox, cache: Cache, compiler: Compiler) -> Self {
        let shelf = Shelf::new(cache.directory().to_owned());
        Self { trust, heads, sandbox, cache, shelf, compiler, loaded: Mutex::default() }
    }

    /// What was seen of transparency logs.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// The release that is pinned, loaded; its code counts its fuel or does not.
    ///
    /// # Errors
    /// [`NotLoaded`].
    pub async fn get(
        &self,
        pin: &ComponentPin,
        metering: Metering,
        source: &dyn Source,
    ) -> Result<Arc<Loaded>, NotLoaded> {
        let wanted = (pin.clone(), metering);
        let belief = self.trust.belief()?;
        if belief.policy.log().required {
            self.heads.check()?;
        }
        if let Some(loaded) = self.warm(&wanted, &belief) {
            return Ok(loaded);
        }
        let turn = self.turn(&wanted);
        let _mine = turn.lock().await;
        let belief = self.trust.belief()?;
        if let Some(loaded) = self.warm(&wanted, &belief) {
            return Ok(loaded);
        }
        let verified = self.verified(pin, source, &belief).await?;
        let loaded = self.load(verified, metering, &belief).await?;
        self.keep(wanted, &loaded);
        Ok(loaded)
    }

    /// What is loaded, still valid, and was believed by the policy at hand.
    fn warm(&self, wanted: &Wanted, belief: &Belief) -> Option<Arc<Loaded>> {
        let now = belief.now;
        let mut loads = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loads.uses += 1;
        let uses = loads.uses;
        let (used, loaded) = loads.ready.get_mut(wanted)?;
        if now < loaded.not_before || now >= loaded.expires || loaded.edition != belief.edition {
            loads.ready.remove(wanted);
            return None;
        }
        *used = uses;
        Some(Arc::clone(loaded))
    }

    fn turn(&self, wanted: &Wanted) -> Arc<tokio::sync::Mutex<()>> {
        let mut loads = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loads.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(loads.turns.entry(wanted.clone()).or_default())
    }

    fn keep(&self, wanted: Wanted, loaded: &Arc<Loaded>) {
        let mut loads = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.ready.len() >= MAX_LOADED
            && let Some(oldest) =
                loads.ready.iter().min_by_key(|(_, (used, _))| *used).map(|(wanted, _)| wanted.clone())
        {
            loads.ready.remove(&oldest);
        }
        let uses = loads.uses;
        loads.ready.insert(wanted, (uses, Arc::clone(loaded)));
    }

    /// What lies on this host's shelf is as good as what is fetched, if it is believed: both are verified alike. Where
    /// reviewers have a say, what they say is asked for anew.
    async fn verified(
        &self,
        pin: &ComponentPin,
        source: &dyn Source,
        belief: &Belief,
    ) -> Result<VerifiedComponent, NotLoaded> {
        let reviewed = is_reviewed(pin, belief);
        let shelved = self.shelf.get(pin);
        if !reviewed
            && let Some((bundle, bytes)) = &shelved
            && let Ok(verified) = verify(pin, bundle, &[], bytes.clone(), belief)
        {
            self.follow(verified.release(), belief, source).await?;
            return Ok(verified);
        }
        let bundle = source.bundle(pin).await?;
        let verdicts = if reviewed { self.heard(pin, &bundle, belief)? } else { Vec::new() };
        // The note is believed before anything that it names is fetched, and says how much that is.
        let release = verify::release(published(&bundle, &verdicts), &belief.policy, belief.now)?;
        check_pin(pin, release.note())?;
        self.follow(&release, belief, source).await?;
        let wanted = release.note().component;
        let bytes = match shelved {
            Some((_, bytes)) if wanted.is(&bytes) => bytes,
            _ => source.bytes(wanted).await?,
        };
        let verified = verify(pin, &bundle, &verdicts, bytes, belief)?;
        if let Err(error) = self.shelf.put(pin, &bundle, verified.bytes()) {
            tracing::warn!(%pin, %error, "a component is not kept on disk; it is fetched again after a restart");
        }
        Ok(verified)
    }

    /// What reviewers say of the component: what came with it, and what was heard against it before.
    fn heard(
        &self,
        pin: &ComponentPin,
        bundle: &ComponentBundle,
        belief: &Belief,
    ) -> Result<Vec<String>, NotLoaded> {
        let mut verdicts = bundle.verdicts.clone();
        for note in self.trust.hear(&bundle.verdicts, &belief.policy, &pin.digest)? {
            if !verdicts.contains(&note) {
                verdicts.push(note);
            }
        }
        Ok(verdicts)
    }

    /// Where the policy requires a log, the head under which the note was proven has to belong to the history that this
    /// runner has seen, and the verdicts that counted have to be in it as well.
    async fn follow(
        &self,
        release: &VerifiedRelease,
        belief: &Belief,
        source: &dyn Source,
    ) -> Result<(), NotLoaded> {
        if let Some(proven) = release.logged() {
            self.heads.admit(&proven.checkpoint, source).await?;
        }
        for note in release.standing().verdicts.values() {
            self.heads.require(note.as_bytes(), belief, source).await?;
        }
        Ok(())
    }

    /// Compiles, or takes native code from the cache, and loads it.
    ///
    /// # Errors
    /// [`NotLoaded`].
    pub async fn load(
        &self,
        verified: VerifiedComponent,
        metering: Metering,
        belief: &Belief,
    ) -> Result<Arc<Loaded>, NotLoaded> {
        let engine = Digest::of(&self.sandbox.compatibility(metering).to_le_bytes());
        let key = Cache::key(verified.digest(), engine);
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(belief.now.as_millis());
        let native = match self.cache.get(key, now) {
            Some(code) => code,
            None => {
                let code = self.compiler.compile(&verified, metering).await.map_err(|error| match error {
                    CannotCompile::Host(error) => NotLoaded::Host(format!("the compile process: {error}")),
                    refused => refusal(RefusalCode::Compile, refused.to_string()),
                })?;
                if let Err(error) = self.cache.put(key, &code) {
                    tracing::warn!(component = ?verified, %error, "native code is not kept; it is compiled again after a restart");
                }
                code
            }
        };
        let prepared = self
            .sandbox
            .load(&NativeCode::from_checked(native, metering), &verified)
            .map_err(|error| refusal(error.code, error.detail))?;
        self.sandbox.warm(&prepared).await.map_err(|error| match error {
            NoWorker::Unloadable(error) => refusal(error.code, error.detail),
            error @ NoWorker::Host(_) => NotLoaded::Host(error.to_string()),
        })?;
        let release = verified.release();
        let signers = release.signers().iter().map(|signer| format!("{} ({})", signer.holder, signer.key));
        let standing = release.standing();
        let exempt = standing.exemptions.iter();
        let exempt =
            exempt.map(|found| format!("{} until {}: {}", found.criteria, found.until, found.reason));
        let reviewed = belief.policy.reviews_of(release.note().name.namespace()).next().is_some();
        let again = if reviewed { belief.now.plus(LISTEN) } else { release.valid_until() };
        Ok(Arc::new(Loaded {
            prepared,
            manifest: verified.manifest().clone(),
            not_before: release.note().not_before,
            expires: release.valid_until().min(again),
            note: release.identity(),
            signers: signers.collect(),
            verdicts: standing.verdicts.keys().copied().collect(),
            exempt: exempt.collect(),
            edition: belief.edition,
        }))
    }
}
