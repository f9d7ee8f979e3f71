//! `[notify]` and `[smtp]`: how executions are made known outside.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::Faults;

/// How executions are made known outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notify {
    /// Certificate authorities that are believed beside those of the system, in PEM.
    pub ca: Option<PathBuf>,
    /// The proxy through which webhooks go out.
    pub proxy: Option<String>,
    /// The server that takes mail.
    pub smtp: Option<Smtp>,
}

/// A server that takes mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smtp {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Certificate authorities that are believed beside those of the system, in PEM.
    pub ca: Option<PathBuf>,
    /// Who sends.
    pub from: String,
    /// User, and the file with the password.
    pub login: Option<(String, PathBuf)>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS after `STARTTLS`, or nothing is sent.
    Start,
    /// TLS from the first byte.
    Whole,
    /// Not at all: without a password only.
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNotify {
    ca: Option<PathBuf>,
    proxy: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSmtp {
    host: Spanned<String>,
    port: Option<Spanned<u16>>,
    tls: Option<Spanned<String>>,
    ca: Option<PathBuf>,
    from: Spanned<String>,
    user: Option<Spanned<String>>,
    password: Option<PathBuf>,
}

/// What both sections say together.
pub(super) fn read(
    faults: &mut Faults<'_>,
    base: &Path,
    notify: Option<RawNotify>,
    smtp: Option<RawSmtp>,
) -> Notify {
    let (ca, proxy) = notify.map_or((None, None), |raw| (raw.ca, raw.proxy));
    let proxy = proxy.filter(|proxy| {
        let known = proxy.get_ref().starts_with("http://") || proxy.get_ref().starts_with("https://");
        if !known {
            let message = format!("{:?} is not the address of a proxy.", proxy.get_ref());
            faults.add(
                proxy.span(),
                "notify.proxy",
                message,
                "Write for example \"http://proxy.example:3128\".",
            );
        }
        known
    });
    Notify {
        ca: ca.map(|path| base.join(path)),
        proxy: proxy.map(Spanned::into_inner),
        smtp: smtp.and_then(|raw| self::smtp(faults, base, raw)),
    }
}

fn smtp(faults: &mut Faults<'_>, base: &Path, raw: RawSmtp) -> Option<Smtp> {
    let host = raw.host.get_ref();
    if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b)) {
        let message = format!("{host:?} is not the name of a host.");
        faults.add(raw.host.span(), "smtp.host", message, "Write for example \"mail.example.com\".");
    }
    if let Err(error) = crate::courier::check_address(raw.from.get_ref()) {
        faults.add(
            raw.from.span(),
            "smtp.from",
            format!("{error}."),
            "Write for example \"Remit <remit@example.com>\".",
        );
    }
    let tls = match raw.tls.as_ref().map(|tls| tls.get_ref().as_str()) {
        None | Some("starttls") => Some(SmtpTls::Start),
        Some("tls") => Some(SmtpTls::Whole),
        Some("none") => Some(SmtpTls::None),
        Some(other) => {
            let span = raw.tls.as_ref().map(Spanned::span).unwrap_or_default();
            let message = format!("{other:?} is no way to protect a connection.");
            faults.add(span, "smtp.tls", message, "Write \"starttls\", \"tls\" or \"none\".");
            None
        }
    };
    let login = match (raw.user, raw.password) {
        (Some(user), Some(password)) => {
            if tls == Some(SmtpTls::None) {
                let remedy = "Write tls = \"starttls\", or leave user and password out.";
                faults.add(
                    user.span(),
                    "smtp.user",
                    "A password is never sent without TLS.".to_owned(),
                    remedy,
                );
            }
            Some((user.into_inner(), base.join(password)))
        }
        (None, None) => None,
        (user, _) => {
            let span = user.map_or(raw.host.span(), |user| user.span());
            let remedy = "Write both, or none.";
            faults.add(span, "smtp.user", "`user` and `password` go together.".to_owned(), remedy);
            None
        }
    };
    let tls = tls?;
    let usual = if tls == SmtpTls::Whole {
        465
    } else if tls == SmtpTls::Start {
        587
    } else {
        25
    };
    Some(Smtp {
        host: raw.host.into_inner(),
        port: raw.port.map_or(usual, Spanned::into_inner),
        tls,
        ca: raw.ca.map(|path| base.join(path)),
        from: raw.from.into_inner(),
        login,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const BASE: &str = "[server]\nlisten = \"127.0.0.1:1\"\n[store]\nkind = \"sqlite\"\npath = \"a\"\n[blobs]\nkind = \"directory\"\n\
                        path = \"b\"\n[logs]\npath = \"c\"\n[registry]\ntrust = \"d\"\n";

    fn parsed(more: &str) -> Result<Notify, Vec<remit_protocol::endpoint::Fault>> {
        Config::parse(&format!("{BASE}{more}"), Path::new("/etc/remit")).map(|config| config.notify)
    }

    #[test]
    fn a_mail_server_has_a_port_for_each_protection() {
        fn check(tls: &str, expect: (SmtpTls, u16)) {
            let smtp = format!("[smtp]\nhost = \"mail\"\nfrom = \"Remit <r@x.example>\"\n{tls}");
            let smtp = parsed(&smtp).unwrap().smtp.unwrap();
            assert_eq!((smtp.tls, smtp.port), expect, "{tls}");
        }
        assert_eq!(parsed("").unwrap(), Notify::default());
        check("", (SmtpTls::Start, 587));
        check("tls = \"starttls\"", (SmtpTls::Start, 587));
        check("tls = \"tls\"", (SmtpTls::Whole, 465));
        check("tls = \"none\"", (SmtpTls::None, 25));
        check("port = 2525", (SmtpTls::Start, 2525));
        let more = "user = \"remit\"\npassword = \"pw\"\nca = \"ca.pem\"";
        let smtp = parsed(&format!("[smtp]\nhost = \"mail\"\nfrom = \"r@x.example\"\n{more}"))
            .unwrap()
            .smtp
            .unwrap();
        assert_eq!(smtp.login, Some(("remit".to_owned(), "/etc/remit/pw".into())));
        assert_eq!(smtp.ca, Some("/etc/remit/ca.pem".into()));
    }

    #[test]
    fn mistakes_have_a_remedy() {
        fn check(more: &str, words: &str) {
            let faults = parsed(more).unwrap_err();
            let told = format!("{} {} {}", faults[0].place, faults[0].message, faults[0].remedy);
            assert!(told.contains(words) && faults[0].line.is_some(), "{more}: {told}");
        }
        let smtp = |lines: &str| format!("[smtp]\n{lines}");
        check(&smtp("from = \"r@x.example\""), "missing field `host`");
        check(&smtp("host = \"a b\"\nfrom = \"r@x.example\""), "is not the name of a host");
        check(&smtp("host = \"mail\"\nfrom = \"remit\""), "is not a mail address");
        check(&smtp("host = \"mail\"\nfrom = \"r@x.example\"\ntls = \"ssl\""), "Write \"starttls\"");
        check(&smtp("host = \"mail\"\nfrom = \"r@x.example\"\nuser = \"u\""), "go together");
        check(&smtp("host = \"mail\"\nfrom = \"r@x.example\"\npassword = \"p\""), "go together");
        let plain = "host = \"mail\"\nfrom = \"r@x.example\"\ntls = \"none\"\nuser = \"u\"\npassword = \"p\"";
        check(&smtp(plain), "never sent without TLS");
        check(&smtp("host = \"mail\"\nfrom = \"r@x.example\"\npasword = \"p\""), "Did you mean");
        check("[notify]\nproxy = \"proxy:3128\"", "is not the address of a proxy");
    }
}
