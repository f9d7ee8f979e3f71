//! A run of one target: inputs are made, checked, and kept where they came to something new.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    mutate::Mutator,
    random::Random,
    target::{Broken, Target},
};

/// Most inputs that are kept.
const MAX_KEPT: usize = 8192;

/// An input that breaks a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The input, as small as it could be made.
    pub input: Vec<u8>,
    /// What is wrong.
    pub why: String,
}

/// A run of one target. The same seed makes the same inputs.
pub struct Campaign {
    target: Target,
    random: Random,
    kept: Vec<Vec<u8>>,
    /// Which of them the target accepted: most changes of those lead far into it.
    sound: Vec<usize>,
    known: HashSet<u64>,
    last: Vec<u8>,
    /// Inputs tried.
    pub tried: u64,
    /// Inputs that the target accepted.
    pub accepted: u64,
}

/// What one input came to: accepted or not, and the words for it; or what is broken.
///
/// # Errors
/// A broken promise, or a panic.
pub fn check(target: &Target, input: &[u8]) -> Result<(bool, String), String> {
    match catch_unwind(AssertUnwindSafe(|| (target.check)(input))) {
        Ok(Ok(verdict)) => Ok((verdict.accepted, verdict.words)),
        Ok(Err(Broken(why))) => Err(why),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("it panics: {}", words.unwrap_or("without words")))
        }
    }
}

impl Campaign {
    /// Begins with the target's own inputs.
    pub fn new(target: Target, seed: u64) -> Self {
        let kept = (target.seeds)();
        Self {
            target,
            random: Random::new(seed),
            kept,
            sound: Vec::new(),
            known: HashSet::new(),
            last: Vec::new(),
            tried: 0,
            accepted: 0,
        }
    }

    /// The inputs that it begins with, each of which has to be sound.
    ///
    /// # Errors
    /// The first that is not.
    pub fn try_seeds(&mut self) -> Result<(), Finding> {
        for (at, input) in self.kept.clone().into_iter().enumerate() {
            let before = self.accepted;
            self.try_input(&input)?;
            if self.accepted > before {
                self.sound.push(at);
            }
        }
        Ok(())
    }

    /// The input that was tried last.
    pub fn last(&self) -> &[u8] {
        &self.last
    }

    /// How many inputs are kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Makes and tries one input.
    ///
    /// # Errors
    /// It breaks the target.
    pub fn step(&mut self) -> Result<(), Finding> {
        let random = &mut self.random;
        // The newest are the likeliest to lead to more.
        let recent = self.kept.len().min(64);
        let skip = if random.once_in(3) { self.kept.len() - recent } else { 0 };
        let sound =
            if random.once_in(2) { random.one(&self.sound).and_then(|at| self.kept.get(*at)) } else { None };
        let from = sound.or_else(|| random.one(self.kept.get(skip..).unwrap_or_default()));
        let from = from.cloned().unwrap_or_default();
        let other = random.one(&self.kept).cloned().unwrap_or_default();
        let mutator = Mutator { form: self.target.form, words: self.target.words };
        let input = mutator.mutate(random, &from, &other);
        let before = self.accepted;
        if self.try_input(&input)? && self.kept.len() < MAX_KEPT {
            if self.accepted > before {
                self.sound.push(self.kept.len());
            }
            self.kept.push(input);
        }
        Ok(())
    }

    /// Tries an input; true if it came to something that nothing before came to.
    fn try_input(&mut self, input: &[u8]) -> Result<bool, Finding> {
        self.tried += 1;
        self.last.clear();
        self.last.extend_from_slice(input);
        match check(&self.target, input) {
            Ok((accepted, words)) => {
                self.accepted += u64::from(accepted);
                Ok(self.known.insert(shape(accepted, &words)))
            }
            Err(why) => Err(self.smaller(input, why)),
        }
    }

    /// Takes pieces out for as long as the target stays broken.
    fn smaller(&self, input: &[u8], why: String) -> Finding {
        let mut finding = Finding { input: input.to_vec(), why };
        let mut piece = finding.input.len() / 2;
        while piece > 0 {
            let mut at = 0;
            while at < finding.input.len() {
                let end = (at + piece).min(finding.input.len());
                let mut less = finding.input.clone();
                less.drain(at..end);
                match check(&self.target, &less) {
                    Err(why) => finding = Finding { input: less, why },
                    Ok(_) => at = end,
                }
            }
            piece /= 2;
        }
        finding
    }
}

/// The shape of an answer: its words without numbers and without what they quote of the input.
fn shape(accepted: bool, words: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    accepted.hash(&mut hasher);
    let mut quoted = false;
    for byte in words.bytes().take(200) {
        quoted ^= byte == b'"' || byte == b'`';
        if !quoted && !byte.is_ascii_digit() {
            byte.hash(&mut hasher);
        }
    }
    hasher.finish()
}
