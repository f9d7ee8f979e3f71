//! What is fuzzed: one file a reader.

mod address;
mod grammar;
mod job;
mod manifest;
mod message;
mod note;
mod redactor;

use std::path::PathBuf;

use crate::mutate::Form;

/// A reader and its promises.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// The structure of its inputs.
    pub form: Form,
    /// Words that mean something to it.
    pub words: &'static [&'static str],
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input and checks the promises.
    pub check: fn(&[u8]) -> Result<Verdict, Broken>,
}

/// What a sound reader made of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it took it.
    pub accepted: bool,
    /// In words; other words are another way through the reader.
    pub words: String,
}

/// A promise that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

impl Broken {
    fn unless(holds: bool, why: impl FnOnce() -> String) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self(why())) }
    }
}

/// Every target.
pub const TARGETS: [Target; 7] = [
    grammar::TARGET,
    address::TARGET,
    redactor::TARGET,
    manifest::TARGET,
    note::TARGET,
    message::TARGET,
    job::TARGET,
];

/// The repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder of the repository with this ending, in order.
fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(root().join(folder)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.is_file() && path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths.into_iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// Inputs to begin with: those given, and those that once broke the target of this name.
fn seeds(own: Vec<Vec<u8>>, target: &str) -> Vec<Vec<u8>> {
    [own, files(&format!("fuzz/found/{target}"), "")].concat()
}

/// A value that is written and read again is the same value.
fn again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq>(value: &T) -> Result<(), Broken> {
    let text =
        serde_json::to_string(value).map_err(|error| Broken(format!("it cannot be written: {error}")))?;
    match serde_json::from_str::<T>(&text) {
        Ok(read) => Broken::unless(read == *value, || format!("it reads otherwise what it wrote: {text}")),
        Err(error) => Err(Broken(format!("it does not read what it wrote: {error}: {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::Campaign;

    /// Enough to see that a target works and to find what is easily found; the long runs are `cargo xtask fuzz`.
    const ROUNDS: u32 = 1500;

    #[test]
    fn a_short_run_of_each_target_finds_nothing() {
        for target in TARGETS {
            let mut campaign = Campaign::new(target, 1);
            let seeds = campaign.kept();
            let mut found = campaign.try_seeds();
            for _ in 0..ROUNDS {
                found = found.and_then(|()| campaign.step());
            }
            if let Err(finding) = found {
                panic!("{}: {}\n{}", target.name, finding.why, finding.input.escape_ascii());
            }
            // A target that takes nothing, or everything for the same, checks nothing.
            assert!(campaign.accepted > 10, "{} accepted {} inputs", target.name, campaign.accepted);
            assert!(campaign.kept() > seeds, "{} learnt nothing", target.name);
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let run = |seed| {
            let mut campaign = Campaign::new(TARGETS[1], seed);
            (0..300).for_each(|_| campaign.step().unwrap());
            (campaign.accepted, campaign.kept())
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn a_broken_reader_is_found_and_its_input_made_small() {
        let broken = Target {
            check: |input| {
                let text = String::from_utf8_lossy(input);
                Broken::unless(!text.contains("@"), || "it takes an @".to_owned())?;
                Ok(Verdict { accepted: true, words: text.into_owned() })
            },
            ..TARGETS[1]
        };
        let mut campaign = Campaign::new(broken, 1);
        let finding = (0..10_000).find_map(|_| campaign.step().err()).unwrap();
        assert_eq!((finding.input.as_slice(), finding.why.as_str()), (b"@".as_slice(), "it takes an @"));
    }
}
