//! Steps over TCP: a port that is waited for, and mail through a real SMTP server.

use std::net::TcpListener;

use harness::{Authority, MailServer};

use super::{fails, succeeds};
use crate::site;

fn ceiling(port: u16, more: &str) -> String {
    format!(
        "[ceiling]\n\n[[ceiling.tcp]]\nhost = \"localhost\"\nport = {port}\nprivate = [\"127.0.0.0/8\", \"::1/128\"]\n{more}\n"
    )
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own listener")]
fn a_port_is_waited_for_and_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stack = site(folder.path(), &ceiling(port, "connect_only = true"));
    let job = |at: u16| {
        format!(
            "job: wait\nsteps:\n  - name: up\n    uses: remit/wait-for-port@1\n    \
             with: {{ host: localhost, port: {at}, every: 10ms, at_most: 1s }}\n    \
             grant: {{ tcp: [{{ host: localhost, port: {port}, connect_only: true, private: true }}] }}\n"
        )
    };
    let shown = succeeds(&stack, folder.path(), &job(port), &[]);
    assert_eq!(shown["steps"][0]["run"]["output"]["tries"], 1, "{shown:#}");
    fails(&stack, folder.path(), &job(port.wrapping_add(1).max(1)), "not allowed by this step's remit");
    drop(listener);
    fails(&stack, folder.path(), &job(port), "connection refused");
}

#[test]
fn mail_goes_through_a_relay_in_the_clear_or_after_starttls_as_the_grant_says() {
    let folder = tempfile::tempdir().unwrap();
    let (box_, tls_box) = (folder.path().join("mail"), folder.path().join("tls-mail"));
    let authority = Authority::new().unwrap();
    let (certificate, key, ca) =
        (folder.path().join("cert.pem"), folder.path().join("key.pem"), folder.path().join("ca.pem"));
    authority.write(&ca).unwrap();
    authority.write_server("localhost", &certificate, &key).unwrap();
    let plain = MailServer::start(&box_, None).unwrap();
    let encrypted = MailServer::start(&tls_box, Some((&certificate, &key))).unwrap();
    let rule = |port: u16, more: &str| {
        format!(
            "[[ceiling.tcp]]\nhost = \"localhost\"\nport = {port}\nprivate = [\"127.0.0.0/8\", \"::1/128\"]\n{more}\n\n"
        )
    };
    let rules = format!(
        "[ceiling]\n\n{}{}",
        rule(plain.port(), "tls = \"never\""),
        rule(encrypted.port(), &format!("tls = \"start\"\nca_file = {ca:?}"))
    );
    let stack = site(folder.path(), &rules);
    let job = |port: u16, start: bool, tls: &str| {
        format!(
            "job: tell\nsteps:\n  - name: tell\n    uses: remit/notify-email@1\n    with:\n      \
             relay: {{ host: localhost, port: {port}, start_tls: {start} }}\n      from: Remit <remit@a.example>\n      \
             to: [ops@a.example, dev@a.example]\n      subject: \"J\u{f6}rg's patching\"\n      text: \"it's\\n.\\ndone\"\n    \
             grant: {{ tcp: [{{ host: localhost, port: {port}, tls: {tls}, private: true }}] }}\n"
        )
    };
    succeeds(&stack, folder.path(), &job(plain.port(), false, "never"), &[]);
    succeeds(&stack, folder.path(), &job(encrypted.port(), true, "start"), &[]);
    for server in [&plain, &encrypted] {
        let mails = server.mails().unwrap();
        assert_eq!(mails.len(), 1, "{mails:?}");
        assert!(mails[0].contains("To: ops@a.example") && mails[0].contains("base64"), "{}", mails[0]);
    }
    // The server wants encryption first: what the grant does not say is not done.
    fails(&stack, folder.path(), &job(encrypted.port(), false, "start"), "refused MAIL");
    fails(&stack, folder.path(), &job(plain.port(), true, "never"), "does not offer STARTTLS");
}
