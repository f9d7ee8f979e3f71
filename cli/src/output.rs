//! What a command prints: a table or a text for people, JSON for programs.

use clap::ValueEnum;
use serde::Serialize;

/// `--output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document, or one a line where a command goes on.
    Json,
}

impl Output {
    /// Prints `value` as JSON, or what `text` makes of it.
    pub(crate) fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        match self {
            Self::Json => line(&serde_json::to_string(value).unwrap_or_default()),
            Self::Text => line(text(value).trim_end_matches('\n')),
        }
    }
}

/// A line on standard output; a closed pipe ends the program quietly.
pub(crate) fn line(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A line for the person, beside what programs read.
#[expect(clippy::print_stderr, reason = "progress and advice go to standard error")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Left-aligned columns with a header. Cells may come from outside: what a terminal would act on is taken out, and a cell
/// is one line.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |text: &String| harmless(text).replace(['\n', '\t'], " ");
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let format = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![format(&mut header.iter().copied())];
    lines.extend(rows.iter().map(|row| format(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Longest text from outside that is shown as one line.
const LINE: usize = 400;

/// Text from outside as one line of bounded length: it cannot begin a line that looks like one of ours.
pub(crate) fn one_line(text: &str) -> String {
    let mut shown: String = harmless(&text.chars().take(LINE + 1).collect::<String>())
        .chars()
        .map(|c| if matches!(c, '\n' | '\t') { '\u{fffd}' } else { c })
        .collect();
    if shown.chars().count() > LINE {
        shown = shown.chars().take(LINE).chain(['…']).collect();
    }
    shown
}

/// Text from outside, without anything that a terminal would act on.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            // Direction, joining, line and paragraph ends that are no control characters.
            let unseen = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
            if (c.is_control() && c != '\n' && c != '\t') || unseen { '\u{fffd}' } else { c }
        })
        .collect()
}
