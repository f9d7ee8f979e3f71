//! What the built-in Kubernetes components share: addresses of resources, pages of lists, and the words of errors, after the
//! Kubernetes API conventions.
//!
//! *Must not know:* credentials; the runner adds them to requests that match the rule to which they are bound.

use std::fmt;

use remit_sdk::{
    Fail,
    http::{self, Request, Response, Url},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

mod logs;
mod object;
mod rollout;

pub use logs::Lines;
pub use object::{InvalidObject, Object};
pub use rollout::{Rollout, rollout};

/// Largest answer that is held.
const MAX_ANSWER: usize = 32 << 20;
/// Entries of one page of a list.
const PAGE: usize = 250;
/// Most pages of one list.
const MAX_PAGES: usize = 1000;

/// An API server.
#[derive(Debug, Clone)]
pub struct Cluster {
    base: Url,
}

/// Where the resources of a kind are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// `/api/v1` or `/apis/GROUP/VERSION`, as segments.
    prefix: Vec<String>,
    /// Its name in addresses, such as `deployments`.
    plural: String,
    /// Whether it stands in a namespace.
    pub namespaced: bool,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ResourceEntry>,
}

#[derive(Deserialize)]
struct ResourceEntry {
    name: String,
    kind: String,
    namespaced: bool,
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: PageMetadata,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    more: String,
}

/// `/api/v1` or `/apis/GROUP/VERSION` as segments.
fn prefix(api_version: &str) -> Vec<String> {
    match api_version.split_once('/') {
        Some((group, version)) => vec!["apis".to_owned(), group.to_owned(), version.to_owned()],
        None => vec!["api".to_owned(), api_version.to_owned()],
    }
}

impl Resource {
    /// A resource whose place is known.
    pub fn known(api_version: &str, plural: &str, namespaced: bool) -> Self {
        Self { prefix: prefix(api_version), plural: plural.to_owned(), namespaced }
    }
}

impl Cluster {
    /// The API server at this address.
    ///
    /// # Errors
    /// An address that cannot be called.
    pub fn new(url: &str) -> Result<Self, Fail> {
        Ok(Self { base: http::url(url)? })
    }

    fn under<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        segments.into_iter().fold(self.base.clone(), |url, segment| url.segment(segment))
    }

    /// The address of a collection, or of one object of it, or of a part of that object.
    pub fn address(&self, resource: &Resource, namespace: Option<&str>, rest: &[&str]) -> Url {
        let place = namespace.filter(|_| resource.namespaced).map(|name| ["namespaces", name]);
        let prefix = resource.prefix.iter().map(String::as_str);
        let place = place.into_iter().flatten();
        self.under(prefix.chain(place).chain([resource.plural.as_str()]).chain(rest.iter().copied()))
    }

    /// Asks the server where the resources of a kind are found.
    ///
    /// # Errors
    /// The server's, and a kind that it does not know.
    pub fn resource(&self, api_version: &str, kind: &str) -> Result<Resource, Fail> {
        let prefix = prefix(api_version);
        let url = self.under(prefix.iter().map(String::as_str));
        let list: ResourceList = send(http::get(url))?.json()?;
        // A part of a resource, such as `deployments/scale`, has a slash.
        let found = list.resources.into_iter().find(|entry| entry.kind == kind && !entry.name.contains('/'));
        let entry = found.ok_or_else(|| Fail::new(format!("the server knows no {kind} in {api_version}")))?;
        Ok(Resource { prefix, plural: entry.name, namespaced: entry.namespaced })
    }

    /// Hands over every entry of a list, page by page.
    ///
    /// # Errors
    /// The server's; what `each` gives.
    pub fn list<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        selectors: &[(&str, Option<&str>)],
        mut each: impl FnMut(T) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        let mut more = String::new();
        for _ in 0..MAX_PAGES {
            let mut url = self.address(resource, namespace, &[]).query("limit", PAGE);
            for (name, value) in selectors {
                if let Some(value) = value {
                    url = url.query(name, value);
                }
            }
            if !more.is_empty() {
                url = url.query("continue", &more);
            }
            let page: Page<T> = send(http::get(url))?.json()?;
            page.items.into_iter().try_for_each(&mut each)?;
            if page.metadata.more.is_empty() {
                return Ok(());
            }
            more = page.metadata.more;
        }
        Err(Fail::new(format!("the list has more than {MAX_PAGES} pages: narrow it with a selector")))
    }
}

/// Sends a request; an error of the server is given in its own words.
///
/// # Errors
/// What kept the request from being sent or answered; an answer of 400 or more.
pub fn send(request: Request) -> Result<Response, Fail> {
    let answer = request.header("accept", "application/json").max_body(MAX_ANSWER).send()?;
    if answer.status() < 400 {
        return Ok(answer);
    }
    Err(Refused::read(answer).into())
}

/// Sends a request; gives none where the server knows no such object.
///
/// # Errors
/// As [`send`].
pub fn find(request: Request) -> Result<Option<Value>, Fail> {
    let answer = request.header("accept", "application/json").max_body(MAX_ANSWER).send()?;
    match answer.status() {
        404 => Ok(None),
        status if status < 400 => Ok(Some(answer.json()?)),
        _ => Err(Refused::read(answer).into()),
    }
}

/// An answer of 400 or more: mostly a `Status` object of `meta/v1`.
#[derive(Debug)]
struct Refused {
    status: u16,
    reason: String,
    message: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
}

impl Refused {
    fn read(mut answer: Response) -> Self {
        let status = answer.status();
        let mut body = Vec::new();
        while body.len() < 64 << 10 {
            match answer.chunk() {
                Ok(Some(bytes)) => body.extend(bytes),
                Ok(None) | Err(_) => break,
            }
        }
        let Status { message, reason } = serde_json::from_slice(&body).unwrap_or_default();
        let text = if message.is_empty() { String::from_utf8_lossy(&body).into_owned() } else { message };
        Self { status, reason, message: text.trim().chars().take(500).collect() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cluster refuses: {}", self.message)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        Ok(())
    }
}

impl From<Refused> for Fail {
    fn from(refused: Refused) -> Self {
        Self::new(refused.to_string()).with("status", refused.status)
    }
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Answer, Fake};
    use serde_json::json;

    use super::*;

    const URL: &str = "https://k8s.example:6443";

    #[test]
    fn resources_have_addresses() {
        fn check(resource: &Resource, namespace: Option<&str>, rest: &[&str], expect: &str) {
            let found = Cluster::new(URL).unwrap().address(resource, namespace, rest);
            assert_eq!(found.to_string(), format!("{URL}{expect}"));
        }
        let deployments = Resource::known("apps/v1", "deployments", true);
        check(&Resource::known("v1", "nodes", false), Some("x"), &[], "/api/v1/nodes");
        check(&Resource::known("v1", "pods", true), None, &[], "/api/v1/pods");
        check(
            &deployments,
            Some("shop"),
            &["web", "scale"],
            "/apis/apps/v1/namespaces/shop/deployments/web/scale",
        );
    }

    #[test]
    fn a_kind_is_looked_up() {
        let list = json!({"kind": "APIResourceList", "resources": [
            {"name": "deployments/scale", "kind": "Deployment", "namespaced": true},
            {"name": "deployments", "kind": "Deployment", "namespaced": true},
        ]});
        let url = format!("{URL}/apis/apps/v1");
        let fake = || Fake::new().http("GET", &url, Answer::json(&list));
        let found = fake().run(|_| Cluster::new(URL)?.resource("apps/v1", "Deployment")).result;
        assert_eq!(found.unwrap(), Resource::known("apps/v1", "deployments", true));
        let found = fake().run(|_| Cluster::new(URL)?.resource("apps/v1", "Daemon")).result;
        assert_eq!(found.unwrap_err().message(), "the server knows no Daemon in apps/v1");
    }

    #[test]
    fn lists_are_read_to_their_end() {
        let page = |more: &str, items: &[u32]| {
            Answer::json(&json!({"metadata": {"continue": more}, "items": items}))
        };
        let first = format!("{URL}/api/v1/nodes?limit=250&labelSelector=a%3Db");
        let run = Fake::new()
            .http("GET", &first, page("t/1", &[1, 2]))
            .http("GET", &format!("{first}&continue=t%2F1"), page("", &[3]))
            .run(|_| {
                let mut found = Vec::new();
                let selectors = [("labelSelector", Some("a=b")), ("fieldSelector", None)];
                let nodes = Resource::known("v1", "nodes", false);
                Cluster::new(URL)?.list(&nodes, None, &selectors, |item: u32| {
                    found.push(item);
                    Ok(())
                })?;
                Ok::<_, Fail>(found)
            });
        assert_eq!(run.result.unwrap(), [1, 2, 3]);
    }

    #[test]
    fn errors_have_the_servers_words() {
        fn check(answer: Answer, expect: &str) {
            let run = Fake::new().http("GET", URL, answer).run(|_| send(http::get(URL)).map(drop));
            assert_eq!(run.result.unwrap_err().to_string(), expect);
        }
        let status = json!({"kind": "Status", "status": "Failure", "message": "pods is forbidden", "reason": "Forbidden", "code": 403});
        check(
            Answer::status(403).body(status.to_string()),
            "the cluster refuses: pods is forbidden (Forbidden) (status = 403)",
        );
        check(Answer::status(502).body("bad gateway\n"), "the cluster refuses: bad gateway (status = 502)");
        let found = Fake::new().http("GET", URL, Answer::status(404)).run(|_| find(http::get(URL)));
        assert_eq!(found.result.unwrap(), None);
    }
}
