//! Bounds that are checked before parsing: a parser that recurses must never see a text that makes it recurse far.

use remit_protocol::limits::MAX_EXPRESSION;

use super::Flaw;

/// Deepest nesting of brackets, prefix operators and conditionals, in sum.
pub(super) const MAX_NESTING: usize = 16;
/// Longest chain of operators, fields and calls, summed over the brackets around it: once it is parsed, a chain is as
/// deep as it is long. Beside `,`, `?`, `:`, `&&` and `||` a new chain begins.
pub(super) const MAX_CHAIN: usize = 48;

/// Checks length, characters, nesting and the number of operators.
pub(super) fn check(source: &str) -> Result<(), Flaw> {
    if source.len() > MAX_EXPRESSION {
        return Err(Flaw::new(format!("has {} bytes, at most {MAX_EXPRESSION} are allowed", source.len())));
    }
    if source.trim().is_empty() {
        return Err(Flaw::new("is empty"));
    }
    let characters: Vec<char> = source.chars().collect();
    let mut scan = Scan { at: 0, open: Vec::new(), prefixes: 0, conditionals: 0, chain: 0 };
    while scan.at < characters.len() {
        scan.step(&characters).map_err(|why| Flaw { why, column: u32::try_from(scan.at + 1).ok() })?;
    }
    match scan.open.last() {
        Some((bracket, _)) => Err(Flaw::new(format!("has a '{bracket}' that is not closed"))),
        None => Ok(()),
    }
}

struct Scan {
    at: usize,
    /// Open brackets, each with the length of the chain that it stands in.
    open: Vec<(char, usize)>,
    prefixes: usize,
    conditionals: usize,
    /// The chain here, with those of all brackets around it.
    chain: usize,
}

impl Scan {
    fn step(&mut self, text: &[char]) -> Result<(), String> {
        let character = text[self.at];
        let before = self.open.last().map_or(0, |(_, chain)| *chain);
        let doubled = text.get(self.at + 1) == Some(&character);
        match character {
            '"' | '\'' => {
                self.at = string_end(text, self.at)?;
                self.prefixes = 0;
                return Ok(());
            }
            '(' | '[' | '{' => {
                self.chain += 1;
                self.open.push((character, self.chain));
            }
            ')' | ']' | '}' => match self.open.pop() {
                Some((open, chain)) if matches!((open, character), ('(', ')') | ('[', ']') | ('{', '}')) => {
                    self.chain = chain;
                }
                _ => return Err(format!("has a '{character}' that closes nothing")),
            },
            '?' => {
                self.conditionals += 1;
                self.chain = before;
            }
            ',' | ':' => self.chain = before,
            '&' | '|' if doubled => self.chain = before,
            '/' if doubled => return Err("has a comment; put it beside the expression".to_owned()),
            '!' | '-' => {
                self.prefixes += 1;
                self.chain += 1;
            }
            '.' | '+' | '*' | '/' | '%' | '<' | '>' | '=' | '&' | '|' => self.chain += usize::from(!doubled),
            // The operator `in` is a word. Names that hold the two letters are counted with it, which does no harm.
            'i' if text.get(self.at + 1) == Some(&'n') => self.chain += 1,
            _ if character.is_control() && !matches!(character, '\n' | '\r' | '\t') => {
                return Err("holds a control character".to_owned());
            }
            _ if !character.is_ascii() => {
                return Err(format!("holds '{character}', which can only stand inside quotes"));
            }
            _ => {}
        }
        if !character.is_whitespace() && !matches!(character, '!' | '-') {
            self.prefixes = 0;
        }
        if self.open.len() + self.prefixes + self.conditionals > MAX_NESTING {
            return Err(format!("nests deeper than {MAX_NESTING}"));
        }
        if self.chain > MAX_CHAIN {
            return Err(format!("chains more than {MAX_CHAIN} operators, fields and calls"));
        }
        self.at += 1;
        Ok(())
    }
}

/// Where a string literal that begins at `start` ends: behind its closing quote. Knows raw and triple-quoted strings.
fn string_end(text: &[char], start: usize) -> Result<usize, String> {
    let quote = text[start];
    let raw = start > 0
        && matches!(text[start - 1], 'r' | 'R')
        && !text.get(start.wrapping_sub(2)).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_');
    let triple = text[start..].starts_with(&[quote; 3]);
    let mut at = start + if triple { 3 } else { 1 };
    while at < text.len() {
        match text[at] {
            '\\' if !raw => at += 1,
            '\n' | '\r' if !triple => break,
            character if character == quote => {
                if !triple {
                    return Ok(at + 1);
                }
                if text[at..].starts_with(&[quote; 3]) {
                    return Ok(at + 3);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(format!("has a string that begins with {quote} and is not closed"))
}
