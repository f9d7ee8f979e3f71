//! Edge cases of Ed25519 on which implementations differ, made from the group's definition.
//!
//! The classes are those of C2SP CCTV's `ed25519vectors`. Its file is in no package registry, so the cases are made here:
//! every key and every nonce is a point of prime order or zero, plus one of the eight torsion points, in every spelling
//! that decodes to it. With B the base point, L its order, `A = aB + T` and `R = rB + U`, the signature `S = r + ka` is one
//! by the equation with the cofactor; by the one without, which [RFC 8032] allows and the library checks, it is one only
//! where `U + kT` is zero.
//!
//! [RFC 8032]: https://www.rfc-editor.org/rfc/rfc8032#section-5.1.7

use base64::{Engine as _, engine::general_purpose::STANDARD};
use curve25519_dalek::{
    EdwardsPoint, Scalar, constants::EIGHT_TORSION, edwards::CompressedEdwardsY, traits::IsIdentity as _,
};
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use sha2::{Digest as _, Sha512};

use super::{ED25519, InvalidKey, PublicKey, key_id};
use crate::TrustPolicy;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    LowOrderA,
    LowOrderR,
    LowOrderComponentA,
    LowOrderComponentR,
    LowOrderResidue,
    NonCanonicalA,
    NonCanonicalR,
    ReencodedK,
    LargeS,
}

/// One half of the signature equation, a key or a nonce: `prime * B + EIGHT_TORSION[torsion]`, in one spelling.
#[derive(Clone)]
struct Half {
    prime: Scalar,
    torsion: usize,
    bytes: [u8; 32],
}

impl Half {
    fn point(&self) -> EdwardsPoint {
        EdwardsPoint::mul_base(&self.prime) + EIGHT_TORSION[self.torsion]
    }

    fn canonical(&self) -> [u8; 32] {
        self.point().compress().to_bytes()
    }

    fn is_canonical(&self) -> bool {
        self.bytes == self.canonical()
    }

    fn is_low_order(&self) -> bool {
        self.prime == Scalar::ZERO
    }

    /// All spellings of the sixteen points that are 0 or `prime * B`, plus torsion.
    fn all(prime: Scalar) -> Vec<Self> {
        let mut halves = Vec::new();
        for prime in [Scalar::ZERO, prime] {
            for (torsion, point) in EIGHT_TORSION.iter().enumerate() {
                let spellings = spellings(&(EdwardsPoint::mul_base(&prime) + point));
                halves.extend(spellings.into_iter().map(|bytes| Self { prime, torsion, bytes }));
            }
        }
        halves
    }
}

/// Every 32 bytes that decode to `point`: y or y + p where that fits in 255 bits, with both signs where x is zero.
fn spellings(point: &EdwardsPoint) -> Vec<[u8; 32]> {
    let mut y = point.compress().to_bytes();
    y[31] &= 0x7f;
    let mut ys = vec![y];
    if y[0] < 19 && y[1..].iter().all(|byte| *byte == 0) {
        let mut raised = [0xff; 32];
        (raised[0], raised[31]) = (0xed + y[0], 0x7f);
        ys.push(raised);
    }
    let mut spellings = Vec::new();
    for y in ys {
        for sign in [0, 0x80] {
            let mut bytes = y;
            bytes[31] |= sign;
            if CompressedEdwardsY(bytes).decompress() == Some(*point) {
                spellings.push(bytes);
            }
        }
    }
    spellings
}

fn challenge(nonce: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let mut hasher = Sha512::new();
    hasher.update(nonce);
    hasher.update(key);
    hasher.update(message);
    Scalar::from_bytes_mod_order_wide(&hasher.finalize().into())
}

/// The place of `U + kT` in `EIGHT_TORSION`, whose entries are the multiples of the first after zero.
fn residue(challenge: &Scalar, key: &Half, nonce: &Half) -> usize {
    (nonce.torsion + usize::from(challenge.as_bytes()[0] & 7) * key.torsion) % 8
}

/// By which reading of the equation a case is a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// By every reading, unless its points or spellings are refused.
    Every,
    /// Only with the cofactor.
    Cofactor,
    /// Only if k is hashed over the points' canonical spellings instead of the bytes that were sent.
    Reencoding,
}

struct Case {
    key: Half,
    nonce: Half,
    message: [u8; 2],
    /// The k by which it is a signature.
    challenge: Scalar,
    /// What is sent as S.
    s: [u8; 32],
    reading: Reading,
}

impl Case {
    /// A signature over the first message on which `reading` alone accepts it; `None` where there is none.
    fn find(key: &Half, nonce: &Half, reading: Reading) -> Option<Self> {
        let (key_point, nonce_point) = (key.canonical(), nonce.canonical());
        (0..200_u16).map(u16::to_be_bytes).find_map(|message| {
            let sent = challenge(&nonce.bytes, &key.bytes, &message);
            let reencoded = challenge(&nonce_point, &key_point, &message);
            let (challenge, fits) = match reading {
                Reading::Every => (sent, residue(&sent, key, nonce) == 0),
                Reading::Cofactor => (sent, residue(&sent, key, nonce) != 0),
                Reading::Reencoding => {
                    let same = sent == reencoded || (key.is_low_order() && residue(&sent, key, nonce) == 0);
                    (reencoded, !same && residue(&reencoded, key, nonce) == 0)
                }
            };
            let s = (nonce.prime + challenge * key.prime).to_bytes();
            fits.then(|| Self { key: key.clone(), nonce: nonce.clone(), message, challenge, s, reading })
        })
    }

    /// True if S is below L.
    fn is_reduced(&self) -> bool {
        Option::<Scalar>::from(Scalar::from_canonical_bytes(self.s)).is_some()
    }

    fn is(&self, class: Class) -> bool {
        match class {
            Class::LowOrderA => self.key.is_low_order(),
            Class::LowOrderR => self.nonce.is_low_order(),
            Class::LowOrderComponentA => !self.key.is_low_order() && self.key.torsion != 0,
            Class::LowOrderComponentR => !self.nonce.is_low_order() && self.nonce.torsion != 0,
            Class::LowOrderResidue => self.reading == Reading::Cofactor,
            Class::NonCanonicalA => !self.key.is_canonical(),
            Class::NonCanonicalR => !self.nonce.is_canonical(),
            Class::ReencodedK => self.reading == Reading::Reencoding,
            Class::LargeS => !self.is_reduced(),
        }
    }

    fn signature(&self) -> Signature {
        Signature::from_components(self.nonce.bytes, self.s)
    }

    /// True if the library's check, which compares R's bytes, accepts it.
    #[expect(
        clippy::disallowed_methods,
        reason = "what is not called elsewhere is shown here to accept too much"
    )]
    fn by_verify(&self) -> bool {
        VerifyingKey::from_bytes(&self.key.bytes)
            .is_ok_and(|key| key.verify(&self.message, &self.signature()).is_ok())
    }

    /// True if the library's strict check accepts it.
    fn by_verify_strict(&self) -> bool {
        VerifyingKey::from_bytes(&self.key.bytes)
            .is_ok_and(|key| key.verify_strict(&self.message, &self.signature()).is_ok())
    }

    /// True if it is accepted here.
    fn by_us(&self) -> bool {
        PublicKey::from_bytes(&self.key.bytes)
            .is_ok_and(|key| key.verifies(&self.message, &self.signature().to_bytes()))
    }
}

/// A scalar of which nothing is special.
fn scalar(name: &str) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&Sha512::digest(name).into())
}

fn cases() -> Vec<Case> {
    let nonces = Half::all(scalar("nonce"));
    let mut cases = Vec::new();
    for key in &Half::all(scalar("key")) {
        for nonce in &nonces {
            for reading in [Reading::Every, Reading::Cofactor, Reading::Reencoding] {
                cases.extend(Case::find(key, nonce, reading));
            }
        }
    }
    let plain = cases.iter().find(|case| CLASSES.iter().all(|class| !case.is(*class))).unwrap();
    let mut large = larger(plain);
    cases.append(&mut large);
    cases
}

const CLASSES: [Class; 9] = [
    Class::LowOrderA,
    Class::LowOrderR,
    Class::LowOrderComponentA,
    Class::LowOrderComponentR,
    Class::LowOrderResidue,
    Class::NonCanonicalA,
    Class::NonCanonicalR,
    Class::ReencodedK,
    Class::LargeS,
];

/// The same signature with S + L, S + 2L, and so on, as far as 32 bytes hold it.
fn larger(plain: &Case) -> Vec<Case> {
    let mut order = (-Scalar::ONE).to_bytes();
    order[0] += 1;
    let mut cases = Vec::new();
    let mut s = plain.s;
    loop {
        let mut carry = false;
        for (byte, more) in s.iter_mut().zip(order) {
            let (sum, over) = byte.overflowing_add(more);
            let (sum, again) = sum.overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, over | again);
        }
        if carry {
            return cases;
        }
        cases.push(Case { key: plain.key.clone(), nonce: plain.nonce.clone(), s, ..*plain });
    }
}

/// The cases are what they are made to be, or refusing them would show nothing.
#[test]
fn the_cases_are_signatures_with_the_cofactor() {
    for (times, point) in (0_u8..8).zip(EIGHT_TORSION) {
        assert_eq!(point, EIGHT_TORSION[1] * Scalar::from(times));
    }
    let halves = Half::all(scalar("key"));
    let canonical = halves.iter().filter(|half| half.is_canonical()).count();
    let low = halves.iter().filter(|half| half.is_low_order()).count();
    assert_eq!((halves.len(), canonical, low), (22, 16, 14));
    let cases = cases();
    let count = |reading| cases.iter().filter(|case| case.reading == reading && case.is_reduced()).count();
    // Every: kT = -U has a k for 309 of the 22 * 22 pairs. Cofactor: all pairs but the 25 without torsion.
    // Reencoding: 137 pairs of the 309 have a second spelling; in 18 of them k is multiplied with nothing.
    let counts = (count(Reading::Every), count(Reading::Cofactor), count(Reading::Reencoding));
    assert_eq!(counts, (309, 459, 119));
    for case in &cases {
        let s = Scalar::from_bytes_mod_order(case.s);
        let rest = EdwardsPoint::mul_base(&s) - case.challenge * case.key.point() - case.nonce.point();
        assert!(rest.is_small_order());
        assert_eq!(rest.is_identity(), !case.is(Class::LowOrderResidue));
    }
}

/// Of each class: how many cases there are, and how many of them the library's `verify`, its `verify_strict`, and this
/// room accept. The numbers follow from the 22 halves and the multiples in a group of eight, and were counted apart.
#[test]
fn no_class_of_edge_cases_is_accepted() {
    let cases = cases();
    let check = |class: Class, expect: [usize; 4]| {
        let cases: Vec<_> = cases.iter().filter(|case| case.is(class)).collect();
        let count = |accepts: fn(&Case) -> bool| cases.iter().filter(|case| accepts(case)).count();
        let found = [cases.len(), count(Case::by_verify), count(Case::by_verify_strict), count(Case::by_us)];
        assert_eq!(found, expect, "{class:?}");
    };
    check(Class::LowOrderA, [544, 112, 0, 0]);
    check(Class::LowOrderR, [607, 99, 0, 0]);
    check(Class::LowOrderComponentA, [318, 84, 42, 0]);
    check(Class::LowOrderComponentR, [238, 77, 35, 0]);
    check(Class::LowOrderResidue, [459, 0, 0, 0]);
    check(Class::NonCanonicalA, [204, 26, 0, 0]);
    check(Class::NonCanonicalR, [327, 0, 0, 0]);
    check(Class::ReencodedK, [119, 0, 0, 0]);
    check(Class::LargeS, [15, 0, 0, 0]);
}

#[test]
fn only_the_plain_case_is_accepted() {
    let cases = cases();
    let (plain, edge): (Vec<_>, Vec<_>) =
        cases.iter().partition(|case| CLASSES.iter().all(|class| !case.is(*class)));
    assert_eq!((plain.len(), edge.len()), (1, 901));
    assert!(plain[0].by_verify() && plain[0].by_verify_strict() && plain[0].by_us());
    assert!(!edge.iter().any(|case| case.by_us()));
}

/// The library is as strict as it is believed to be, case by case; should it change, so does what guards us.
#[test]
fn the_library_accepts_what_it_is_believed_to() {
    for case in cases() {
        let verify = case.reading == Reading::Every && case.nonce.is_canonical() && case.is_reduced();
        assert_eq!(case.by_verify(), verify);
        let strict = verify && !case.key.is_low_order() && !case.nonce.is_low_order();
        assert_eq!(case.by_verify_strict(), strict);
    }
}

#[test]
fn a_policy_with_a_weak_key_is_refused() {
    let load = |half: &Half| {
        let bytes = [&[ED25519][..], &half.bytes].concat();
        let id = u32::from_be_bytes(key_id("acme/alice", ED25519, &half.bytes));
        TrustPolicy::from_toml(&format!(
            "version = 1\n[[key]]\nvkey = \"acme/alice+{id:08x}+{}\"\nholder = \"alice\"\nkinds = [\"component\"]\n",
            STANDARD.encode(bytes)
        ))
    };
    let (plain, weak): (Vec<_>, Vec<_>) =
        Half::all(scalar("key")).into_iter().partition(|half| !half.is_low_order() && half.torsion == 0);
    assert_eq!((plain.len(), weak.len()), (1, 21));
    assert!(load(&plain[0]).is_ok());
    for half in weak {
        assert_eq!(PublicKey::from_bytes(&half.bytes), Err(InvalidKey::Weak));
        let faults = load(&half).err().unwrap();
        let text = faults.iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains("weak key"), "{text}");
    }
}
