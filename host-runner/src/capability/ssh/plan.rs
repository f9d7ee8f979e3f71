//! Whether and how a command may be run on a node: pure, from the permit and the node's attributes.

use std::net::IpAddr;

use remit_protocol::{
    capability::{
        Denial, Side,
        http::check_host_name,
        secrets::SecretUse,
        ssh::{SshLogin, SshPermit, SshPlace},
    },
    node::Node,
};

/// The attribute that names the machine: `host`, `host:port` or `[v6]:port`.
const HOSTNAME: &str = "hostname";
/// The attribute that names the user.
const USERNAME: &str = "username";
/// The attribute that names a host in between: `user@host` or `user@host:port`.
const BASTION: &str = "bastion";
/// The attribute that chooses the secret for it.
const BASTION_SECRET: &str = "bastion-key-storage-path";
/// The attribute that says how the node's shell wants its words quoted.
const QUOTING: &str = "shell-quoting";
/// Most bytes of a command line: what a Linux kernel takes as one argument of the shell.
const MAX_LINE: usize = 128 << 10;

/// Where to log in, as whom, with what. Addresses are judged when the name has been resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Lower-case name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The places of the ceiling that have this port and this user.
    pub places: Vec<SshPlace>,
    /// The secret that logs in.
    pub login: SshLogin,
    /// As what.
    pub usage: SecretUse,
    /// Where to log in first, to go on from there. The host is an address then.
    pub bastion: Option<Box<Self>>,
}

/// Why no command can be run on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unplanned {
    /// The node's attributes do not suffice. The text is for the guest too.
    Node(String),
    /// The remit does not allow it.
    Denied(Denial),
}

fn missing(node: &Node, attribute: &str, example: &str) -> Unplanned {
    Unplanned::Node(format!("the node {} has no usable attribute `{attribute}`: {example}", node.name))
}

fn denied(permission: String, side: Side, remedy: String) -> Unplanned {
    Unplanned::Denied(Denial { permission, side, remedy })
}

/// Host and port of a `hostname` attribute. One reading: a bare IPv6 address has no port, a port has no leading zero.
fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, None),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => 22,
        Some(digits) => digits.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == digits)?,
    };
    let host = host.to_ascii_lowercase();
    (host.parse::<IpAddr>().is_ok() || check_host_name(&host).is_ok()).then_some((host, port))
}

/// Plans a login on `node` within `permit`.
pub fn plan(permit: &SshPermit, node: &Node) -> Result<Plan, Unplanned> {
    let (host, port) = node
        .attribute(HOSTNAME)
        .and_then(address)
        .ok_or_else(|| missing(node, HOSTNAME, "write host, host:port or [address]:port"))?;
    let user = node
        .attribute(USERNAME)
        .filter(|user| !user.is_empty() && user.len() <= 255 && !user.chars().any(char::is_control))
        .ok_or_else(|| missing(node, USERNAME, "write the user to log in as"))?
        .to_owned();
    if let Some(other) = node.attribute(QUOTING).filter(|quoting| *quoting != "posix") {
        return Err(Unplanned::Node(format!(
            "the node {} wants `{QUOTING}` {other:?}; this runner quotes for POSIX shells only",
            node.name
        )));
    }
    let usage = permit.usage.unwrap_or(SecretUse::SshKey);
    let attribute = match usage {
        SecretUse::SshPassword => "ssh-password-storage-path",
        _ => "ssh-key-storage-path",
    };
    let mut plan = login_at(permit, node, (host, port, user), &[attribute])?;
    if let Some(text) = node.attribute(BASTION).filter(|text| !text.is_empty()) {
        if plan.host.parse::<IpAddr>().is_err() {
            let why =
                "write an address: only the bastion could say where a name leads, and it is not believed";
            return Err(missing(node, HOSTNAME, why));
        }
        let place = text.split_once('@').and_then(|(user, place)| {
            let (host, port) = address(place)?;
            let good = !user.is_empty() && user.len() <= 255 && !user.chars().any(char::is_control);
            good.then(|| (host, port, user.to_owned()))
        });
        let place = place.ok_or_else(|| missing(node, BASTION, "write user@host or user@host:port"))?;
        plan.bastion = Some(Box::new(login_at(permit, node, place, &[BASTION_SECRET, attribute])?));
    }
    Ok(plan)
}

/// Plans a login at one place. The first of `attributes` that the node has chooses the secret.
fn login_at(
    permit: &SshPermit,
    node: &Node,
    (host, port, user): (String, u16, String),
    attributes: &[&str],
) -> Result<Plan, Unplanned> {
    let places: Vec<_> = permit
        .places
        .iter()
        .filter(|place| place.port == port && place.users.contains(&user))
        .cloned()
        .collect();
    if places.is_empty() {
        return Err(denied(
            format!("ssh to {user}@{host}:{port}"),
            Side::Ceiling,
            format!(
                "[[ceiling.ssh]]\naddresses = [\"…/32\"]   # the address of {host}\nport = {port}\nusers = [{user:?}]\nknown_hosts = \"known_hosts\""
            ),
        ));
    }
    let (login, usage) = choose(permit, node, &user, attributes)?;
    Ok(Plan { host, port, user, places, login, usage, bastion: None })
}

/// The secret that logs in: a node's attribute chooses, but only among those that the remit lists.
fn choose(
    permit: &SshPermit,
    node: &Node,
    user: &str,
    attributes: &[&str],
) -> Result<(SshLogin, SecretUse), Unplanned> {
    let usage = permit.usage.unwrap_or(SecretUse::SshKey);
    let named = |attribute: &&&str| node.attribute(attribute).is_some();
    let attribute = attributes.iter().find(named).or(attributes.first()).copied().unwrap_or_default();
    let login = match (node.attribute(attribute), permit.secrets.as_slice()) {
        (_, []) => {
            return Err(denied(
                format!("a secret that logs in as {user}"),
                Side::Grant,
                "secrets: { key: keys/… }\ngrant:\n  ssh: [{ target: node, secret: { name: key, use: ssh-key } }]"
                    .to_owned(),
            ));
        }
        (Some(wanted), listed) => {
            listed.iter().find(|login| login.secret.path.as_str() == wanted).ok_or_else(|| {
                let paths: Vec<_> = listed.iter().map(|login| login.secret.path.as_str()).collect();
                let name = listed.first().map(|login| login.secret.name.as_str()).unwrap_or("key");
                denied(
                    format!("the secret {wanted:?}, which the node {} chooses with `{attribute}`", node.name),
                    Side::Grant,
                    format!("secrets: {{ {name}: [{}, {wanted}] }}", paths.join(", ")),
                )
            })?
        }
        (None, [only]) => only,
        (None, several) => {
            return Err(Unplanned::Node(format!(
                "the step has {} secrets to log in with, and the node {} does not choose one with `{attribute}`",
                several.len(),
                node.name
            )));
        }
    };
    if !login.users.iter().any(|named| named == user) {
        return Err(denied(
            format!("the secret {} to log in as {user}", login.secret.path),
            Side::Ceiling,
            format!(
                "[[ceiling.secrets]]\npath = \"{}\"\nuse = \"{}\"\nusers = [{user:?}]",
                login.secret.path,
                usage.as_str()
            ),
        ));
    }
    Ok((login.clone(), usage))
}

/// One line for a POSIX shell (XCU 2.2.2) in which each argument arrives as one word, whatever it holds.
///
/// # Errors
/// No program, a zero byte, or more than a kernel takes; in words for the guest.
pub fn command_line(argv: &[String]) -> Result<String, String> {
    if argv.first().is_none_or(String::is_empty) {
        return Err("no program is named".to_owned());
    }
    let mut line = String::new();
    for argument in argv {
        if argument.contains('\0') {
            return Err("an argument holds a zero byte, which no program can be given".to_owned());
        }
        if !line.is_empty() {
            line.push(' ');
        }
        quote(argument, &mut line);
    }
    if line.len() > MAX_LINE {
        return Err(format!("the quoted command line is longer than {MAX_LINE} bytes"));
    }
    Ok(line)
}

fn quote(argument: &str, line: &mut String) {
    // Without `=` and `~`, so that no word is read as an assignment or a home directory.
    let plain = |b: u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b':' | b',' | b'@' | b'%' | b'+')
    };
    if !argument.is_empty() && argument.bytes().all(plain) {
        line.push_str(argument);
        return;
    }
    line.push('\'');
    for part in argument.split_inclusive('\'') {
        match part.strip_suffix('\'') {
            Some(before) => {
                line.push_str(before);
                line.push_str("'\\''");
            }
            None => line.push_str(part),
        }
    }
    line.push('\'');
}

#[cfg(test)]
mod tests {
    use remit_protocol::{SecretName, SecretPath, capability::secrets::BoundSecret};

    use super::*;

    fn node(attributes: &[(&str, &str)]) -> Node {
        let attributes: std::collections::BTreeMap<_, _> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        serde_json::from_value(serde_json::json!({"name": "n1", "attributes": attributes})).unwrap()
    }

    fn permit(secrets: &[(&str, &str)], usage: SecretUse) -> SshPermit {
        let place = |port: u16, user: &str| SshPlace {
            addresses: vec!["10.20.0.0/16".parse().unwrap()],
            port,
            users: vec![user.to_owned()],
            known_hosts: format!("known-{port}").into(),
        };
        let login = |(path, user): &(&str, &str)| SshLogin {
            secret: BoundSecret {
                name: SecretName::new("key").unwrap(),
                path: SecretPath::new(*path).unwrap(),
                placement: None,
            },
            users: vec![(*user).to_owned()],
        };
        SshPermit {
            places: vec![place(22, "deploy"), place(2222, "deploy"), place(22, "admin")],
            usage: Some(usage),
            secrets: secrets.iter().map(login).collect(),
        }
    }

    #[test]
    fn addresses_have_one_reading() {
        fn check(text: &str, expect: Option<(&str, u16)>) {
            assert_eq!(address(text), expect.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
        check("Web1.example", Some(("web1.example", 22)));
        check("web1:2222", Some(("web1", 2222)));
        check("10.20.1.11", Some(("10.20.1.11", 22)));
        check("10.20.1.11:22", Some(("10.20.1.11", 22)));
        check("fd00::1", Some(("fd00::1", 22)));
        check("[fd00::1]:2222", Some(("fd00::1", 2222)));
        check("[fd00::1]", Some(("fd00::1", 22)));
        for bad in [
            "",
            "web1:",
            "web1:0",
            "web1:022",
            "web1:99999",
            "[web1]:22",
            "[fd00::1]22",
            "me@web1",
            "web1 x",
            "-oX",
            "web1.",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn a_login_needs_place_user_and_a_listed_secret() {
        let check =
            |secrets: &[(&str, &str)], usage: SecretUse, attributes: &[(&str, &str)], expect: &str| {
                let found = match plan(&permit(secrets, usage), &node(attributes)) {
                    Ok(plan) => format!(
                        "{}@{}:{} {} {}",
                        plan.user,
                        plan.host,
                        plan.port,
                        plan.login.secret.path,
                        plan.places.len()
                    ),
                    Err(Unplanned::Node(text)) => text,
                    Err(Unplanned::Denied(denial)) => denial.to_string(),
                };
                assert!(found.contains(expect), "{attributes:?}: {found}");
            };
        let (key, password) = (SecretUse::SshKey, SecretUse::SshPassword);
        let one: &[(&str, &str)] = &[("keys/a", "deploy")];
        let two: &[(&str, &str)] = &[("keys/a", "deploy"), ("keys/b", "admin")];
        let web: &[(&str, &str)] = &[("hostname", "web1"), ("username", "deploy")];
        check(one, key, web, "deploy@web1:22 keys/a 1");
        check(one, key, &[("username", "deploy")], "no usable attribute `hostname`");
        check(one, key, &[("hostname", "web1")], "no usable attribute `username`");
        check(
            one,
            key,
            &[("hostname", "web1:23"), ("username", "deploy")],
            "ssh to deploy@web1:23 is not allowed",
        );
        check(one, key, &[("hostname", "web1"), ("username", "root")], "users = [\"root\"]");
        check(
            one,
            key,
            &[("hostname", "web1"), ("username", "admin")],
            "keys/a to log in as admin is not allowed",
        );
        check(&[], key, web, "a secret that logs in as deploy is not allowed");
        check(two, key, web, "does not choose one with `ssh-key-storage-path`");
        let with = |name: &'static str, value: &'static str| [web, &[(name, value)]].concat();
        check(two, key, &with("ssh-key-storage-path", "keys/a"), "deploy@web1:22 keys/a");
        check(two, key, &with("ssh-key-storage-path", "keys/b"), "keys/b to log in as deploy is not allowed");
        check(
            two,
            key,
            &with("ssh-key-storage-path", "keys/c"),
            "secrets: { key: [keys/a, keys/b, keys/c] }",
        );
        check(one, key, &with("ssh-key-storage-path", "keys/c"), "which the node n1 chooses");
        check(one, password, &with("ssh-password-storage-path", "keys/c"), "which the node n1 chooses");
        check(one, password, &with("ssh-key-storage-path", "keys/c"), "deploy@web1:22 keys/a");
        check(one, key, &with("shell-quoting", "posix"), "deploy@web1:22");
        check(one, key, &with("shell-quoting", "powershell"), "POSIX shells only");
    }

    #[test]
    fn a_bastion_is_a_login_of_its_own() {
        let secrets: &[(&str, &str)] = &[("keys/a", "deploy"), ("keys/b", "admin")];
        let check = |attributes: &[(&str, &str)], expect: &str| {
            let own = [("username", "deploy"), ("ssh-key-storage-path", "keys/a")];
            let all = [attributes, &own].concat();
            let found = match plan(&permit(secrets, SecretUse::SshKey), &node(&all)) {
                Ok(Plan { bastion: Some(hop), host, .. }) => {
                    format!("{}@{}:{} {} then {host}", hop.user, hop.host, hop.port, hop.login.secret.path)
                }
                Ok(_) => "direct".to_owned(),
                Err(Unplanned::Node(text)) => text,
                Err(Unplanned::Denied(denial)) => denial.to_string(),
            };
            assert!(found.contains(expect), "{attributes:?}: {found}");
        };
        let address = ("hostname", "10.20.1.5");
        check(&[address], "direct");
        check(&[address, ("bastion", "")], "direct");
        check(
            &[address, ("bastion", "deploy@jump.example:2222")],
            "deploy@jump.example:2222 keys/a then 10.20.1.5",
        );
        check(
            &[address, ("bastion", "admin@jump.example"), ("bastion-key-storage-path", "keys/b")],
            "admin@jump.example:22 keys/b then 10.20.1.5",
        );
        check(&[address, ("bastion", "admin@jump.example")], "keys/a to log in as admin is not allowed");
        check(&[address, ("bastion", "root@jump.example")], "ssh to root@jump.example:22 is not allowed");
        check(&[address, ("bastion", "jump.example")], "no usable attribute `bastion`");
        check(&[("hostname", "web1"), ("bastion", "deploy@jump.example")], "only the bastion could say");
    }

    #[test]
    fn each_argument_is_one_word() {
        fn check(argv: &[&str], expect: &str) {
            let argv: Vec<_> = argv.iter().map(|argument| (*argument).to_owned()).collect();
            assert_eq!(command_line(&argv).unwrap_or_else(|error| error), expect);
        }
        check(&["uname", "-a"], "uname -a");
        check(
            &["echo", "a b", "", "it's", "$(id)", "`id`", "a\nb", "*"],
            "echo 'a b' '' 'it'\\''s' '$(id)' '`id`' 'a\nb' '*'",
        );
        check(&["A=b", "~root", "''"], "'A=b' '~root' ''\\'''\\'''");
        check(&[], "no program is named");
        check(&["", "x"], "no program is named");
        check(&["x", "a\0b"], "an argument holds a zero byte, which no program can be given");
        check(&["x", &"y".repeat(MAX_LINE)], "the quoted command line is longer than 131072 bytes");
    }
}
