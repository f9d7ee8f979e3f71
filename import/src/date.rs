//! Formats of dates: those of Java and of moment.js, as the letters that options here have.

use remit_job::date::DateFormat;

/// Whose letters a format is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Letters {
    /// `SimpleDateFormat`: `yyyy-MM-dd`, text in `'…'`.
    Java,
    /// moment.js: `YYYY-MM-DD`, text in `[…]`.
    Moment,
}

const JAVA: &[(&str, &str)] = &[
    ("yyyy", "%Y"),
    ("YYYY", "%Y"),
    ("yy", "%y"),
    ("MMMM", "%B"),
    ("MMM", "%b"),
    ("MM", "%m"),
    ("dd", "%d"),
    ("DDD", "%j"),
    ("HH", "%H"),
    ("mm", "%M"),
    ("ss", "%S"),
    ("EEEE", "%A"),
    ("EEE", "%a"),
];

const MOMENT: &[(&str, &str)] = &[
    ("YYYY", "%Y"),
    ("YY", "%y"),
    ("MMMM", "%B"),
    ("MMM", "%b"),
    ("MM", "%m"),
    ("DDDD", "%j"),
    ("DD", "%d"),
    ("HH", "%H"),
    ("mm", "%M"),
    ("ss", "%S"),
    ("dddd", "%A"),
    ("ddd", "%a"),
];

/// The format in `%` letters; `None` if a letter of it has no counterpart.
pub(crate) fn format(text: &str, letters: Letters) -> Option<DateFormat> {
    let (table, open, close) = match letters {
        Letters::Java => (JAVA, '\'', '\''),
        Letters::Moment => (MOMENT, '[', ']'),
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == open {
            let inside = &rest[1..];
            let end = inside.find(close)?;
            // Two quotes of Java are one of text.
            out.push_str(&if end == 0 && open == close {
                "'".to_owned()
            } else {
                inside[..end].replace('%', "%%")
            });
            rest = &inside[end + 1..];
        } else if first.is_ascii_alphabetic() {
            let run = rest.len() - rest.trim_start_matches(first).len();
            let (_, letter) = table.iter().find(|(word, _)| *word == &rest[..run])?;
            out.push_str(letter);
            rest = &rest[run..];
        } else {
            out.push_str(if first == '%' { "%%" } else { &rest[..first.len_utf8()] });
            rest = &rest[first.len_utf8()..];
        }
    }
    DateFormat::new(&out).ok()
}

/// The other way: as moment.js writes it.
pub(crate) fn moment(format: &DateFormat) -> Option<String> {
    let mut out = String::new();
    let mut characters = format.as_str().chars();
    let mut literal = String::new();
    let flush = |literal: &mut String, out: &mut String| {
        if literal.chars().any(|c| c.is_ascii_alphabetic()) {
            out.push_str(&format!("[{literal}]"));
        } else {
            out.push_str(literal);
        }
        literal.clear();
    };
    while let Some(character) = characters.next() {
        if character != '%' {
            literal.push(character);
            continue;
        }
        let letter = characters.next()?;
        let words: &[&str] = match letter {
            '%' => {
                literal.push('%');
                continue;
            }
            'F' => &["YYYY", "-", "MM", "-", "DD"],
            'T' => &["HH", ":", "mm", ":", "ss"],
            _ => {
                let own = format!("%{letter}");
                flush(&mut literal, &mut out);
                out.push_str(MOMENT.iter().find(|(_, known)| *known == own)?.0);
                continue;
            }
        };
        flush(&mut literal, &mut out);
        out.push_str(&words.concat());
    }
    flush(&mut literal, &mut out);
    Some(out)
}

/// A default with `${DATE:…}` as a template; `None` if something else in it is computed.
pub(crate) fn default(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = inside.find('}')?;
        let (shift, java) = inside[..end].strip_prefix("DATE")?.split_once(':')?;
        let format = format(java, Letters::Java)?;
        let quoted = format.as_str().replace('\\', "\\\\").replace('\'', "\\'");
        match shift {
            "" => out.push_str(&format!("${{date('{quoted}')}}")),
            days => {
                let number: i32 = days.parse().ok().filter(|_| days.starts_with(['+', '-']))?;
                out.push_str(&format!("${{date('{quoted}', '{number}d')}}"));
            }
        }
        rest = &inside[end + 1..];
    }
    out.push_str(rest);
    (!out.contains("$${")).then_some(out)
}

/// The other way: a template with `date(…)` as Rundeck computes it; `None` if it cannot.
pub(crate) fn rundeck(template: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find("${date('") {
        out.push_str(&rest[..at]);
        let inside = &rest[at + "${date('".len()..];
        let (format, behind) = inside.split_once('\'')?;
        let format = java(&DateFormat::new(format).ok()?)?;
        let (shift, behind) = match behind.strip_prefix(")}") {
            Some(behind) => (String::new(), behind),
            None => {
                let (days, behind) = behind.strip_prefix(", '")?.split_once("d')}")?;
                (format!("{:+}", days.parse::<i32>().ok()?), behind)
            }
        };
        out.push_str(&format!("${{DATE{shift}:{format}}}"));
        rest = behind;
    }
    out.push_str(rest);
    // The import is the judge.
    (default(&out).as_deref() == Some(template)).then_some(out)
}

/// A format in the letters of Java.
fn java(format: &DateFormat) -> Option<String> {
    let mut out = String::new();
    let mut characters = format.as_str().chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => {
                let own = format!("%{}", characters.next()?);
                out.push_str(JAVA.iter().find(|(_, known)| *known == own)?.0);
            }
            letter if letter.is_ascii_alphabetic() => out.push_str(&format!("'{letter}'")),
            '\'' => out.push_str("''"),
            other => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_the_same_letters() {
        fn check(text: &str, letters: Letters, expect: Option<&str>) {
            let found = format(text, letters);
            assert_eq!(found.as_ref().map(DateFormat::as_str), expect, "{text}");
        }
        check("yyyy-MM-dd", Letters::Java, Some("%Y-%m-%d"));
        check("yyyyMMdd'T'HHmm", Letters::Java, Some("%Y%m%dT%H%M"));
        check("yyyy''MM", Letters::Java, Some("%Y'%m"));
        check("yyyy-M-d", Letters::Java, None);
        check("hh:mm a", Letters::Java, None);
        check("MM/DD/YYYY HH:mm", Letters::Moment, Some("%m/%d/%Y %H:%M"));
        check("YYYY [at] HH", Letters::Moment, Some("%Y at %H"));
        check("YYYY [at", Letters::Moment, None);
        check("x", Letters::Moment, None);
        for text in ["MM/DD/YYYY HH:mm", "YYYY[ at ]HH", "DD MMM YYYY", "100%YYYY"] {
            assert_eq!(format(text, Letters::Moment).and_then(|found| moment(&found)).as_deref(), Some(text));
        }
    }

    #[test]
    fn defaults_with_dates_are_templates() {
        fn check(text: &str, expect: Option<&str>) {
            assert_eq!(default(text).as_deref(), expect, "{text}");
        }
        check("plain", Some("plain"));
        check("b-${DATE:yyyyMMdd}", Some("b-${date('%Y%m%d')}"));
        check("${DATE-1:yyyy}-${DATE+2:yyyy}", Some("${date('%Y', '-1d')}-${date('%Y', '2d')}"));
        check("${DATE:nonsense}", None);
        check("${option.x}", None);
        check("${DATE", None);
        for text in
            ["plain", "b-${DATE:yyyyMMdd}", "${DATE-1:yyyy}-${DATE+2:yyyy 'at' HH}", "${DATE:yyyy.MM.dd}"]
        {
            let again = default(text).and_then(|template| rundeck(&template)).and_then(|text| default(&text));
            assert_eq!(again, default(text), "{text}");
        }
    }
}
