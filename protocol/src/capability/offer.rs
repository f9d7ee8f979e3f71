//! What a runner's ceiling offers, in words that may leave its host: names of programs, of files, of endpoints and of
//! hosts. Paths, addresses, arguments, users and secrets stay there.
//!
//! It is only good for telling beforehand what will be refused; what is permitted is decided on the runner, each time.

use std::collections::BTreeSet;

use super::{Ceiling, Grant, files::FilesGrant, http::HostPattern};

/// Says that the words of this module are all there: without it a runner has not told what it offers.
const TOLD: &str = "offers";
/// Most words: a ceiling with more is not told of.
pub const MAX_OFFERS: usize = 1000;

/// What `ceiling` offers; nothing at all if that is more than can be told.
pub fn offered(ceiling: &Ceiling) -> BTreeSet<String> {
    let exec = ceiling.exec.iter().map(|rule| format!("exec/{}", rule.program));
    let files = ceiling.files.iter().map(|rule| format!("files/{}", rule.name));
    let http = ceiling.http.iter().map(|rule| match rule.scope.endpoint() {
        Some(name) => format!("endpoint/{name}"),
        None => format!("http/{}:{}", rule.scope.host, rule.scope.port),
    });
    let ssh = ceiling.ssh.first().map(|_| "ssh/node".to_owned());
    let tcp = ceiling.tcp.iter().map(|rule| format!("tcp/{}:{}", rule.scope.host, rule.scope.port));
    let words: BTreeSet<String> =
        exec.chain(files).chain(http).chain(ssh).chain(tcp).chain([TOLD.to_owned()]).collect();
    if words.len() > MAX_OFFERS { BTreeSet::new() } else { words }
}

/// What `grant` needs and a runner with these features does not offer, a phrase each with the section of `runner.toml` that
/// would offer it. Nothing for a runner that has not told what it offers.
pub fn missing(grant: &Grant, features: &BTreeSet<String>) -> Vec<String> {
    if !features.contains(TOLD) {
        return Vec::new();
    }
    let mut missing = Vec::new();
    for rule in &grant.exec {
        if !features.contains(&format!("exec/{}", rule.program)) {
            missing.push(format!("the program {} ([[ceiling.exec]])", rule.program));
        }
    }
    for rule in &grant.files {
        if let FilesGrant::Named(name) = rule
            && !features.contains(&format!("files/{name}"))
        {
            missing.push(format!("the files {name} ([[ceiling.files]])"));
        }
    }
    for rule in &grant.http {
        if let Some(name) = rule.scope.endpoint() {
            if !features.contains(&format!("endpoint/{name}")) {
                missing.push(format!("the endpoint {name} ([[ceiling.http]] with endpoint = \"{name}\")"));
            }
            continue;
        }
        let (host, port) = (&rule.scope.host, rule.scope.port);
        if !features.iter().any(|word| offers(word, "http/", host, port)) {
            missing.push(format!("requests to {host}:{port} ([[ceiling.http]])"));
        }
    }
    if !grant.ssh.is_empty() && !features.contains("ssh/node") {
        missing.push("SSH to nodes ([[ceiling.ssh]])".to_owned());
    }
    for rule in &grant.tcp {
        let (host, port) = (&rule.scope.host, rule.scope.port);
        if !features.iter().any(|word| offers(word, "tcp/", host, port)) {
            missing.push(format!("connections to {host}:{port} ([[ceiling.tcp]])"));
        }
    }
    missing.sort();
    missing.dedup();
    missing
}

/// True if a word offers a host and port.
fn offers(word: &str, kind: &str, host: &HostPattern, port: u16) -> bool {
    let place = word.strip_prefix(kind).and_then(|place| place.rsplit_once(':'));
    place.is_some_and(|(own, own_port)| {
        let covers = own.parse::<HostPattern>().is_ok_and(|own| own.covers(host));
        covers && own_port == port.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ceiling_lacks_is_told_by_name() {
        fn check(grant: &str, features: &[&str], expect: &[&str]) {
            let grant: Grant = serde_json::from_str(grant).unwrap();
            let features = features.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(missing(&grant, &features), expect, "{features:?}");
        }
        let grant = r#"{"exec":[{"program":"cmdb"}],"files":[{"name":"inventory"},{"scratch":true}],
            "http":[{"host":"a.corp.example","port":8443,"methods":["GET"],"paths":["/"]}],"ssh":[{"target":"node"}]}"#;
        check(
            grant,
            &["offers", "exec/cmdb2", "http/a.corp.example:443"],
            &[
                "SSH to nodes ([[ceiling.ssh]])",
                "requests to a.corp.example:8443 ([[ceiling.http]])",
                "the files inventory ([[ceiling.files]])",
                "the program cmdb ([[ceiling.exec]])",
            ],
        );
        check(
            grant,
            &["offers", "exec/cmdb", "files/inventory", "http/*.corp.example:8443", "ssh/node"],
            &[],
        );
        check(grant, &["exec", "http"], &[]);
        let endpoint = r#"{"http":[{"endpoint":"docker","methods":["GET"],"paths":["/info"]}]}"#;
        check(endpoint, &["offers", "endpoint/docker"], &[]);
        check(
            endpoint,
            &["offers", "endpoint/podman", "http/docker.endpoint.alt:80"],
            &["the endpoint docker ([[ceiling.http]] with endpoint = \"docker\")"],
        );
        check("{}", &["offers"], &[]);
    }

    #[test]
    fn a_ceiling_is_told_by_names_only() {
        let exec = r#"{"program":"cmdb","path":"/opt/secret/cmdb","args":["--site"]}"#;
        let ceiling = Ceiling { exec: vec![serde_json::from_str(exec).unwrap()], ..Ceiling::default() };
        let words: Vec<_> = offered(&ceiling).into_iter().collect();
        assert_eq!(words, ["exec/cmdb", "offers"]);
        let socket = r#"{"endpoint":"docker","unix":"/run/hidden.sock","methods":["GET"],"paths":["/hidden"],"components":["acme/hidden"]}"#;
        let ceiling = Ceiling { http: vec![serde_json::from_str(socket).unwrap()], ..Ceiling::default() };
        assert_eq!(offered(&ceiling).into_iter().collect::<Vec<_>>(), ["endpoint/docker", "offers"]);
        let many = (0..MAX_OFFERS)
            .map(|n| serde_json::from_str(&exec.replace("cmdb\",", &format!("cmdb{n}\","))).unwrap());
        assert!(offered(&Ceiling { exec: many.collect(), ..Ceiling::default() }).is_empty());
    }
}
