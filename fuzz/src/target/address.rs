//! The address of a request: what is accepted is read in the same way by everybody.

use http::{Method, Uri};
use remit_protocol::capability::http::Scheme;
use url::Url;

use super::{Broken, Target, Verdict};
use crate::{address::target, mutate::Form};

pub(super) const TARGET: Target = Target {
    name: "address",
    form: Form::Text,
    words: &[
        "https://",
        "http://",
        "GET ",
        "POST ",
        "a.example",
        "user@",
        ":443",
        ":80",
        ":08443",
        ":99999",
        "[::1]",
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "xn--80ak6aa92e.com",
        "%2e%2e/",
        "/v1/",
        "/../",
        "?q=1",
        "#x",
        "\\",
        "//",
        ";",
        "/.;/",
        "%25",
    ],
    seeds: || {
        let seeds: Vec<Vec<u8>> = [
            "GET https://a.example/v1?q=1",
            "POST https://api.example.com:8443/v1/x/y;p=1/z",
            "GET http://a.example",
            "GET https://user:pw@a.example/",
            "GET https://a.example:080/",
            "GET https://[::1]/",
            "GET https://xn--80ak6aa92e.example/%41%20?x=%2F",
            "DELETE https://a_b.c-d.example:65535/~x/(y)/!$&'*+,=:@",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into();
        super::seeds(seeds, "address")
    },
    check,
};

fn check(input: &[u8]) -> Result<Verdict, Broken> {
    let refused = |words: String| Ok(Verdict { accepted: false, words });
    let Ok(text) = std::str::from_utf8(input) else { return refused("no text".to_owned()) };
    let (method, address) = text.split_once(' ').unwrap_or(("GET", text));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return refused("no method".to_owned()) };
    let uri: Uri = match address.parse() {
        Ok(uri) => uri,
        Err(error) => return refused(error.to_string()),
    };
    let found = match target(&method, &uri) {
        Ok(found) => found,
        Err(error) => return refused(error.to_string()),
    };
    // What the browsers' standard makes of the same text. It looks into encoded international names, which we take as the
    // resolver does, and refuses those that encode nothing.
    let encoded = found.host.split('.').any(|label| label.starts_with("xn--"));
    let url = match Url::parse(address) {
        Ok(url) => url,
        Err(error) if encoded => return refused(error.to_string()),
        Err(error) => return Err(Broken(format!("others do not read it: {error}"))),
    };
    let same = url.scheme() == found.scheme.as_str()
        && url.host_str() == Some(found.host.as_str())
        && url.port_or_known_default() == Some(found.port)
        && url.path() == found.path
        && url.username().is_empty()
        && url.password().is_none();
    Broken::unless(same, || format!("{found} is read by others as {url}"))?;
    // What somebody makes of it who only looks for the next slash.
    let rest = address.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    Broken::unless(host == found.host, || format!("{found} is read by the simple as {host}"))?;
    // What is written anew leads to the same place.
    let written = format!("{}://{}:{}{}", found.scheme.as_str(), found.host, found.port, found.path);
    let read = written.parse().ok().and_then(|uri| target(&method, &uri).ok());
    Broken::unless(read.as_ref() == Some(&found), || format!("{written} is another place than {found}"))?;
    let unwanted =
        ["..", "//", "\\", "%2e", "%2f"].iter().any(|part| found.path.to_lowercase().contains(part));
    Broken::unless(!unwanted || !found.path.split('/').any(|segment| segment == ".."), || {
        format!("{found} climbs")
    })?;
    let kind =
        (found.scheme == Scheme::Http, found.port == found.scheme.default_port(), found.path.len() > 1);
    Ok(Verdict { accepted: true, words: format!("{kind:?} {}", found.path.matches('/').count()) })
}
