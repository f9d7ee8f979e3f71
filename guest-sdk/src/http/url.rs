//! Building an address so that a value from outside can only ever be one segment of it.

use std::fmt;

use super::Error;

/// The address of a request: `https://host:port/path?query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    https: bool,
    authority: String,
    path: String,
    query: String,
    invalid: Option<String>,
}

/// Parses an address. User names, fragments and characters that do not belong into an address are refused.
pub fn url(text: impl AsRef<str>) -> Result<Url, Error> {
    let url = Url::parse(text.as_ref());
    match url.invalid {
        Some(why) => Err(Error::Url(why)),
        None => Ok(url),
    }
}

impl Url {
    fn parse(text: &str) -> Self {
        let invalid = |why: &str| Self {
            https: true,
            authority: String::new(),
            path: String::new(),
            query: String::new(),
            invalid: Some(format!("{text:?} {why}")),
        };
        let (https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return invalid("does not start with https:// or http://"),
        };
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let at = before.find('/').unwrap_or(before.len());
        let (authority, path) = before.split_at(at);
        if authority.is_empty() {
            return invalid("names no host");
        }
        if authority.contains('@') {
            return invalid("holds a user name or password: bind a secret to the rule in step.toml instead");
        }
        if text.contains('#') {
            return invalid("holds a fragment, which is never sent");
        }
        if let Some(bad) =
            text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '`'))
        {
            return invalid(&format!(
                "holds {bad:?}: write it percent-encoded, or add it with segment() or query()"
            ));
        }
        let path = if path.is_empty() { "/" } else { path };
        Self {
            https,
            authority: authority.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            invalid: None,
        }
    }

    /// This address and one more path segment, encoded. A segment that is empty, `.`, `..` or holds a slash could mean
    /// another path to the server: the request is then not sent.
    #[must_use]
    pub fn segment(&self, segment: impl AsRef<str>) -> Self {
        let segment = segment.as_ref();
        let mut longer = self.clone();
        if matches!(segment, "" | "." | "..") || segment.contains(['/', '\\', '\0']) {
            longer.invalid.get_or_insert(format!("{segment:?} cannot be a segment of a path"));
            return longer;
        }
        if !longer.path.ends_with('/') {
            longer.path.push('/');
        }
        encode(segment, &mut longer.path);
        longer
    }

    /// This address and one more query parameter, encoded.
    #[must_use]
    pub fn query(&self, name: impl AsRef<str>, value: impl fmt::Display) -> Self {
        let mut longer = self.clone();
        if !longer.query.is_empty() {
            longer.query.push('&');
        }
        encode(name.as_ref(), &mut longer.query);
        longer.query.push('=');
        encode(&value.to_string(), &mut longer.query);
        longer
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.invalid.clone().map_or(Ok(()), |why| Err(Error::Url(why)))
    }

    /// The address without its query, which may hold more than an error should repeat.
    pub(super) fn place(&self) -> String {
        format!("{}://{}{}", if self.is_https() { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path_and_query())
    }
}

impl From<&Self> for Url {
    fn from(url: &Self) -> Self {
        url.clone()
    }
}

impl From<&str> for Url {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl From<String> for Url {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<&String> for Url {
    fn from(text: &String) -> Self {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_segment_or_nothing() {
        fn check(segment: &str, expect: Option<&str>) {
            let url = url("https://a.example/v1").unwrap().segment(segment);
            assert_eq!(url.check().is_ok().then(|| url.to_string()).as_deref(), expect, "{segment:?}");
        }
        check("web", Some("https://a.example/v1/web"));
        check("a b?c#d%", Some("https://a.example/v1/a%20b%3Fc%23d%25"));
        check("ü", Some("https://a.example/v1/%C3%BC"));
        check("..", None);
        check("a/../b", None);
        check("", None);
    }

    #[test]
    fn addresses_are_parsed_strictly() {
        fn check(text: &str, expect: Result<&str, &str>) {
            let found = url(text).map(|url| url.to_string()).map_err(|error| error.to_string());
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
                (found, expect) => panic!("{text}: {found:?}, not {expect:?}"),
            }
        }
        check("https://a.example", Ok("https://a.example/"));
        check("http://a.example:8080/x?y=1", Ok("http://a.example:8080/x?y=1"));
        check("https://a.example?y=1", Ok("https://a.example/?y=1"));
        check("ftp://a.example", Err("does not start with https://"));
        check("https:///x", Err("names no host"));
        check("https://user:pw@a.example/", Err("user name or password"));
        check("https://a.example/x#y", Err("fragment"));
        check("https://a.example/a b", Err("holds ' '"));
    }

    #[test]
    fn a_query_is_encoded() {
        let url = url("https://a.example/s").unwrap().query("q", "a&b=c").query("n", 1);
        assert_eq!(url.path_and_query(), "/s?q=a%26b%3Dc&n=1");
    }
}
