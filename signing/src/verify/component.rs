//! From a component note, a manifest and a wasm to a [`VerifiedComponent`].

use std::{collections::BTreeSet, sync::Arc};

use remit_protocol::{
    Digest, RefusalCode, Timestamp,
    capability::imports::check_imports,
    limits::{MAX_COMPONENT, MAX_MANIFEST},
    manifest::{Kind, Manifest},
};

use super::{Signer, Standing, check_bytes, check_note_revoked, check_window, review, signers};
use crate::{
    Refusal, TrustPolicy,
    component::ComponentNote,
    log::{self, ProvenLeaf},
    note::{NoteKind, UnverifiedNote},
    wasm::{self, Interfaces, ItemKind},
};

/// A note as it is published: with the proof that a transparency log lists it, where there is one, and with what reviewers
/// say of the release.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// The bytes of the note.
    pub note: &'a [u8],
    /// The bytes of the `.tlog-proof`.
    pub proof: Option<&'a [u8]>,
    /// Verdict notes about the release, and about those that their deltas begin from.
    pub verdicts: &'a [String],
}

impl<'a> From<&'a [u8]> for Published<'a> {
    fn from(note: &'a [u8]) -> Self {
        Self { note, proof: None, verdicts: &[] }
    }
}

impl<'a> From<&'a Vec<u8>> for Published<'a> {
    fn from(note: &'a Vec<u8>) -> Self {
        Self { note, proof: None, verdicts: &[] }
    }
}

/// The versions of `remit:step` that this host runs: compatible ones share what stands before the last number.
const WORLD_VERSION: &str = "0.1.";

/// A component note that the policy believes: what to fetch, and how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedRelease {
    note: ComponentNote,
    identity: Digest,
    signers: BTreeSet<Signer>,
    standing: Standing,
    logged: Option<ProvenLeaf>,
}

impl VerifiedRelease {
    /// What the note says.
    pub fn note(&self) -> &ComponentNote {
        &self.note
    }

    /// The digest of the note's text.
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// The signatures that counted.
    pub fn signers(&self) -> &BTreeSet<Signer> {
        &self.signers
    }

    /// The verdicts and exemptions by which it was let through; empty where the policy asks for no review.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// First instant at which it has to be verified again: its note, a verdict or an exemption runs out.
    pub fn valid_until(&self) -> Timestamp {
        self.standing.until.map_or(self.note.expires, |until| until.min(self.note.expires))
    }

    /// Where a log lists the note; always known where the policy requires a proof.
    pub fn logged(&self) -> Option<&ProvenLeaf> {
        self.logged.as_ref()
    }
}

/// A component that may be compiled: the very bytes that were verified, and all that is known of them.
///
/// It cannot be made in any other way than by [`component`]:
///
/// ```compile_fail,E0451
/// fn forge(release: remit_signing::verify::VerifiedRelease) -> remit_signing::VerifiedComponent {
///     remit_signing::VerifiedComponent { release, manifest: todo!(), interfaces: todo!(), bytes: todo!() }
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct VerifiedComponent {
    release: VerifiedRelease,
    manifest: Manifest,
    interfaces: Interfaces,
    bytes: Arc<[u8]>,
}

impl VerifiedComponent {
    /// The bytes of the wasm.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The digest of the bytes, as computed here.
    pub fn digest(&self) -> Digest {
        self.release.note.component.digest
    }

    /// What the component says of itself and asks for.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it really imports and exports.
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Its note, with the note's identity and signers.
    pub fn release(&self) -> &VerifiedRelease {
        &self.release
    }
}

impl std::fmt::Debug for VerifiedComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let note = &self.release.note;
        write!(f, "VerifiedComponent({}@{} {})", note.name, note.version, note.component.digest)
    }
}

/// Verifies a component note alone, before anything is fetched that it names.
///
/// # Errors
/// A [`Refusal`] with `E_SYNTAX`, `E_SIG`, `E_THRESHOLD`, `E_SCOPE`, `E_WINDOW`, `E_MINIMUM`, `E_REVOKED_*`,
/// `E_VERDICT`, or `E_LOG_PROOF` where the policy requires a proof.
pub fn release<'a>(
    published: impl Into<Published<'a>>,
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<VerifiedRelease, Refusal> {
    let published = published.into();
    let (note, parsed) = parse(published.note)?;
    believe(&published, &note, parsed, policy, now)
}

/// Verifies a component: note, manifest and wasm together.
///
/// # Errors
/// A [`Refusal`] as of [`release`], and `E_LENGTH`, `E_DIGEST`, `E_MANIFEST`, `E_KIND`, `E_IMPORTS`, `E_WORLD`.
pub fn component<'a>(
    published: impl Into<Published<'a>>,
    manifest: &[u8],
    wasm: impl Into<Arc<[u8]>>,
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<VerifiedComponent, Refusal> {
    let (published, bytes) = (published.into(), wasm.into());
    let (note, parsed) = parse(published.note)?;
    check_bytes("manifest", manifest, &parsed.manifest)?;
    check_bytes("component", &bytes, &parsed.component)?;
    let release = believe(&published, &note, parsed, policy, now)?;
    let manifest = check_manifest(manifest, &release.note)?;
    let interfaces = check_wasm(&bytes, &manifest)?;
    Ok(VerifiedComponent { release, manifest, interfaces, bytes })
}

fn parse(note: &[u8]) -> Result<(UnverifiedNote, ComponentNote), Refusal> {
    let note = UnverifiedNote::parse_as(NoteKind::Component, note)?;
    let parsed = ComponentNote::parse(&note)?;
    if parsed.component.length > MAX_COMPONENT || parsed.manifest.length > MAX_MANIFEST as u64 {
        return Err(Refusal::new(
            RefusalCode::Length,
            format_args!("A component has at most {MAX_COMPONENT} bytes and a manifest {MAX_MANIFEST}."),
        ));
    }
    Ok((note, parsed))
}

fn believe(
    published: &Published<'_>,
    note: &UnverifiedNote,
    parsed: ComponentNote,
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<VerifiedRelease, Refusal> {
    let signed = signers::known(note, policy)?;
    let Some(quorum) = policy.publisher(parsed.name.namespace()) else {
        return Err(Refusal::new(
            RefusalCode::Scope,
            format_args!("The namespace {:?} has no publisher.", parsed.name.namespace()),
        ));
    };
    let signers = signers::enough(&signed, quorum, policy, now)?;
    check_window(parsed.not_before, parsed.expires, now)?;
    if let Some(least) = policy.minimum(&parsed.name)
        && parsed.version < *least
    {
        let detail = format!("{} is at {}, the least is {least}.", parsed.name, parsed.version);
        return Err(Refusal::new(RefusalCode::Minimum, detail));
    }
    check_note_revoked(note, policy)?;
    if policy.revoked().components.contains(&parsed.component.digest) {
        let detail = format!("Component {}.", parsed.component.digest);
        return Err(Refusal::new(RefusalCode::RevokedComponent, detail));
    }
    let standing = review::standing(&parsed, &signers, published.verdicts, policy, now)?;
    let logged = logged(published, policy)?;
    Ok(VerifiedRelease { identity: note.identity(), note: parsed, signers, standing, logged })
}

/// Verifies a note's proof where the policy requires one; elsewhere it is not looked at.
///
/// # Errors
/// `E_LOG_PROOF`.
pub fn logged(published: &Published<'_>, policy: &TrustPolicy) -> Result<Option<ProvenLeaf>, Refusal> {
    if policy.log().required { proven(published, policy).map(Some) } else { Ok(None) }
}

/// Verifies a note's proof by the logs of the policy, whether or not it requires one.
///
/// # Errors
/// `E_LOG_PROOF`.
pub fn proven(published: &Published<'_>, policy: &TrustPolicy) -> Result<ProvenLeaf, Refusal> {
    let refused = |detail: String| Refusal::new(RefusalCode::LogProof, detail);
    let proof = published.proof.ok_or_else(|| refused("No proof came with the note.".to_owned()))?;
    let logs: Vec<_> =
        policy.log().keys.iter().filter(|log| !policy.revokes(log.public())).cloned().collect();
    log::verify_proof(proof, published.note, &logs)
        .map_err(|e| refused(format!("The proof is not good: {e}.")))
}

fn check_manifest(bytes: &[u8], note: &ComponentNote) -> Result<Manifest, Refusal> {
    let manifest =
        Manifest::from_slice(bytes).map_err(|e| Refusal::syntax(format_args!("The manifest: {e}.")))?;
    if manifest.name != note.name || manifest.version != note.version {
        return Err(Refusal::new(
            RefusalCode::Manifest,
            format_args!(
                "The note is for {}@{}, the manifest for {}@{}.",
                note.name, note.version, manifest.name, manifest.version
            ),
        ));
    }
    Ok(manifest)
}

/// Checks that `bytes` are a component that imports and exports what `manifest` says: what pack, publish and load share.
///
/// # Errors
/// `E_KIND`, `E_IMPORTS` or `E_WORLD`.
pub fn check_wasm(bytes: &[u8], manifest: &Manifest) -> Result<Interfaces, Refusal> {
    let interfaces =
        wasm::interfaces(bytes).map_err(|e| Refusal::new(RefusalCode::Kind, format_args!("It is {e}.")))?;
    let imports = |detail: String| Refusal::new(RefusalCode::Imports, detail);
    if let Some(item) = interfaces.imports.iter().find(|item| item.kind != ItemKind::Instance) {
        return Err(imports(format!("The import {:?} is not an interface.", item.name)));
    }
    let real = interfaces.import_names();
    if let Some(extra) = real.iter().find(|name| !manifest.imports.contains(name)) {
        return Err(imports(format!("The component imports {extra}, which the manifest does not list.")));
    }
    if let Some(absent) = manifest.imports.iter().find(|name| !real.contains(name)) {
        return Err(imports(format!("The manifest lists {absent:?}, which the component does not import.")));
    }
    check_imports(real.iter().map(String::as_str), &manifest.requests, manifest.profile)
        .map_err(|e| imports(format!("{e}.")))?;
    let wanted = match manifest.kind {
        Kind::Step => "remit:step/main",
        Kind::NodeSource => "remit:step/source",
    };
    if !interfaces.exports_interface(wanted, WORLD_VERSION) {
        return Err(Refusal::new(
            RefusalCode::World,
            format_args!("The interface {wanted}@{WORLD_VERSION}x is not exported."),
        ));
    }
    Ok(interfaces)
}
