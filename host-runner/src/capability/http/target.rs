//! The one reading of a request's method and address. Pure.

use http::{Method as HttpMethod, Uri};
use remit_protocol::capability::http::{HttpTarget, Method, Scheme, check_host_name, check_path};

/// Longest path with query.
const MAX_URI: usize = 8192;

/// Why a request is not even one that could be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Not a method that can be granted.
    #[error("the method {0} cannot be granted")]
    Method(String),
    /// Not an address that everybody reads in the same way.
    #[error("the address is not acceptable: {0}")]
    Uri(String),
    /// Too long.
    #[error("path and query are longer than {MAX_URI} bytes")]
    Long,
}

/// Reads method and address. There is exactly one reading: whatever two parsers could take for two things is refused.
pub fn target(method: &HttpMethod, uri: &Uri) -> Result<HttpTarget, BadTarget> {
    let bad = |why: String| BadTarget::Uri(why);
    let method = Method::parse(method.as_str())
        .ok_or_else(|| BadTarget::Method(method.as_str().chars().take(32).collect()))?;
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(bad("its scheme is neither https nor http".to_owned())),
    };
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if authority.contains('@') {
        return Err(bad("it names a user before the host".to_owned()));
    }
    let (host, port) = match authority.split_once(':') {
        None => (authority, scheme.default_port()),
        Some((host, digits)) => {
            // `parse` would take "+80" and "080" as well.
            let port = digits.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == digits);
            (host, port.ok_or_else(|| bad("its port is not a number from 1 to 65535".to_owned()))?)
        }
    };
    check_host_name(host).map_err(|error| bad(error.to_string()))?;
    if uri.path_and_query().is_some_and(|both| both.as_str().len() > MAX_URI) {
        return Err(BadTarget::Long);
    }
    check_path(uri.path()).map_err(|error| bad(error.to_string()))?;
    Ok(HttpTarget { scheme, host: host.to_owned(), port, method, path: uri.path().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_reading() {
        fn check(method: &str, uri: &str, expect: Option<&str>) {
            let found = uri
                .parse::<Uri>()
                .ok()
                .and_then(|uri| target(&HttpMethod::from_bytes(method.as_bytes()).unwrap(), &uri).ok());
            assert_eq!(found.map(|target| target.to_string()).as_deref(), expect, "{method} {uri}");
        }
        check("GET", "https://a.example/v1?q=1", Some("GET https://a.example:443/v1"));
        check("GET", "http://a.example", Some("GET http://a.example:80/"));
        check("POST", "https://a.example:8443/x", Some("POST https://a.example:8443/x"));
        for uri in [
            "https://user@a.example/",
            "https://user:pw@a.example/",
            "https://a.example./",
            "https://A.example/",
            "https://a.example:/",
            "https://a.example:0/",
            "https://a.example:080/",
            "https://a.example:+80/",
            "https://a.example:99999/",
            "https://a.example:65536/",
            "https://10.0.0.1/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:a9fe:a9fe]/",
            "https://xn--80ak6aa92e.com%00.a.example/",
            "https://münchen.example/",
            "https://a.example/v1/../admin",
            "https://a.example/v1/%2e%2e/admin",
            "https://a.example//v1",
            "https://a.example/v1/%2Fx",
            "https://a.example/v1;x/..;/y",
            "https://a.example/\\x",
            "ftp://a.example/",
            "/v1",
            "a.example:443",
            "https://a_.example:443:443/",
            "https:///v1",
            "*",
        ] {
            check("GET", uri, None);
        }
        for method in ["CONNECT", "TRACE", "get", "PROPFIND", "PRI"] {
            check(method, "https://a.example/", None);
        }
        check("GET", &format!("https://a.example/{}", "x".repeat(MAX_URI)), None);
        check("GET", &format!("https://a.example/?{}", "x".repeat(MAX_URI)), None);
    }
}
