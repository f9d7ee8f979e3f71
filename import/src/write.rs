//! Job files as text: maps in their order, texts in quotes, so that every reader of YAML reads the same.

use std::fmt::Write as _;

use serde_json::Value;

/// What is written.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl From<&str> for Tree {
    fn from(text: &str) -> Self {
        Self::Scalar(text.into())
    }
}

impl From<String> for Tree {
    fn from(text: String) -> Self {
        Self::Scalar(text.into())
    }
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        match value {
            Value::Array(items) => items.into_iter().map(Self::from).collect(),
            Value::Object(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
            scalar => Self::Scalar(scalar),
        }
    }
}

impl FromIterator<Tree> for Tree {
    fn from_iter<I: IntoIterator<Item = Tree>>(items: I) -> Self {
        Self::List(items.into_iter().collect())
    }
}

/// A map from pairs.
pub(crate) fn map<const N: usize>(pairs: [(&str, Tree); N]) -> Tree {
    Tree::Map(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// As YAML, from the left margin.
pub(crate) fn text(tree: &Tree) -> String {
    let mut out = String::new();
    block(&mut out, tree, 0);
    out
}

fn block(out: &mut String, tree: &Tree, indent: usize) {
    let pad = " ".repeat(indent);
    match tree {
        Tree::Scalar(value) => {
            let _ = writeln!(out, "{value}");
        }
        Tree::List(items) => {
            for item in items {
                let _ = write!(out, "{pad}-");
                entry(out, item, indent);
            }
        }
        Tree::Map(members) => {
            for (key, value) in members {
                let identifier = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                    && !matches!(
                        key.as_str(),
                        "" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "y" | "n"
                    );
                let shown = if identifier { key.clone() } else { Value::from(key.as_str()).to_string() };
                let _ = write!(out, "{pad}{shown}:");
                entry(out, value, indent);
            }
        }
    }
}

fn entry(out: &mut String, value: &Tree, indent: usize) {
    match value {
        Tree::List(items) if items.is_empty() => out.push_str(" []\n"),
        Tree::Map(members) if members.is_empty() => out.push_str(" {}\n"),
        Tree::Scalar(value) => {
            let _ = writeln!(out, " {value}");
        }
        Tree::List(_) | Tree::Map(_) => {
            out.push('\n');
            block(out, value, indent + 2);
        }
    }
}
