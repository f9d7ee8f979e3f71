//! `grant`: what a step may do. A rule is literal, or refers to the component's request by `id` and narrows it.

use std::collections::BTreeSet;

use remit_protocol::capability::{
    exec::ExecGrant,
    files::FilesGrant,
    http::{HttpGrant, Method, PathPrefix},
    secrets::Reveal,
    ssh::SshGrant,
    tcp::TcpGrant,
};
use serde::de::DeserializeOwned;

use super::reader::Reader;
use crate::yaml::{Node, Tree};

/// A grant as it is written.
#[derive(Debug, Clone, Default)]
pub struct GrantSource {
    /// HTTP requests.
    pub http: Vec<HttpRule>,
    /// Programs.
    pub exec: Vec<ExecGrant>,
    /// SSH commands.
    pub ssh: Vec<SshGrant>,
    /// Scratch directory and named paths.
    pub files: Vec<FilesGrant>,
    /// TCP connections.
    pub tcp: Vec<TcpGrant>,
    /// Secrets whose value the component itself may see.
    pub reveal: Vec<Reveal>,
}

/// An HTTP rule as it is written.
#[derive(Debug, Clone)]
pub enum HttpRule {
    /// The component's request of this `id`, or a part of it.
    Named {
        /// The request's `id`.
        id: String,
        /// Only these methods.
        methods: Option<BTreeSet<Method>>,
        /// Only these paths.
        paths: Option<BTreeSet<PathPrefix>>,
    },
    /// Exactly this.
    Literal(HttpGrant),
}

pub(super) fn read(reader: &mut Reader, node: &Node, place: &str) -> Option<GrantSource> {
    let limits = match &node.value {
        Tree::Map(members) => members.iter().any(|member| member.key == "limits"),
        _ => false,
    };
    let keys: &[&str] = &["http", "exec", "ssh", "tcp", "files", "reveal"];
    let fields = if limits {
        // People look for them here, because the compiled grant has them.
        reader.fault(
            &format!("{place}.limits"),
            "limits do not stand in `grant`",
            "write `limits:` beside `grant:`",
        );
        let with_limits: Vec<_> = keys.iter().copied().chain(["limits"]).collect();
        reader.map(node, place, &with_limits)?
    } else {
        reader.map(node, place, keys)?
    };
    let at = |key: &str| format!("{place}.{key}");
    let mut grant = GrantSource::default();
    if let Some(node) = fields.get("http") {
        let place = at("http");
        for (index, item) in reader.list(node, &place).iter().enumerate() {
            grant.http.extend(http(reader, item, &format!("{place}[{index}]")));
        }
    }
    if let Some(node) = fields.get("exec") {
        let remedy = "write `{ program: ansible-playbook, args: [...] }`";
        grant.exec = rules(
            reader,
            node,
            &at("exec"),
            &["program", "args", "secret"],
            &["name", "env", "file"],
            remedy,
        );
    }
    if let Some(node) = fields.get("ssh") {
        let remedy = "write `{ target: node, secret: { name: key, use: ssh-key } }`";
        grant.ssh = rules(reader, node, &at("ssh"), &["target", "secret"], &["name", "use"], remedy);
    }
    if let Some(node) = fields.get("tcp") {
        let remedy = "write `{ host: db.example.com, port: 5432, tls: start }`";
        let keys = &["host", "port", "tls", "connect_only", "private", "secret"];
        grant.tcp = rules(reader, node, &at("tcp"), keys, &["name", "use"], remedy);
    }
    if let Some(node) = fields.get("files") {
        let remedy = "write `{ scratch: true }`, `{ artifacts: true }`, `{ name: inventory }` or `{ option: archive }`";
        grant.files = rules(
            reader,
            node,
            &at("files"),
            &["scratch", "artifacts", "path", "name", "mode", "option"],
            &[],
            remedy,
        );
    }
    if let Some(node) = fields.get("reveal") {
        grant.reveal = rules(reader, node, &at("reveal"), &["name"], &[], "write `{ name: token }`");
    }
    Some(grant)
}

/// A list of rules in the protocol's own form, after their keys are checked.
fn rules<T: DeserializeOwned>(
    reader: &mut Reader,
    node: &Node,
    place: &str,
    keys: &[&str],
    secret_keys: &[&str],
    remedy: &str,
) -> Vec<T> {
    let mut rules = Vec::new();
    for (index, item) in reader.list(node, place).iter().enumerate() {
        let place = format!("{place}[{index}]");
        if keys_fit(reader, item, &place, keys, secret_keys) {
            rules.extend(reader.value_as(item, &place, remedy));
        }
    }
    rules
}

fn keys_fit(reader: &mut Reader, item: &Node, place: &str, keys: &[&str], secret_keys: &[&str]) -> bool {
    let before = reader.faults.len();
    if let Some(fields) = reader.map(item, place, keys)
        && let Some(secret) = fields.get("secret")
    {
        reader.map(secret, &format!("{place}.secret"), secret_keys);
    }
    reader.faults.len() == before
}

fn http(reader: &mut Reader, item: &Node, place: &str) -> Option<HttpRule> {
    let named = match &item.value {
        Tree::Map(members) => members.iter().find(|member| member.key == "id"),
        _ => None,
    };
    let Some(id) = named else {
        let keys = &["id", "endpoint", "scheme", "host", "port", "methods", "paths", "private", "secret"];
        if !keys_fit(reader, item, place, keys, &["name", "use", "header", "user"]) {
            return None;
        }
        let remedy = "write `{ host: api.example.com, methods: [GET], paths: [/v1] }`, or `{ id: … }` of the component's request";
        return reader.value_as(item, place, remedy).map(HttpRule::Literal);
    };
    let fields = reader.map(item, place, &["id", "methods", "paths"])?;
    let id = reader.text(&id.node, &format!("{place}.id"));
    let methods = fields.get("methods").map(|node| {
        reader.value_as::<BTreeSet<Method>>(node, &format!("{place}.methods"), "write a list: [GET, POST]")
    });
    let paths = fields.get("paths").map(|node| {
        reader.value_as::<BTreeSet<PathPrefix>>(node, &format!("{place}.paths"), "write a list: [/v1]")
    });
    let absent = |list: &Option<Option<BTreeSet<_>>>| matches!(list, Some(Some(set)) if set.is_empty());
    if absent(&methods) || matches!(&paths, Some(Some(set)) if set.is_empty()) {
        reader.fault(place, "an empty list would allow nothing", "remove the key, or list something");
        return None;
    }
    Some(HttpRule::Named {
        id: id?,
        methods: match methods {
            Some(methods) => Some(methods?),
            None => None,
        },
        paths: match paths {
            Some(paths) => Some(paths?),
            None => None,
        },
    })
}
