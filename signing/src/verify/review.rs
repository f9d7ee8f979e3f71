//! What reviewers have to say about a release, and whether that is what the policy asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use remit_protocol::{Digest, RefusalCode, Timestamp};

use super::{Signer, check_note_revoked, check_window, signers};
use crate::{
    Refusal, TrustPolicy,
    component::ComponentNote,
    key::KeyKind,
    note::{NoteKind, UnverifiedNote},
    policy::{Exemption, Holder, Quorum, Review, TrustedKey},
    verdict::{MAX_NOTE, MAX_VERDICTS, Opinion, Reviewed, Scope, VerdictNote},
};

/// A verdict note whose signature is a reviewer's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedVerdict {
    note: VerdictNote,
    identity: Digest,
    signers: BTreeSet<Signer>,
}

impl VerifiedVerdict {
    /// What the note says.
    pub fn note(&self) -> &VerdictNote {
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
}

/// Verifies a verdict note alone: that somebody signed it whom the policy knows as a reviewer.
///
/// # Errors
/// A [`Refusal`] with `E_SYNTAX`, `E_SIG`, `E_THRESHOLD`, `E_SCOPE`, `E_WINDOW`, `E_REVOKED_KEY` or `E_REVOKED_NOTE`.
pub fn verdict(note: &[u8], policy: &TrustPolicy, now: Timestamp) -> Result<VerifiedVerdict, Refusal> {
    let (note, parsed) = parse(note)?;
    let signed = signers::known(&note, policy)?;
    let reviewers = policy.keys().filter(|key| key.kinds.contains(&KeyKind::Verdict));
    let keys = reviewers.map(|key| key.vkey.name().clone()).collect();
    let signers = signers::enough(&signed, &Quorum { keys, threshold: NonZeroU32::MIN }, policy, now)?;
    check_window(parsed.issued, parsed.expires, now)?;
    check_note_revoked(&note, policy)?;
    Ok(VerifiedVerdict { identity: note.identity(), note: parsed, signers })
}

/// The verdicts that reviewers of `policy` give against a component, each with the component's digest. What is malformed
/// or by somebody else is passed over: whoever verifies a release says so.
pub(crate) fn against<'a>(
    verdicts: &'a [String],
    policy: &'a TrustPolicy,
) -> impl Iterator<Item = (Digest, &'a str)> {
    let given = verdicts.iter().filter_map(|text| Given::read(text, policy).ok());
    given.filter_map(|given| {
        let reviewer = given
            .signed
            .iter()
            .any(|key| key.kinds.contains(&KeyKind::Verdict) && !policy.revokes(key.vkey.public()));
        let against = reviewer && given.note.opinion == Opinion::Fail;
        against.then_some((given.note.component.digest, given.text))
    })
}

fn parse(note: &[u8]) -> Result<(UnverifiedNote, VerdictNote), Refusal> {
    if note.len() > MAX_NOTE {
        return Err(Refusal::syntax(format_args!("A verdict note has at most {MAX_NOTE} bytes.")));
    }
    let note = UnverifiedNote::parse_as(NoteKind::Verdict, note)?;
    let parsed = VerdictNote::parse(&note)?;
    Ok((note, parsed))
}

/// What stands behind a release beside its publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The verdicts that counted, by identity: the notes themselves.
    pub verdicts: BTreeMap<Digest, String>,
    /// The exemptions without which it would be refused.
    pub exemptions: Vec<Exemption>,
    /// First instant at which this has to be looked at again.
    pub until: Option<Timestamp>,
}

impl Standing {
    fn hold_until(&mut self, time: Timestamp) {
        self.until = Some(self.until.map_or(time, |until| until.min(time)));
    }
}

/// A verdict as it was delivered, with the keys of the policy that signed it.
struct Given<'a> {
    text: &'a str,
    identity: Digest,
    note: VerdictNote,
    signed: Vec<&'a TrustedKey>,
}

impl<'a> Given<'a> {
    fn read(text: &'a str, policy: &'a TrustPolicy) -> Result<Self, Refusal> {
        let (unverified, note) = parse(text.as_bytes())?;
        let signed = signers::known(&unverified, policy)?;
        Ok(Self { text, identity: unverified.identity(), note, signed })
    }

    fn is_open(&self, now: Timestamp) -> bool {
        self.note.issued <= now && now < self.note.expires
    }
}

/// Checks that a release that publishers stand for has the reviews that the policy asks for, or is exempt from them.
pub(super) fn standing(
    release: &ComponentNote,
    publishers: &BTreeSet<Signer>,
    verdicts: &[String],
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<Standing, Refusal> {
    let mut standing = Standing::default();
    let mut reviews = policy.reviews_of(release.name.namespace()).peekable();
    if reviews.peek().is_none() {
        return Ok(standing);
    }
    if verdicts.len() > MAX_VERDICTS {
        return Err(Refusal::syntax(format_args!(
            "More than {MAX_VERDICTS} verdicts came with the component."
        )));
    }
    let given: Vec<Given<'_>> =
        verdicts.iter().map(|text| Given::read(text, policy)).collect::<Result<_, _>>()?;
    let publishers = publishers.iter().map(|signer| &signer.holder).collect();
    for review in reviews {
        Bench { review, given: &given, publishers: &publishers, policy, now }
            .judge(release, &mut standing)?;
    }
    Ok(standing)
}

/// The reviewers of one `[[review]]`, with what was given.
struct Bench<'a> {
    review: &'a Review,
    given: &'a [Given<'a>],
    /// Who signed the release does not review it as well.
    publishers: &'a BTreeSet<&'a Holder>,
    policy: &'a TrustPolicy,
    now: Timestamp,
}

impl<'a> Bench<'a> {
    fn judge(&self, release: &ComponentNote, standing: &mut Standing) -> Result<(), Refusal> {
        let subject = Reviewed::of(release);
        if let Some((given, holder)) = self.against(&subject) {
            let detail = format!(
                "{holder} has looked at {}@{} by {} and stands against it, in note {}.",
                release.name, release.version, self.review.criteria, given.identity
            );
            return Err(Refusal::new(RefusalCode::Verdict, detail));
        }
        let mut exemptions = self.policy.exemptions().iter();
        if let Some(exemption) =
            exemptions.find(|exemption| exemption.covers(release, &self.review.criteria, self.now))
        {
            standing.hold_until(exemption.until);
            standing.exemptions.push(exemption.clone());
            return Ok(());
        }
        let accepted = self.accepted();
        if !accepted.contains(&subject) {
            return Err(self.too_few(release, &accepted));
        }
        for given in self.behind(subject, &accepted) {
            standing.verdicts.insert(given.identity, given.text.to_owned());
            standing.hold_until(given.note.expires);
        }
        Ok(())
    }

    /// Those whose word counts here, for or against: reviewers by a key that is not revoked.
    fn reviewers(&self, given: &'a Given<'a>) -> impl Iterator<Item = &'a TrustedKey> {
        let theirs = given.note.criteria == self.review.criteria
            && !self.policy.revoked().notes.contains(&given.identity);
        let counts = move |key: &&TrustedKey| {
            theirs
                && self.review.quorum.keys.contains(key.vkey.name())
                && !self.policy.revokes(key.vkey.public())
        };
        given.signed.iter().copied().filter(counts)
    }

    /// A verdict against these bytes. It does not run out: whoever takes it back has the note revoked.
    fn against(&self, subject: &Reviewed) -> Option<(&'a Given<'a>, &'a Holder)> {
        let about = |given: &&Given<'_>| {
            given.note.opinion == Opinion::Fail && given.note.component.digest == subject.component
        };
        let mut against = self.given.iter().filter(about);
        against.find_map(|given| Some((given, &self.reviewers(given).next()?.holder)))
    }

    /// Those who stand for a release by this note, now.
    fn supporters(&self, given: &'a Given<'a>) -> impl Iterator<Item = &'a Holder> {
        let open = given.note.opinion == Opinion::Pass && given.is_open(self.now);
        self.reviewers(given)
            .filter(move |key| open && key.valid_at(self.now) && !self.publishers.contains(&key.holder))
            .map(|key| &key.holder)
    }

    /// True if the note says something of its subject by itself, or by what `accepted` holds.
    fn is_founded(given: &Given<'_>, accepted: &BTreeSet<Reviewed>) -> bool {
        match given.note.scope {
            Scope::Full => true,
            Scope::Delta(from) => accepted.contains(&from),
        }
    }

    /// Who stands for `subject`, where `accepted` is accepted already.
    fn holders(&self, subject: &Reviewed, accepted: &BTreeSet<Reviewed>) -> BTreeSet<&'a Holder> {
        let about = self.given.iter().filter(|given| given.note.subject() == *subject);
        about
            .filter(|given| Self::is_founded(given, accepted))
            .flat_map(|given| self.supporters(given))
            .collect()
    }

    /// Every release that enough holders stand for: at each link of a chain of deltas, down to full verdicts. It grows
    /// from nothing, so that a circle of deltas comes to nothing.
    fn accepted(&self) -> BTreeSet<Reviewed> {
        let mut accepted = BTreeSet::new();
        let subjects: BTreeSet<Reviewed> = self.given.iter().map(|given| given.note.subject()).collect();
        let needed = self.review.quorum.threshold.get() as usize;
        loop {
            let reached = |subject: &&Reviewed| {
                !accepted.contains(*subject)
                    && self.against(subject).is_none()
                    && self.holders(subject, &accepted).len() >= needed.max(1)
            };
            let more: Vec<Reviewed> = subjects.iter().filter(reached).copied().collect();
            if more.is_empty() {
                return accepted;
            }
            accepted.extend(more);
        }
    }

    /// The verdicts that carry `subject`, those of its bases included.
    fn behind(&self, subject: Reviewed, accepted: &BTreeSet<Reviewed>) -> Vec<&'a Given<'a>> {
        let (mut found, mut seen, mut next) = (Vec::new(), BTreeSet::from([subject]), vec![subject]);
        while let Some(subject) = next.pop() {
            for given in self.given {
                let carries = given.note.subject() == subject
                    && Self::is_founded(given, accepted)
                    && self.supporters(given).next().is_some();
                if !carries {
                    continue;
                }
                found.push(given);
                if let Scope::Delta(from) = given.note.scope
                    && seen.insert(from)
                {
                    next.push(from);
                }
            }
        }
        found
    }

    fn too_few(&self, release: &ComponentNote, accepted: &BTreeSet<Reviewed>) -> Refusal {
        let subject = Reviewed::of(release);
        let holders = self.holders(&subject, accepted);
        let mut detail = format!(
            "{} of {} needed reviewers stand for {}@{} by {}",
            holders.len(),
            self.review.quorum.threshold,
            release.name,
            release.version,
            self.review.criteria
        );
        if !holders.is_empty() {
            let names: Vec<&str> = holders.into_iter().map(Holder::as_str).collect();
            detail.push_str(&format!(": {}", names.join(", ")));
        }
        let about: Vec<&Given<'_>> =
            self.given.iter().filter(|given| given.note.subject() == subject).collect();
        let reviewed = |given: &&&Given<'_>| self.reviewers(given).next().is_some();
        let late = about.iter().filter(reviewed).filter(|given| !given.is_open(self.now)).count();
        let unfounded =
            about.iter().filter(reviewed).filter(|given| !Self::is_founded(given, accepted)).count();
        let own = about.iter().flat_map(|given| self.reviewers(given));
        let own = own.filter(|key| self.publishers.contains(&key.holder)).count();
        for (count, why) in [
            (late, "out of their time"),
            (unfounded, "about a change from a release that is not accepted itself"),
            (own, "by a holder who signed the release and does not review it as well"),
        ] {
            if count > 0 {
                detail.push_str(&format!("; {count} do not count, {why}"));
            }
        }
        let run_out = |exemption: &&Exemption| {
            exemption.covers(release, &self.review.criteria, exemption.until) && !exemption.holds(self.now)
        };
        if let Some(exemption) = self.policy.exemptions().iter().find(run_out) {
            detail.push_str(&format!("; its exemption ran out at {}", exemption.until.to_seconds_text()));
        }
        detail.push('.');
        Refusal::new(RefusalCode::Verdict, detail)
    }
}
