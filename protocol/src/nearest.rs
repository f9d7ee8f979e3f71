//! The nearest known word to one that is not known: for "did you mean".

use strsim::osa_distance;

/// Longest word that is compared: what is longer was not mistyped.
const MAX_WORD: usize = 100;

/// The candidate with the fewest edits to `word` (letters put in, taken out, replaced, or swapped with their neighbour), if
/// those are at most a third of the candidate's letters.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_WORD {
        return None;
    }
    let candidates = candidates.into_iter().filter(|candidate| candidate.len() <= MAX_WORD);
    let edits = candidates.map(|candidate| (osa_distance(word, candidate), candidate));
    let near = edits.filter(|(edits, candidate)| *edits <= (candidate.chars().count() / 3).max(1));
    near.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_word() {
        fn check(word: &str, expect: Option<&str>) {
            assert_eq!(nearest(word, ["steps", "strategy", "timeout", "description"]), expect, "{word:?}");
        }
        check("step", Some("steps"));
        check("setps", Some("steps"));
        check("time_out", Some("timeout"));
        check("decription", Some("description"));
        check("timt", None);
        check("stratgy", Some("strategy"));
        check("sttegy", Some("strategy"));
        check("colour", None);
        check("", None);
        check(&"x".repeat(100_000), None);
        assert_eq!(nearest("steps", [&*"s".repeat(100_000)]), None);
    }
}
