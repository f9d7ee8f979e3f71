//! Steps over TCP: a port that is waited for, and mail through a real SMTP server.

use std::net::TcpListener;

use harness::{Authority, MailServer};

use super::{fails, secret, succeeds};
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

#[test]
fn a_relay_is_proved_a_password_that_nobody_is_shown() {
    const PASSWORD: &str = "a-password-of-the-relay";
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let (certificate, key, ca) =
        (folder.path().join("cert.pem"), folder.path().join("key.pem"), folder.path().join("ca.pem"));
    authority.write(&ca).unwrap();
    authority.write_server("localhost", &certificate, &key).unwrap();
    let place = folder.path().join("mail");
    let relay = MailServer::guarded(&place, (&certificate, &key), "remit", PASSWORD).unwrap();
    let port = relay.port();
    let provider = secret(folder.path(), "mail", PASSWORD);
    secret(folder.path(), "wrong", "another-password-of-the-relay");
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.tcp]]\nhost = \"localhost\"\nport = {port}\ntls = \"start\"\nprivate = [\"127.0.0.0/8\", \"::1/128\"]\nca_file = {ca:?}\n\n\
         [[ceiling.secrets]]\npath = \"keys/test/mail\"\nuse = \"scram-sha-256\"\nhosts = [\"localhost:{port}\"]\n\n\
         [[ceiling.secrets]]\npath = \"keys/test/wrong\"\nuse = \"scram-sha-256\"\nhosts = [\"localhost:{port}\"]\n\n{provider}"
    );
    let stack = site(folder.path(), &ceiling);
    let job = |user: &str, secrets: &str| {
        format!(
            "job: tell\nsteps:\n  - name: tell\n    uses: remit/notify-email@1\n    with:\n      \
             relay: {{ host: localhost, port: {port}, start_tls: true{user} }}\n      from: remit@a.example\n      \
             to: [ops@a.example]\n      subject: done\n      text: done\n{secrets}    \
             grant: {{ tcp: [{{ host: localhost, port: {port}, tls: start, private: true }}] }}\n"
        )
    };
    let bound = |name: &str| format!("    secrets: {{ password: keys/test/{name} }}\n");
    succeeds(&stack, folder.path(), &job(", user: remit", &bound("mail")), &[]);
    assert_eq!(relay.mails().unwrap().len(), 1);
    fails(&stack, folder.path(), &job(", user: remit", &bound("wrong")), "refused the login: 535");
    fails(&stack, folder.path(), &job(", user: other", &bound("mail")), "refused the login: 535");
    fails(&stack, folder.path(), &job(", user: remit", ""), "a secret on");
    fails(&stack, folder.path(), &job("", ""), "refused MAIL: 530");
    assert_eq!(relay.mails().unwrap().len(), 1);
    assert!(stack.files_with(PASSWORD.as_bytes()).unwrap().is_empty());
}
