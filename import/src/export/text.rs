//! Templates as texts with Rundeck's references: the other way of [`crate::command`].

use std::collections::BTreeMap;

use remit_job::template::{Piece, pieces};

use crate::command::{self, Known, Options};

/// What is known of a job's options.
pub(super) struct Context {
    /// As the import of the exported job would know them.
    pub(super) options: Options,
    /// What stands between the values of a list.
    pub(super) delimiters: BTreeMap<String, String>,
}

impl Context {
    /// The reference that an expression stands for.
    fn reference(&self, expression: &str) -> Option<String> {
        let expression = expression.trim();
        // `has(x) ? x : ''` is what an optional value becomes.
        let inner = expression
            .strip_prefix("has(")
            .and_then(|rest| rest.split_once(") ? "))
            .and_then(|(path, rest)| rest.strip_suffix(" : ''").filter(|value| value.starts_with(path)));
        let value = inner.unwrap_or(expression);
        match value {
            "project.name" => return Some("job.project".to_owned()),
            "execution.id" => return Some("job.execid".to_owned()),
            "execution.job" => return Some("job.name".to_owned()),
            _ => {}
        }
        let identifier = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if let Some(name) = value.strip_prefix("node.").filter(|name| identifier(name) && *name != "tags") {
            return Some(format!("node.{name}"));
        }
        let rest = value.strip_prefix("options.")?;
        let name = match rest.split_once(".join(") {
            Some((name, argument)) => {
                let between =
                    argument.strip_suffix(')').and_then(|text| serde_json::from_str::<String>(text).ok())?;
                Some(name).filter(|name| self.delimiters.get(*name) == Some(&between))?
            }
            None => Some(rest).filter(|name| !self.delimiters.contains_key(*name))?,
        };
        Some(name)
            .filter(|name| identifier(name) && self.options.contains_key(*name))
            .map(|name| format!("option.{name}"))
    }

    /// A template as a text with references.
    pub(super) fn text(&self, template: &str) -> Result<String, String> {
        let mut out = String::new();
        for piece in pieces(template)? {
            match piece {
                Piece::Literal(text) => out.push_str(&text),
                Piece::Expression(expression) => {
                    let reference = self.reference(expression);
                    let reference = reference.ok_or_else(|| format!("the expression `{expression}`"))?;
                    out.push_str(&format!("${{{reference}}}"));
                }
            }
        }
        // The import is the judge: what it would read differently is not written.
        match command::template(&out, &self.options) {
            Ok(again) if again == template => Ok(out),
            _ => Err(format!("the text {:?}", template.chars().take(60).collect::<String>())),
        }
    }

    /// A text in which Rundeck replaces nothing.
    pub(super) fn verbatim(&self, template: &str) -> Result<String, String> {
        let mut out = String::new();
        for piece in pieces(template)? {
            match piece {
                Piece::Literal(text) => out.push_str(&text),
                Piece::Expression(expression) => {
                    return Err(format!("the expression `{expression}` in a script"));
                }
            }
        }
        Ok(out)
    }

    /// The command of `sh -c` with its arguments as one text: `"$1"` becomes what the first argument stands for.
    pub(super) fn command(&self, script: &str, values: &[String]) -> Result<String, String> {
        let script = self.verbatim(script)?;
        let strange = || "a command whose arguments are not where Rundeck would have put them".to_owned();
        let mut out = String::new();
        let (mut quote, mut escaped, mut used) = (None, false, 0);
        let mut rest = script.as_str();
        while let Some(first) = rest.chars().next() {
            let argument = match quote {
                None => Some(format!("\"${}\"", used + 1)),
                Some('"') => Some(format!("${}", used + 1)),
                Some(_) => None,
            };
            if let (Some(argument), Some(value), false) = (argument, values.get(used), escaped)
                && let Some(behind) = rest.strip_prefix(argument.as_str())
            {
                out.push_str(&self.text(value)?);
                used += 1;
                rest = behind;
                continue;
            }
            match (quote, first) {
                _ if escaped => escaped = false,
                (None | Some('"'), '\\') => escaped = true,
                (None, '\'' | '"') => quote = Some(first),
                (Some(open), c) if open == c => quote = None,
                _ => {}
            }
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
        let again = command::shell(&out, &self.options).map_err(|_| strange())?;
        if (self.verbatim(&again.0)?, again.1.as_slice()) == (script, values) {
            Ok(out)
        } else {
            Err(strange())
        }
    }

    /// Arguments as one line.
    pub(super) fn line(&self, arguments: &[String]) -> Result<String, String> {
        let words = arguments.iter().map(|argument| self.text(argument).map(|text| word(&text)));
        Ok(words.collect::<Result<Vec<_>, _>>()?.join(" "))
    }
}

/// A word of a line, in quotes where it needs them.
pub(super) fn word(text: &str) -> String {
    let plain = !text.is_empty() && !text.starts_with(['"', '\'']) && !text.contains(|c: char| c <= ' ');
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// A list option, as the import would know it.
pub(super) fn known(name: &str, always: bool, delimiter: Option<String>) -> Known {
    Known { name: name.to_owned(), always, delimiter }
}
