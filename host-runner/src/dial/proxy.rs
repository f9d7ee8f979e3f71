//! An HTTP proxy on the way out: `CONNECT`, by RFC 9110 §9.3.6, with basic authentication where the address holds it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Largest answer to `CONNECT`: pages that explain a refusal come after it and are not read.
const MAX_ANSWER: usize = 16 << 10;

/// A proxy's address and, maybe, credentials. Not printable.
pub struct Proxy {
    host: String,
    port: u16,
    /// `user:password` in base64.
    basic: Option<Zeroizing<String>>,
}

/// Why the proxy does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The text is no address of a proxy. It may hold a password and is not repeated.
    #[error("not a proxy's address: write http://host:port or http://user:password@host:port")]
    Invalid,
    /// A rule says `via = "proxy"`, and there is none.
    #[error(
        "the rule goes through the proxy, and runner.toml names none: add `proxy = \"http://host:port\"` to [orchestrator]"
    )]
    Absent,
    /// An address where a name belongs: the proxy would go wherever it leads.
    #[error("{0} is an address; through a proxy only names are called")]
    Literal(String),
    /// It said no.
    #[error("the proxy {proxy} refuses to connect to {target}: it answers {status}")]
    Refused {
        /// The proxy.
        proxy: String,
        /// Where to.
        target: String,
        /// The status that it answered.
        status: u16,
    },
    /// It wants to know who asks.
    #[error("the proxy {proxy} wants credentials, and {} (it answers 407)", if *.given { "refuses the ones in its address" } else { "its address holds none" })]
    Credentials {
        /// The proxy.
        proxy: String,
        /// Whether its address holds credentials.
        given: bool,
    },
    /// It broke off or speaks something else.
    #[error("the proxy {proxy} does not answer as a proxy: {why}")]
    Broken {
        /// The proxy.
        proxy: String,
        /// What happened.
        why: String,
    },
}

impl Proxy {
    /// Parses `http://host:port` or `http://user:password@host:port`; user and password may be percent-encoded.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let rest = text.strip_prefix("http://").ok_or(ProxyError::Invalid)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let (host, port) = authority.rsplit_once(':').ok_or(ProxyError::Invalid)?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ProxyError::Invalid)?;
        if host.is_empty() || !host.chars().all(good) {
            return Err(ProxyError::Invalid);
        }
        let basic = match user {
            Some(user) => Some(Zeroizing::new(STANDARD.encode(decoded(user)?.as_slice()))),
            None => None,
        };
        Ok(Self { host: host.to_ascii_lowercase(), port, basic })
    }

    /// Its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks it, over a fresh connection, for a tunnel to `host:port`.
    ///
    /// # Errors
    /// It refuses, or does not speak as a proxy does.
    pub async fn connect<S>(&self, stream: &mut S, host: &str, port: u16) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let proxy = || format!("{}:{}", self.host, self.port);
        let broken = |why: String| ProxyError::Broken { proxy: proxy(), why };
        let mut request =
            Zeroizing::new(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"));
        if let Some(basic) = &self.basic {
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(basic);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| broken(error.to_string()))?;
        // One byte at a time: what follows the blank line belongs to the tunnel.
        let mut answer = Vec::with_capacity(256);
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == MAX_ANSWER {
                return Err(broken(format!("its answer is longer than {MAX_ANSWER} bytes")));
            }
            answer.push(stream.read_u8().await.map_err(|error| broken(error.to_string()))?);
        }
        match status(&answer) {
            Some(200..=299) => Ok(()),
            Some(407) => Err(ProxyError::Credentials { proxy: proxy(), given: self.basic.is_some() }),
            Some(status) => {
                Err(ProxyError::Refused { proxy: proxy(), target: format!("{host}:{port}"), status })
            }
            None => Err(broken("its answer does not begin with a status line".to_owned())),
        }
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, after) = rest.split_at_checked(3)?;
    let separated = matches!(after.first(), Some(b' ' | b'\r'));
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| separated)
}

fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, ProxyError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%' {
            let (digits, after) = after.split_at_checked(2).ok_or(ProxyError::Invalid)?;
            let decoded =
                data_encoding::HEXLOWER_PERMISSIVE.decode(digits).map_err(|_| ProxyError::Invalid)?;
            bytes.extend(decoded);
            rest = after;
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    if bytes.contains(&b':') { Ok(bytes) } else { Err(ProxyError::Invalid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        fn check(text: &str, expect: Option<(&str, u16, Option<&str>)>) {
            let found = Proxy::parse(text).ok();
            let found = found
                .as_ref()
                .map(|proxy| (proxy.host(), proxy.port(), proxy.basic.as_ref().map(|b| b.as_str())));
            assert_eq!(found, expect, "{text}");
        }
        check("http://proxy.corp.example:3128", Some(("proxy.corp.example", 3128, None)));
        check("http://Proxy:3128/", Some(("proxy", 3128, None)));
        check("http://[::1]:3128", Some(("::1", 3128, None)));
        check("http://me:p%40ss@proxy:3128", Some(("proxy", 3128, Some("bWU6cEBzcw=="))));
        for bad in [
            "proxy:3128",
            "https://proxy:3128",
            "http://proxy",
            "http://proxy:0",
            "http://proxy:x",
            "http://:1",
            "http://me@proxy:1",
            "http://me:%zz@proxy:1",
            "http://a b:1",
            "http://a/b:1",
        ] {
            check(bad, None);
        }
    }

    #[tokio::test]
    async fn answers_are_read_to_the_blank_line_and_not_further() {
        async fn check(answer: &'static str, expect: Result<&str, &str>) {
            let proxy = Proxy::parse("http://me:pw@proxy:3128").ok().unwrap();
            let (mut near, mut far) = tokio::io::duplex(64 << 10);
            far.write_all(answer.as_bytes()).await.unwrap();
            let found = proxy.connect(&mut near, "a.example", 443).await;
            let mut request = vec![0; 512];
            let length = far.read(&mut request).await.unwrap();
            request.truncate(length);
            drop(far);
            let text = String::from_utf8(request).unwrap();
            assert_eq!(
                text,
                "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n"
            );
            let mut rest = String::new();
            near.read_to_string(&mut rest).await.unwrap();
            match (found, expect) {
                (Ok(()), Ok(tail)) => assert_eq!(rest, tail),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expect) => panic!("{answer}: {found:?}, expected {expect:?}"),
            }
        }
        check("HTTP/1.1 200 Connection established\r\n\r\ntunnel", Ok("tunnel")).await;
        check("HTTP/1.0 200\r\nX: y\r\n\r\n", Ok("")).await;
        check("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Err("refuses the ones")).await;
        check("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!", Err("answers 403")).await;
        check("SSH-2.0-x\r\n\r\n", Err("status line")).await;
        check("HTTP/1.1 2000\r\n\r\n", Err("status line")).await;
    }
}
