//! Nodes: what their attributes meant to Rundeck and do not mean here, and values that must not travel.

use std::collections::BTreeMap;

use remit_protocol::node::Node;

use crate::job::{Kind, Notice};

/// What becomes of an attribute.
struct Meaning {
    /// Attributes that begin with this.
    prefix: &'static str,
    /// What to say; nothing if it means the same here.
    message: Option<&'static str>,
}

const fn same(prefix: &'static str) -> Meaning {
    Meaning { prefix, message: None }
}

const fn other(prefix: &'static str, message: &'static str) -> Meaning {
    Meaning { prefix, message: Some(message) }
}

/// The first that fits holds.
const MEANINGS: &[Meaning] = &[
    same("ssh-key-storage-path"),
    same("ssh-password-storage-path"),
    other(
        "ssh-key-passphrase",
        "a key with a passphrase cannot be used: store it without one, where the runner can read it",
    ),
    other(
        "ssh-keypath",
        "names a file on Rundeck's server: store the key as a secret, and write `ssh-key-storage-path`",
    ),
    other("ssh-key-resource", "names a resource of Rundeck's server: store the key as a secret"),
    other("ssh-password-option", "no option holds a secret: write `ssh-password-storage-path`"),
    other(
        "ssh-authentication",
        "the step's secret says how it logs in: `use: ssh-key` or `use: ssh-password`",
    ),
    other("ssh-agent", "there is no agent: the runner logs in with the secret itself"),
    other("ssh-config-", "options of the SSH client have no counterpart"),
    other("ssh-connection-timeout", "the time to connect is fixed; a step has `timeout`"),
    other("ssh-connect-timeout", "the time to connect is fixed; a step has `timeout`"),
    other("ssh-command-timeout", "write `timeout` at the step"),
    other("sudo", "a password for sudo is a matter of the step that runs the command"),
    other("winrm", "Windows is reached by a step for WinRM, with its own secret"),
    other("node-executor", "which step reaches a node is written in the job, not at the node"),
    other("local-node-executor", "which step reaches a node is written in the job, not at the node"),
    other("file-copier", "which step copies files is written in the job, not at the node"),
    other("local-file-copier", "which step copies files is written in the job, not at the node"),
    other("script-exec", "programs on the runner's host are listed by its owner in `[[ceiling.exec]]`"),
    other("script-copy", "programs on the runner's host are listed by its owner in `[[ceiling.exec]]`"),
    other("file-copy-destination-dir", "a script is run from a temporary file on the node"),
];

/// True if the attribute holds a secret itself, rather than naming one.
fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let speaks = ["password", "passphrase", "secret", "token", "private-key", "api-key", "apikey"]
        .iter()
        .any(|word| name.contains(word));
    let names_one =
        ["-option", "-path", "-enabled", "-pattern", "-prompt"].iter().any(|end| name.ends_with(end));
    (speaks && !names_one && !value.starts_with("keys/") && !value.is_empty())
        || value.contains("PRIVATE KEY-----")
}

/// Takes secrets out of the nodes, and says what attributes no longer mean. A place is an attribute, with the number of
/// nodes that have it.
pub fn nodes(nodes: &mut [Node]) -> Vec<Notice> {
    let mut found: BTreeMap<(String, Kind), (usize, &'static str)> = BTreeMap::new();
    let mut count = |name: &str, kind: Kind, message: &'static str| {
        found.entry((name.to_owned(), kind)).or_insert((0, message)).0 += 1;
    };
    for node in nodes {
        node.attributes.retain(|name, value| {
            let secret = is_secret(name, value);
            if secret {
                count(
                    name,
                    Kind::Lost,
                    "holds a secret, which does not travel: store it where the runner can read it",
                );
            }
            !secret
        });
        for name in node.attributes.keys() {
            let known = MEANINGS.iter().find(|meaning| name.starts_with(meaning.prefix));
            if let Some(message) = known.and_then(|meaning| meaning.message) {
                count(name, Kind::Differs, message);
            }
        }
    }
    let notice = |((name, kind), (number, message)): ((String, Kind), (usize, &str))| {
        let nodes = if number == 1 { "1 node".to_owned() } else { format!("{number} nodes") };
        Notice { kind, place: format!("{name} of {nodes}"), message: message.to_owned() }
    };
    found.into_iter().map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_travel_and_lost_meanings_are_told() {
        let node = |name: &str, attributes: &[(&str, &str)]| Node {
            name: name.parse().unwrap(),
            tags: Default::default(),
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        let mut all = [
            node(
                "a",
                &[
                    ("hostname", "h"),
                    ("winrm-password", "hunter2"),
                    ("sudo-password-storage-path", "keys/p"),
                    ("note", "-----BEGIN RSA PRIVATE KEY-----"),
                ],
            ),
            node(
                "b",
                &[
                    ("node-executor", "jsch-ssh"),
                    ("ssh-key-storage-path", "keys/k"),
                    ("ssh-password-option", "option.pw"),
                ],
            ),
            node("c", &[("node-executor", "jsch-ssh"), ("rack", "r1")]),
        ];
        let notices = nodes(&mut all);
        let found: Vec<_> = notices.iter().map(|notice| (notice.kind, notice.place.as_str())).collect();
        assert_eq!(
            found,
            [
                (Kind::Differs, "node-executor of 2 nodes"),
                (Kind::Lost, "note of 1 node"),
                (Kind::Differs, "ssh-password-option of 1 node"),
                (Kind::Differs, "sudo-password-storage-path of 1 node"),
                (Kind::Lost, "winrm-password of 1 node"),
            ]
        );
        assert!(!format!("{all:?}{notices:?}").contains("hunter2"));
        assert_eq!(all[1].attribute("ssh-key-storage-path"), Some("keys/k"));
    }
}
