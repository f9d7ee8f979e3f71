//! A mail as it goes over the wire (RFC 5322, with RFC 2045 and RFC 2047 for what is not ASCII).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Longest line of encoded text.
const LINE: usize = 76;
/// Bytes of an encoded word before it is encoded.
const WORD: usize = 42;

/// An address: `Name <local@domain>`, or only the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    name: String,
    mail: String,
}

impl Address {
    /// Reads one; none for any other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (name, mail) = match text.strip_suffix('>') {
            Some(rest) => rest.split_once('<')?,
            None => ("", text),
        };
        let (local, domain) = mail.rsplit_once('@')?;
        let plain = |b: u8| {
            b.is_ascii_graphic()
                && !matches!(b, b'<' | b'>' | b'"' | b'(' | b')' | b',' | b';' | b':' | b'\\' | b'@')
        };
        let good = !local.is_empty() && !domain.is_empty() && mail.len() <= 254;
        let fits = good && local.bytes().all(plain) && domain.bytes().all(plain);
        let name = name.trim().trim_matches('"');
        (fits && !name.chars().any(char::is_control))
            .then(|| Self { name: name.to_owned(), mail: mail.to_owned() })
    }

    /// The address alone.
    pub(crate) fn mail(&self) -> &str {
        &self.mail
    }

    fn header(&self) -> String {
        if self.name.is_empty() {
            self.mail.clone()
        } else {
            format!("{} <{}>", words(&self.name), self.mail)
        }
    }
}

/// A text in a header: encoded where it is not plain, in words that each hold whole characters.
fn words(text: &str) -> String {
    let plain = |b: u8| {
        b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_' | b'.' | b'/' | b':' | b'+' | b'#')
    };
    if text.len() <= 60 && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut pieces = vec![String::new()];
    for letter in text.chars() {
        if pieces.last().is_some_and(|piece| piece.len() + letter.len_utf8() > WORD) {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(letter);
        }
    }
    let encoded = pieces.iter().map(|piece| format!("=?utf-8?B?{}?=", STANDARD.encode(piece)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

/// What a mail is made of.
pub(crate) struct Mail<'a> {
    pub(crate) from: &'a Address,
    pub(crate) to: &'a [Address],
    pub(crate) subject: &'a str,
    pub(crate) text: &'a str,
    pub(crate) id: &'a str,
    /// Since the beginning of 1970.
    pub(crate) now: Duration,
}

impl Mail<'_> {
    /// The mail, with the lines' ends as they are on the wire. The text is encoded, so that no line of it is a lone dot.
    pub(crate) fn to_text(&self) -> String {
        let to: Vec<_> = self.to.iter().map(Address::header).collect();
        let body = STANDARD.encode(self.text);
        let lines: Vec<&str> =
            body.as_bytes().chunks(LINE).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
        format!(
            "From: {}\r\nTo: {}\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{}>\r\nMIME-Version: 1.0\r\n\
             Auto-Submitted: auto-generated\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
            self.from.header(),
            to.join(",\r\n "),
            words(self.subject),
            date(self.now),
            self.id,
            lines.join("\r\n")
        )
    }
}

/// A time after RFC 5322, in UTC.
fn date(since_1970: Duration) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = since_1970.as_secs();
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    // Days since the beginning of March of the year 0, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let name = |names: &[&'static str], at: u64| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or_default()
    };
    format!(
        "{}, {day} {} {year} {:02}:{:02}:{:02} +0000",
        name(&DAYS, days % 7),
        name(&MONTHS, month),
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        fn check(text: &str, expect: Option<&str>) {
            assert_eq!(Address::parse(text).map(|address| address.header()).as_deref(), expect, "{text:?}");
        }
        check("ops@a.example", Some("ops@a.example"));
        check(" Ops Team <ops@a.example>", Some("Ops Team <ops@a.example>"));
        check("J\u{f6}rg <j@a.example>", Some("=?utf-8?B?SsO2cmc=?= <j@a.example>"));
        for bad in ["", "a", "@a", "a@", "a b@c", "a@b\r\nBcc: c@d", "<a@b", "a@b>c", "x\ny <a@b>", "a@b,c@d"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn headers_hold_one_line_each_and_the_text_is_encoded() {
        let from = Address::parse("r@a.example").unwrap();
        let to = [Address::parse("o@a.example").unwrap(), Address::parse("p@a.example").unwrap()];
        let subject = "\u{1f600}".repeat(20);
        let mail = Mail {
            from: &from,
            to: &to,
            subject: &subject,
            text: ".\r\nBcc: x@y\n",
            id: "k@a.example",
            now: Duration::from_secs(1_790_000_000),
        };
        let text = mail.to_text();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("To: o@a.example,\r\n p@a.example\r\n"), "{head}");
        assert!(head.contains("Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n"), "{head}");
        assert!(text.split("\r\n").all(|line| line.len() <= 78 && !line.contains('\n')), "{text}");
        assert_eq!(STANDARD.decode(body.trim()).unwrap(), b".\r\nBcc: x@y\n");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        fn check(seconds: u64, expect: &str) {
            assert_eq!(date(Duration::from_secs(seconds)), expect);
        }
        check(0, "Thu, 1 Jan 1970 00:00:00 +0000");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000");
        check(1_704_067_199, "Sun, 31 Dec 2023 23:59:59 +0000");
    }
}
