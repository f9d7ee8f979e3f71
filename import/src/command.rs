//! Commands and references: `${option.x}` becomes an argument of the shell, so that a value is never read as code.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is known of an option of the job.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Its name here.
    pub(crate) name: String,
    /// It always has a value.
    pub(crate) always: bool,
    /// It is a list; this stood between its values.
    pub(crate) delimiter: Option<String>,
}

impl Known {
    /// Its value as one text.
    fn expression(&self) -> String {
        let path = format!("options.{}", self.name);
        let value = match &self.delimiter {
            Some(between) => format!("{path}.join({})", Value::from(between.as_str())),
            None => path.clone(),
        };
        if self.always { value } else { format!("has({path}) ? {value} : ''") }
    }
}

/// The options of a job by the name that they had.
pub(crate) type Options = BTreeMap<String, Known>;

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a str),
    Reference(&'a str),
}

/// `${…}` counts if there is a dot and no blank in it; `${HOME}` is the shell's own.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        let inside =
            text[start + 2..].split(|c: char| c == '}' || c.is_whitespace()).next().unwrap_or_default();
        let end = start + 2 + inside.len();
        if text[end..].starts_with('}') && inside.contains('.') {
            pieces.push(Piece::Literal(&text[from..start]));
            pieces.push(Piece::Reference(inside));
            from = end + 1;
        }
        at = if text[end..].starts_with('}') { end + 1 } else { end };
    }
    pieces.push(Piece::Literal(&text[from..]));
    pieces
}

/// The expression that a reference becomes.
pub(crate) fn expression(reference: &str, options: &Options) -> Result<String, String> {
    let optional = |path: String| format!("has({path}) ? {path} : ''");
    let identifier = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    match reference.split_once('.') {
        Some(("option", name)) => match options.get(name) {
            Some(known) => Ok(known.expression()),
            None => Err(format!("`${{{reference}}}` names no option that was imported")),
        },
        Some(("node", "name")) => Ok("node.name".to_owned()),
        Some(("node", name)) if identifier(name) && name != "tags" => Ok(optional(format!("node.{name}"))),
        Some(("job", "project")) => Ok("project.name".to_owned()),
        Some(("job", "execid")) => Ok("execution.id".to_owned()),
        Some(("job", "name")) => Ok("execution.job".to_owned()),
        _ => Err(format!("`${{{reference}}}` has no counterpart")),
    }
}

/// Text for a template: nothing in it is an expression.
fn literal(text: &str) -> Result<String, String> {
    if text.contains("$${") {
        return Err("`$${` cannot be told from an escaped reference".to_owned());
    }
    Ok(text.replace("${", "$${"))
}

/// A text whose references become expressions of a template.
pub(crate) fn template(text: &str, options: &Options) -> Result<String, String> {
    let mut out = String::new();
    for piece in pieces(text) {
        match piece {
            Piece::Literal(text) => out.push_str(&literal(text)?),
            Piece::Reference(reference) => {
                out.push_str(&format!("${{{}}}", expression(reference, options)?));
            }
        }
    }
    Ok(out)
}

/// A text in which nothing may be replaced.
pub(crate) fn verbatim(text: &str) -> Result<String, String> {
    literal(text)
}

/// A command for `sh -c`: references become `$1`, `$2`, … with the templates of their values beside it.
///
/// Fails where the quotes around a reference cannot be told with certainty.
pub(crate) fn shell(text: &str, options: &Options) -> Result<(String, Vec<String>), String> {
    let pieces = pieces(text);
    let nested = ["$(", "`", "<<", "#"].iter().find(|mark| text.contains(**mark));
    if let (Some(mark), true) = (nested, pieces.len() > 1) {
        return Err(format!("a reference stands in a command with `{mark}`: its quoting cannot be told"));
    }
    let (mut out, mut values) = (String::new(), Vec::new());
    let mut quote = None;
    for piece in pieces {
        match piece {
            Piece::Literal(text) => {
                let mut escaped = false;
                for c in text.chars() {
                    match (quote, c) {
                        _ if escaped => escaped = false,
                        (None | Some('"'), '\\') => escaped = true,
                        (None, '\'' | '"') => quote = Some(c),
                        (Some(open), c) if open == c => quote = None,
                        _ => {}
                    }
                }
                if escaped {
                    return Err("a backslash stands before a reference".to_owned());
                }
                out.push_str(&literal(text)?);
            }
            Piece::Reference(reference) => {
                values.push(format!("${{{}}}", expression(reference, options)?));
                let number = values.len();
                if number > 9 {
                    return Err("more than nine references stand in one command".to_owned());
                }
                out.push_str(&match quote {
                    None => format!("\"${number}\""),
                    Some('"') => format!("${number}"),
                    Some(_) => format!("'\"${number}\"'"),
                });
            }
        }
    }
    Ok((out, values))
}

/// Arguments as Rundeck takes a line of them apart: a quote counts only where a word begins, and doubled it is itself.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut characters = line.chars().peekable();
    while let Some(first) = characters.next() {
        if first <= ' ' {
            continue;
        }
        let quote = matches!(first, '\'' | '"').then_some(first);
        let mut word = String::new();
        let mut inside = quote.is_some();
        if quote.is_none() {
            word.push(first);
        }
        while let Some(&next) = characters.peek() {
            if next <= ' ' && !inside {
                break;
            }
            characters.next();
            if Some(next) != quote {
                word.push(next);
            } else if inside && characters.peek() == Some(&next) {
                characters.next();
                word.push(next);
            } else {
                inside = !inside;
            }
        }
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let known = |name: &str, always| Known { name: name.to_owned(), always, delimiter: None };
        let list = Known { delimiter: Some(";".to_owned()), ..known("all", true) };
        let all = [("who", known("who", true)), ("my-x", known("my_x", false)), ("all", list)];
        all.map(|(name, known)| (name.to_owned(), known)).into()
    }

    #[test]
    fn references_become_arguments() {
        fn check(text: &str, expect: &str, values: &[&str]) {
            let values = values.iter().map(|v| (*v).to_owned()).collect();
            assert_eq!(shell(text, &options()), Ok((expect.to_owned(), values)), "{text}");
        }
        check("uptime", "uptime", &[]);
        check("echo ${option.who}", "echo \"$1\"", &["${options.who}"]);
        check("echo \"hi ${option.who}\"", "echo \"hi $1\"", &["${options.who}"]);
        check("echo 'hi ${option.who}'", "echo 'hi '\"$1\"''", &["${options.who}"]);
        check("echo \"it's ${option.who}\"", "echo \"it's $1\"", &["${options.who}"]);
        check("ls ${HOME}", "ls $${HOME}", &[]);
        check("${option.my-x}", "\"$1\"", &["${has(options.my_x) ? options.my_x : ''}"]);
        check("${option.all}", "\"$1\"", &["${options.all.join(\";\")}"]);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        for text in
            ["echo ${option.no}", "echo $(ls ${option.who})", "${data.x}", "\\${option.who}", "$${x.y}"]
        {
            assert!(shell(text, &options()).is_err(), "{text}");
        }
    }

    #[test]
    fn words_follow_the_quoting_rules() {
        fn check(line: &str, expect: &[&str]) {
            assert_eq!(words(line), expect, "{line}");
        }
        check("-a  b", &["-a", "b"]);
        check("'it''s' x", &["it's", "x"]);
        check("name:\"a b\"", &["name:\"a", "b\""]);
        check("\"a b\"c", &["a bc"]);
        check("\"\"", &[""]);
    }
}
