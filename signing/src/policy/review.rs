//! What the policy asks of reviewers, and what it lets pass without: `[[review]]` and `[[exemption]]`.

use std::collections::BTreeSet;

use remit_protocol::{
    ComponentName, ComponentSelector, ComponentVersion, Digest, Namespace, Timestamp, VersionSelector,
};

use super::{
    Quorum,
    read::{Keys, day, nobody, quorum},
    table::{Faults, Table},
};
use crate::{component::ComponentNote, key::KeyKind, verdict::Criteria};

/// Longest reason of an exemption.
const MAX_REASON: usize = 512;

/// Reviewers who have to stand for components before they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Of which namespaces; none is every one.
    pub namespaces: BTreeSet<Namespace>,
    /// By which criteria.
    pub criteria: Criteria,
    /// How many holders out of which keys.
    pub quorum: Quorum,
}

impl Review {
    /// True if components of `namespace` have to pass it.
    pub fn is_about(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|own| own.as_str() == namespace)
    }
}

/// A release that runs without its review, for a while: debt that the owner sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemption {
    /// The component.
    pub component: ComponentName,
    /// Its version.
    pub version: ComponentVersion,
    /// The digest of its wasm.
    pub digest: Digest,
    /// From which criteria.
    pub criteria: Criteria,
    /// Why, in a sentence.
    pub reason: String,
    /// Last instant at which it holds.
    pub until: Timestamp,
}

impl Exemption {
    /// True if it is about this release and these criteria, and holds at `now`.
    pub fn covers(&self, release: &ComponentNote, criteria: &Criteria, now: Timestamp) -> bool {
        let about = self.component == release.name && self.version == release.version;
        about && self.digest == release.component.digest && self.criteria == *criteria && self.holds(now)
    }

    /// True if it has not run out at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        now <= self.until
    }
}

/// Reads a member that is parsed; what is wrong with it is a fault at its place.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    table: &mut Table<'_, '_>,
    faults: &mut Faults<'_>,
    name: &'static str,
    example: &str,
) -> Option<T> {
    let at = table.needed_text(faults, name, example)?;
    at.value
        .parse()
        .map_err(|error| faults.add(&at.span, error, format_args!("write {name} = {example}")))
        .ok()
}

pub(super) fn reviews(root: &mut Table<'_, '_>, faults: &mut Faults<'_>, keys: &Keys) -> Vec<Review> {
    let mut reviews: Vec<Review> = Vec::new();
    for mut table in root.tables(faults, "review", "[[review]]") {
        let mut namespaces = BTreeSet::new();
        let list = table.texts(faults, "namespaces");
        if let Some(list) = &list
            && list.value.is_empty()
        {
            let remedy = "list a namespace, or remove `namespaces`: then every component is reviewed";
            faults.add(&list.span, "a review of no namespace asks for nothing", remedy);
        }
        for at in list.into_iter().flat_map(|list| list.value) {
            match Namespace::new(at.value) {
                Ok(namespace) => drop(namespaces.insert(namespace)),
                Err(error) => {
                    faults.add(&at.span, error, "write the part before the slash of the components' names");
                }
            }
        }
        let span = table.span.clone();
        let criteria = parsed(&mut table, faults, "criteria", "\"safe-to-run\"");
        let quorum = quorum(&mut table, faults, keys, KeyKind::Verdict);
        table.finish(faults);
        let Some(criteria) = criteria else { continue };
        let quorum = quorum.unwrap_or_else(nobody);
        let review = Review { namespaces, criteria, quorum };
        if reviews
            .iter()
            .any(|other| other.criteria == review.criteria && other.namespaces == review.namespaces)
        {
            let remedy = "list all of its reviewers in one [[review]]";
            faults.add(&span, "a [[review]] by these criteria is there already", remedy);
        }
        reviews.push(review);
    }
    reviews
}

pub(super) fn exemptions(
    root: &mut Table<'_, '_>,
    faults: &mut Faults<'_>,
    reviews: &[Review],
) -> Vec<Exemption> {
    let mut exemptions: Vec<Exemption> = Vec::new();
    for mut table in root.tables(faults, "exemption", "[[exemption]]") {
        let span = table.span.clone();
        let release = table.needed_text(faults, "component", "\"acme/old@1.2.3\"").and_then(|at| {
            let found = release(at.value);
            if found.is_none() {
                let remedy = "write the exact version: component = \"acme/old@1.2.3\"";
                faults.add(&at.span, "not a component with its whole version", remedy);
            }
            found
        });
        let digest = parsed(&mut table, faults, "digest", "\"sha256:…\"");
        let criteria = parsed(&mut table, faults, "criteria", "\"safe-to-run\"");
        let reason = table.needed_text(faults, "reason", "\"in use since before there were reviews\"");
        if let Some(at) = &reason
            && (at.value.trim().is_empty() || at.value.len() > MAX_REASON)
        {
            let remedy = "say in at most 512 bytes why it may run, for those who come after you";
            faults.add(&at.span, "an exemption without a reason, or one too long", remedy);
        }
        if table.text(faults, "until").is_none() {
            table.missing(faults, "until", "\"2027-03-31\"");
        }
        let until = day(&mut table, faults, "until", "T23:59:59Z");
        table.finish(faults);
        let (Some((component, version)), Some(digest), Some(criteria), Some(reason), Some(until)) =
            (release, digest, criteria, reason, until)
        else {
            continue;
        };
        let asked = |review: &Review| review.criteria == criteria && review.is_about(component.namespace());
        if !reviews.iter().any(asked) {
            let remedy = "remove it, or correct `criteria`: debt that is none hides the rest";
            faults.add(&span, format_args!("no [[review]] asks {component} for {criteria}"), remedy);
        }
        let reason = reason.value.to_owned();
        exemptions.push(Exemption { component, version, digest, criteria, reason, until });
    }
    exemptions
}

/// The one release that `text` names.
fn release(text: &str) -> Option<(ComponentName, ComponentVersion)> {
    let selector: ComponentSelector = text.parse().ok()?;
    match selector.version() {
        VersionSelector::Exact(version) => Some((selector.name().clone(), version.clone())),
        _ => None,
    }
}
