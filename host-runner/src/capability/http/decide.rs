//! The decision: from a request as the guest made it to the one rule that permits it, or a denial. Pure.

use std::cmp::Ordering;

use http::{HeaderMap, HeaderName, header};
use remit_protocol::capability::{
    Denial, Side,
    http::{EndpointName, HttpPermit, HttpScope, HttpTarget, Scheme},
    secrets::HttpPlacement,
};

use super::sign;

/// Most header fields of one request.
const MAX_HEADERS: usize = 100;
/// Most bytes of all header fields, names and values.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Why header fields are not even ones that could be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHeaders {
    /// Too many or too long header fields.
    #[error("more than {MAX_HEADERS} header fields, or more than {MAX_HEADER_BYTES} bytes of them")]
    Many,
    /// A header field that is the host's affair.
    #[error("the header {0} is not a component's to set")]
    Forbidden(HeaderName),
}

/// Header fields that are never a component's: the connection and the name of the host belong to the runner.
pub fn is_forbidden(name: &HeaderName) -> bool {
    wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS.contains(name)
        || [header::TE, header::TRAILER, header::EXPECT].contains(name)
        || name.as_str().starts_with("proxy-")
}

/// Checks number, size and names of header fields.
pub fn headers(headers: &HeaderMap) -> Result<(), BadHeaders> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(BadHeaders::Many);
    }
    match headers.keys().find(|name| is_forbidden(name)) {
        Some(name) => Err(BadHeaders::Forbidden(name.clone())),
        None => Ok(()),
    }
}

/// The rule that permits `target`, with its index, or what is lacking.
///
/// Of several rules that match, the most specific one holds: by host, then by path. If they carry different credentials, no
/// one can say which was meant, and the request is refused.
pub fn decide<'a>(permits: &'a [HttpPermit], target: &HttpTarget) -> Result<(usize, &'a HttpPermit), Denial> {
    let matching: Vec<_> =
        permits.iter().enumerate().filter(|(_, permit)| permit.scope.matches(target)).collect();
    let Some(first) = matching.first() else { return Err(not_granted(target)) };
    let mut credentials = matching.iter().filter_map(|(_, permit)| permit.secret.as_ref());
    if let Some(one) = credentials.next()
        && let Some(other) = credentials.find(|other| *other != one)
    {
        return Err(ambiguous(target, &format!("{} and {}", one.path, other.path)));
    }
    let best = matching.iter().fold(*first, |best, next| {
        if specific(&next.1.scope, &best.1.scope, &target.path) == Ordering::Greater { *next } else { best }
    });
    let equal = |permit: &HttpPermit| specific(&permit.scope, &best.1.scope, &target.path) == Ordering::Equal;
    if matching.iter().any(|(_, permit)| equal(permit) && permit.secret != best.1.secret) {
        return Err(ambiguous(target, "a secret and none"));
    }
    Ok(best)
}

/// `Greater` if `a` is more specific than `b`; both match the same target, so one host pattern covers the other.
fn specific(a: &HttpScope, b: &HttpScope, path: &str) -> Ordering {
    let host = match (a.host.covers(&b.host), b.host.covers(&a.host)) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        _ => Ordering::Equal,
    };
    let longest = |scope: &HttpScope| {
        let matching = scope.paths.iter().filter(|prefix| prefix.matches(path));
        matching.map(|prefix| prefix.as_str().len()).max()
    };
    host.then_with(|| longest(a).cmp(&longest(b)))
}

fn not_granted(target: &HttpTarget) -> Denial {
    if let Some(name) = EndpointName::of_host(&target.host) {
        return Denial {
            permission: format!("http {target}"),
            side: Side::Grant,
            remedy: format!(
                "grant:\n  http: [{{ endpoint: {name}, methods: [{}], paths: [{:?}] }}]",
                target.method.as_str(),
                target.path
            ),
        };
    }
    let scheme = if target.scheme == Scheme::Http { "scheme: http, " } else { "" };
    Denial {
        permission: format!("http {target}"),
        side: Side::Grant,
        remedy: format!(
            "grant:\n  http: [{{ {scheme}host: {}, port: {}, methods: [{}], paths: [{:?}] }}]",
            target.host,
            target.port,
            target.method.as_str(),
            target.path
        ),
    }
}

fn ambiguous(target: &HttpTarget, credentials: &str) -> Denial {
    Denial {
        permission: format!("http {target} by rules with different credentials ({credentials})"),
        side: Side::Grant,
        remedy: "# one `http` rule for this host and path, or several with the same secret".to_owned(),
    }
}

/// How many bytes the head of a request has, as the component made it.
pub fn size(target: &HttpTarget, query: Option<&str>, headers: &HeaderMap) -> u64 {
    // Separators and line ends as HTTP/1.1 writes them.
    let line =
        target.method.as_str().len() + target.path.len() + query.map_or(0, |query| query.len() + 1) + 12;
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    u64::try_from(line + fields).unwrap_or(u64::MAX)
}

/// Names of parameters that carry credentials somewhere.
const CREDENTIALS: &[&str] = &[
    "access_token",
    "access-token",
    "api_key",
    "api-key",
    "apikey",
    "auth",
    "auth_token",
    "authorization",
    "client_secret",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
];

/// Refuses credentials that the component itself sets where the rule carries one: to overwrite them would hide a fault, and
/// two would hide an attack.
pub fn own_credentials(permit: &HttpPermit, headers: &HeaderMap, query: Option<&str>) -> Result<(), Denial> {
    let Some(placement) = permit.secret.as_ref().and_then(|secret| secret.placement.as_ref()) else {
        return Ok(());
    };
    let own = placement.headers();
    let credential = |name: &&HeaderName| {
        **name == header::AUTHORIZATION
            || **name == header::COOKIE
            || name.as_str() == "x-api-key"
            || name.as_str().starts_with("x-amz-")
            || own.contains(&name.as_str())
    };
    let denied = |what: String, remedy: String| {
        Err(Denial {
            permission: format!("{what} set by the component on {}", permit.scope),
            side: Side::Request,
            remedy: format!(
                "# remove {remedy} from the component's request: the runner adds the credential itself"
            ),
        })
    };
    if let Some(name) = headers.keys().find(credential) {
        return denied(format!("the header {name}"), name.to_string());
    }
    let bound = match placement {
        HttpPlacement::Query { name } => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    // The name as the service reads it: encoded letters are letters.
    let names = query.unwrap_or_default().split('&').map(|pair| {
        let name = sign::decoded(pair.split('=').next().unwrap_or_default());
        String::from_utf8_lossy(&name).to_ascii_lowercase()
    });
    for name in names {
        if CREDENTIALS.contains(&name.as_str()) || name.starts_with("x-amz-") || Some(&name) == bound.as_ref()
        {
            return denied(format!("the parameter {name:?}"), format!("the parameter {name:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use remit_protocol::{
        SecretName, SecretPath,
        capability::{
            http::{HttpGrant, Via},
            secrets::BoundSecret,
        },
    };

    use http::Method as HttpMethod;

    use super::*;
    use crate::capability::http::target::target;

    #[test]
    fn the_connection_is_not_the_components() {
        fn check(name: &'static str, expect: bool) {
            let map =
                HeaderMap::from_iter([(HeaderName::from_static(name), http::HeaderValue::from_static("x"))]);
            assert_eq!(headers(&map).is_ok(), expect, "{name}");
        }
        for name in [
            "host",
            "connection",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "proxy-x",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "expect",
            "http2-settings",
        ] {
            check(name, false);
        }
        for name in ["accept", "authorization", "content-type", "content-length", "x-anything"] {
            check(name, true);
        }
        let mut many = HeaderMap::new();
        for _ in 0..=MAX_HEADERS {
            many.append("x-a", http::HeaderValue::from_static("x"));
        }
        assert_eq!(headers(&many), Err(BadHeaders::Many));
        let large = http::HeaderValue::from_bytes(&vec![b'x'; MAX_HEADER_BYTES]).unwrap();
        assert_eq!(headers(&HeaderMap::from_iter([(header::ACCEPT, large)])), Err(BadHeaders::Many));
    }

    fn permit(json: serde_json::Value, secret: Option<&str>) -> HttpPermit {
        let grant: HttpGrant = serde_json::from_value(json).unwrap();
        let secret = secret.map(|path| BoundSecret {
            name: SecretName::new("token").unwrap(),
            path: SecretPath::new(path).unwrap(),
            placement: Some(HttpPlacement::Bearer),
        });
        HttpPermit {
            scope: grant.scope,
            unix: None,
            private: vec![],
            via: Via::Direct,
            ca_file: None,
            secret,
        }
    }

    fn rule(host: &str, path: &str, secret: Option<&str>) -> HttpPermit {
        permit(serde_json::json!({"host": host, "methods": ["GET", "POST"], "paths": [path]}), secret)
    }

    #[test]
    fn the_most_specific_rule_decides_and_credentials_are_never_guessed() {
        fn check(permits: &[HttpPermit], uri: &str, expect: Result<usize, &str>) {
            let target = target(&HttpMethod::GET, &uri.parse().unwrap()).unwrap();
            match (decide(permits, &target), expect) {
                (Ok((found, _)), Ok(index)) => assert_eq!(found, index, "{uri}"),
                (Err(denial), Err(part)) => assert!(denial.permission.contains(part), "{denial}"),
                (found, _) => panic!("{uri}: {found:?}, expected {expect:?}"),
            }
        }
        let (a, b) = (Some("keys/a"), Some("keys/b"));
        check(&[], "https://a.example/", Err("http GET https://a.example:443/"));
        let wild =
            [rule("**.c.example", "/", None), rule("*.c.example", "/", None), rule("a.c.example", "/", a)];
        check(&wild, "https://a.c.example/", Ok(2));
        check(&wild, "https://b.c.example/", Ok(1));
        check(&wild, "https://x.b.c.example/", Ok(0));
        check(&wild, "https://evil-c.example/", Err("http GET"));
        check(&wild, "https://c.example/", Err("http GET"));
        check(&wild, "https://a.c.example.evil/", Err("http GET"));
        let paths =
            [rule("a.example", "/", None), rule("a.example", "/v1/x", a), rule("a.example", "/v1", None)];
        check(&paths, "https://a.example/v1/x/y", Ok(1));
        check(&paths, "https://a.example/v1/xy", Ok(2));
        check(&paths, "https://a.example/v2", Ok(0));
        check(&[rule("a.example", "/v1", None)], "https://a.example/v1evil", Err("http GET"));
        let two = [rule("a.example", "/v1", a), rule("a.example", "/v1/x", b)];
        check(&two, "https://a.example/v1/x", Err("keys/a and keys/b"));
        check(&two, "https://a.example/v1/y", Ok(0));
        check(&[rule("a.example", "/", a), rule("a.example", "/", a)], "https://a.example/", Ok(0));
        check(
            &[rule("a.example", "/", None), rule("a.example", "/", a)],
            "https://a.example/",
            Err("a secret and none"),
        );
        check(&[rule("a.example", "/", None)], "http://a.example/", Err("http GET http://a.example:80/"));
        check(&[rule("a.example", "/", None)], "https://a.example:8443/", Err(":8443"));
    }

    #[test]
    fn a_denial_prints_what_would_allow_it() {
        let target =
            target(&HttpMethod::POST, &"http://a.example:8080/v1/x?secret=1".parse().unwrap()).unwrap();
        let denial = decide(&[], &target).unwrap_err();
        assert_eq!(denial.permission, "http POST http://a.example:8080/v1/x");
        assert_eq!(
            denial.remedy,
            "grant:\n  http: [{ scheme: http, host: a.example, port: 8080, methods: [POST], paths: [\"/v1/x\"] }]"
        );
    }

    #[test]
    fn an_endpoint_that_is_not_granted_is_named_in_the_denial() {
        let uri = "http://docker.endpoint.alt/v1.41/info".parse().unwrap();
        let target = target(&HttpMethod::GET, &uri).unwrap();
        let elsewhere =
            permit(serde_json::json!({"endpoint": "podman", "methods": ["GET"], "paths": ["/"]}), None);
        let denial = decide(&[elsewhere, rule("a.example", "/", None)], &target).unwrap_err();
        assert_eq!(denial.permission, "http GET http://docker.endpoint.alt:80/v1.41/info");
        assert_eq!(
            denial.remedy,
            "grant:\n  http: [{ endpoint: docker, methods: [GET], paths: [\"/v1.41/info\"] }]"
        );
    }

    #[test]
    fn a_component_brings_no_credentials_where_the_rule_has_one() {
        fn check(secret: Option<&str>, name: &'static str, expect: bool) {
            let map =
                HeaderMap::from_iter([(HeaderName::from_static(name), http::HeaderValue::from_static("x"))]);
            let rule = rule("a.example", "/", secret);
            assert_eq!(own_credentials(&rule, &map, None).is_ok(), expect, "{name}");
        }
        for name in ["authorization", "cookie", "x-api-key", "x-amz-date"] {
            check(Some("keys/a"), name, false);
            check(None, name, true);
        }
        check(Some("keys/a"), "accept", true);
        let mut own = rule("a.example", "/", Some("keys/a"));
        own.secret.as_mut().unwrap().placement = Some(HttpPlacement::Header { name: "x-token".to_owned() });
        let map =
            HeaderMap::from_iter([(HeaderName::from_static("x-token"), http::HeaderValue::from_static("x"))]);
        assert!(own_credentials(&own, &map, None).is_err());
    }

    #[test]
    fn a_component_brings_no_credentials_in_the_query() {
        fn check(placement: HttpPlacement, query: &str, expect: bool) {
            let mut permit = rule("a.example", "/", Some("keys/a"));
            permit.secret.as_mut().unwrap().placement = Some(placement);
            assert_eq!(own_credentials(&permit, &HeaderMap::new(), Some(query)).is_ok(), expect, "{query}");
        }
        for query in ["q=1", "", "page_token=2", "tokens=3", "q=token"] {
            check(HttpPlacement::Bearer, query, true);
        }
        for query in ["token=1", "q=1&API_KEY=2", "%74oken=1", "X-Amz-Signature=1", "access_token"] {
            check(HttpPlacement::Bearer, query, false);
        }
        let own = || HttpPlacement::Query { name: "Key".to_owned() };
        check(own(), "key=1", false);
        check(own(), "k%65y=1", false);
        check(own(), "keys=1", true);
    }

    #[test]
    fn the_head_is_counted() {
        let target = target(&HttpMethod::GET, &"https://a.example/v1".parse().unwrap()).unwrap();
        let none = size(&target, None, &HeaderMap::new());
        assert_eq!(size(&target, Some("q=1"), &HeaderMap::new()), none + 4);
        let one = HeaderMap::from_iter([(header::ACCEPT, http::HeaderValue::from_static("text/html"))]);
        assert_eq!(size(&target, None, &one), none + 19);
    }
}
