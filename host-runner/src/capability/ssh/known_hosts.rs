//! Is this host key known? Files in OpenSSH's format (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), hashed names included.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use sha1::Sha1;

/// What a file says about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The key stands there for this host.
    Known,
    /// Nothing stands there for this host, or only keys of other kinds.
    Unknown,
    /// Another key of the same kind stands there for this host, in this line.
    Changed(usize),
    /// The key is revoked, in this line.
    Revoked(usize),
}

struct Line<'a> {
    number: usize,
    marker: Option<&'a str>,
    key: PublicKey,
}

/// The lines for a host, in the form in which OpenSSH looks a host up: `name`, or `[name]:port` for another port than 22.
fn lines<'a>(file: &'a str, host: &str, port: u16) -> impl Iterator<Item = Line<'a>> {
    let wanted = lookup_name(host, port);
    file.lines().zip(1..).filter_map(move |(line, number)| {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().filter(|word| !word.starts_with('#'))?;
        let (marker, hosts) =
            if first.starts_with('@') { (Some(first), words.next()?) } else { (None, first) };
        let text = format!("{} {}", words.next()?, words.next()?);
        if !matches(hosts, &wanted) {
            return None;
        }
        // A key of a kind that we do not know cannot be the one in question.
        PublicKey::from_openssh(&text).ok().map(|key| Line { number, marker, key })
    })
}

fn lookup_name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// A comma-separated list of patterns with `*`, `?` and `!`, or one hashed name.
fn matches(hosts: &str, wanted: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return hashed.split_once('|').is_some_and(|(salt, hash)| {
            let decoded = BASE64.decode(salt.as_bytes()).ok().zip(BASE64.decode(hash.as_bytes()).ok());
            decoded.is_some_and(|(salt, hash)| {
                Hmac::<Sha1>::new_from_slice(&salt)
                    .is_ok_and(|mac| mac.chain_update(wanted.as_bytes()).verify_slice(&hash).is_ok())
            })
        });
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if glob(negated.as_bytes(), wanted.as_bytes()) => return false,
            Some(_) => {}
            None => found |= glob(pattern.as_bytes(), wanted.as_bytes()),
        }
    }
    found
}

/// `*` and `?`, without case; in time linear in pattern times text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, matched)) => {
                    p = at + 1;
                    t = matched + 1;
                    star = Some((at, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// What `file` says about `key` as the key of `host` at `port`. Certificates and their authorities are not supported: such
/// lines say nothing.
pub fn verify(file: &str, host: &str, port: u16, key: &PublicKey) -> Verdict {
    let mut verdict = Verdict::Unknown;
    for line in lines(file, host, port) {
        let same = line.key.key_data() == key.key_data();
        match line.marker {
            Some("@revoked") if same => return Verdict::Revoked(line.number),
            Some(_) => {}
            None if same => verdict = Verdict::Known,
            None if line.key.algorithm() == key.algorithm() && verdict == Verdict::Unknown => {
                verdict = Verdict::Changed(line.number);
            }
            None => {}
        }
    }
    verdict
}

/// The kinds of keys that stand in `file` for the host, so that the server is asked for one of them.
pub fn algorithms(file: &str, host: &str, port: u16) -> Vec<Algorithm> {
    let mut found: Vec<Algorithm> = Vec::new();
    for line in lines(file, host, port).filter(|line| line.marker.is_none()) {
        let kinds = match line.key.algorithm() {
            // SHA-1 is not offered.
            Algorithm::Rsa { .. } => vec![
                Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
                Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
            ],
            other => vec![other],
        };
        for kind in kinds {
            if !found.contains(&kind) {
                found.push(kind);
            }
        }
    }
    found
}

/// The line that would make `key` known.
pub fn line(host: &str, port: u16, key: &PublicKey) -> String {
    let text = key.to_openssh().unwrap_or_default();
    let mut words = text.split_ascii_whitespace();
    format!(
        "{} {} {}",
        lookup_name(host, port),
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
    const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    #[test]
    fn files_are_read_as_openssh_reads_them() {
        let check = |file: &str, host: &str, port: u16, expect: Verdict| {
            let file = file.replace("ONE", ONE).replace("TWO", TWO).replace("P256", P256);
            assert_eq!(verify(&file, host, port, &key(ONE)), expect, "{file} {host} {port}");
        };
        check("", "web1", 22, Verdict::Unknown);
        check("web1 ONE", "web1", 22, Verdict::Known);
        check("# web1 ONE", "web1", 22, Verdict::Unknown);
        check("web1 ONE comment here", "web1", 22, Verdict::Known);
        check("  web1\tONE", "web1", 22, Verdict::Known);
        check("web1 ONE", "web1", 2222, Verdict::Unknown);
        check("[web1]:2222 ONE", "web1", 2222, Verdict::Known);
        check("[web1]:2222 ONE", "web1", 22, Verdict::Unknown);
        check("web1,10.0.0.1 ONE", "10.0.0.1", 22, Verdict::Known);
        check("*.example ONE", "web1.example", 22, Verdict::Known);
        check("WEB? ONE", "web1", 22, Verdict::Known);
        check("*.example,!web1.example ONE", "web1.example", 22, Verdict::Unknown);
        check("*.example,!web1.example ONE", "web2.example", 22, Verdict::Known);
        check("web1 TWO", "web1", 22, Verdict::Changed(1));
        check("x ONE\nweb1 TWO\nweb1 ONE", "web1", 22, Verdict::Known);
        check("web1 P256", "web1", 22, Verdict::Unknown);
        check("web1 ONE\n@revoked * ONE", "web1", 22, Verdict::Revoked(2));
        check("@revoked web1 TWO\nweb1 ONE", "web1", 22, Verdict::Known);
        check("@cert-authority web1 ONE", "web1", 22, Verdict::Unknown);
        check("web1 ssh-ed25519 not-base64\nweb1", "web1", 22, Verdict::Unknown);
    }

    #[test]
    fn hashed_names_are_found() {
        let salt = [7; 20];
        let hashed = |name: &str| {
            let mac = Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update(name.as_bytes()).finalize();
            format!("|1|{}|{} {ONE}", BASE64.encode(&salt), BASE64.encode(&mac.into_bytes()))
        };
        assert_eq!(verify(&hashed("web1"), "web1", 22, &key(ONE)), Verdict::Known);
        assert_eq!(verify(&hashed("web1"), "web2", 22, &key(ONE)), Verdict::Unknown);
        assert_eq!(verify(&hashed("[web1]:2222"), "web1", 2222, &key(ONE)), Verdict::Known);
        assert_eq!(verify(&hashed("web1"), "web1", 22, &key(TWO)), Verdict::Changed(1));
        assert_eq!(verify("|1|x|y z", "web1", 22, &key(ONE)), Verdict::Unknown);
    }

    #[test]
    fn the_printed_line_makes_a_key_known() {
        for (host, port) in [("web1", 22), ("fd00::1", 22), ("web1", 2222)] {
            let line = line(host, port, &key(ONE));
            assert_eq!(verify(&line, host, port, &key(ONE)), Verdict::Known, "{line}");
        }
        let file = format!("web1 {P256}\nweb1 {ONE}\n");
        let kinds: Vec<_> = algorithms(&file, "web1", 22).iter().map(ToString::to_string).collect();
        assert_eq!(kinds, ["ecdsa-sha2-nistp256", "ssh-ed25519"]);
    }
}
