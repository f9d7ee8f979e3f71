//! Against a real `sshd` on loopback.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
};

use remit_protocol::{
    SecretName, SecretPath,
    capability::{
        secrets::{BoundSecret, SecretUse},
        ssh::{SshLogin, SshPlace},
    },
};

use super::{
    session::{Ask, Secrets, start},
    *,
};
use crate::{
    dial::{Dialer, address::Barred, resolve::Fixed, tests::listener, tls::Trust},
    report::redact::Redactor,
    secrets::SecretValue,
};

#[expect(clippy::disallowed_methods, reason = "a test starts the real programs")]
fn program(path: &str) -> std::process::Command {
    assert!(Path::new(path).exists(), "{path} is missing: install the Debian package openssh-server");
    std::process::Command::new(path)
}

/// A server with its own keys; it ends with the test.
struct Sshd {
    port: u16,
    directory: tempfile::TempDir,
    child: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, kind) in [
            ("host", "ed25519"),
            ("other", "ed25519"),
            ("ed25519", "ed25519"),
            ("ecdsa", "ecdsa"),
            ("rsa", "rsa"),
        ] {
            keygen(&directory.path().join(name), kind);
        }
        let public =
            |name: &str| std::fs::read_to_string(directory.path().join(format!("{name}.pub"))).unwrap();
        let authorized = ["ed25519", "ecdsa", "rsa"].map(public).concat();
        std::fs::write(directory.path().join("authorized_keys"), authorized).unwrap();
        // Where Debian's sshd confines its children; its service makes it at boot.
        let _ = std::fs::create_dir_all("/run/sshd");
        let (free, port) = listener().await;
        drop(free);
        let at = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication yes\nLogLevel INFO\nSubsystem sftp internal-sftp\n",
            at("host"),
            at("authorized_keys"),
        );
        std::fs::write(directory.path().join("sshd_config"), config).unwrap();
        let mut child = program("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Server listening"));
        assert!(listening, "sshd did not start");
        // Read on, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { port, directory, child }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn key(&self, name: &str) -> SecretValue {
        SecretValue::new(std::fs::read(self.file(name)).unwrap()).ok().unwrap()
    }

    fn secrets(&self, name: &str) -> Secrets {
        Secrets { node: self.key(name), bastion: None }
    }

    fn public(&self, name: &str) -> russh::keys::PublicKey {
        let text = std::fs::read_to_string(self.file(&format!("{name}.pub"))).unwrap();
        russh::keys::PublicKey::from_openssh(text.trim()).unwrap()
    }

    fn plan(&self, known: &str) -> Plan {
        std::fs::write(self.file("known_hosts"), known).unwrap();
        let user = String::from_utf8(program("/usr/bin/id").arg("-un").output().unwrap().stdout).unwrap();
        let user = user.trim().to_owned();
        Plan {
            host: "node1".to_owned(),
            port: self.port,
            user: user.clone(),
            places: vec![SshPlace {
                addresses: vec!["127.0.0.0/8".parse().unwrap()],
                port: self.port,
                users: vec![user.clone()],
                known_hosts: self.file("known_hosts"),
            }],
            login: SshLogin {
                secret: BoundSecret {
                    name: SecretName::new("key").unwrap(),
                    path: SecretPath::new("keys/k").unwrap(),
                    placement: None,
                },
                users: vec![user],
            },
            usage: SecretUse::SshKey,
            bastion: None,
        }
    }

    fn good(&self) -> Plan {
        self.plan(&known_hosts::line("node1", self.port, &self.public("host")))
    }

    async fn run(&self, plan: &Plan, key: &str, argv: &[&str], stdin: &[u8]) -> Result<Running, SshError> {
        let argv: Vec<_> = argv.iter().map(|argument| (*argument).to_owned()).collect();
        let line = plan::command_line(&argv).unwrap();
        start(&dialer(), plan, &self.secrets(key), Ask::Command { line, stdin: stdin.to_vec() }).await
    }
}

fn dialer() -> Dialer {
    let names = HashMap::from([("node1".to_owned(), vec![IpAddr::from([127, 0, 0, 1])])]);
    Dialer::new(Arc::new(Fixed(names)), None, Trust::untrusting(), Barred::default())
}

fn keygen(path: &Path, kind: &str) {
    let format: &[&str] = if kind == "rsa" { &["-m", "PEM", "-b", "2048"] } else { &[] };
    let done = program("/usr/bin/ssh-keygen")
        .args(["-q", "-N", "", "-t", kind, "-f"])
        .arg(path)
        .args(format)
        .status()
        .unwrap();
    assert!(done.success());
}

async fn collect(mut running: Running) -> (String, String, Option<Ending>) {
    let (mut out, mut error) = (Vec::new(), Vec::new());
    loop {
        match running.next().await {
            Event::Stdout(data) => out.extend(data),
            Event::Stderr(data) => error.extend(data),
            Event::End => break,
        }
    }
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(error), running.ending().cloned())
}

#[tokio::test]
async fn commands_run_with_their_arguments_input_output_and_exit() {
    let sshd = Sshd::start().await;
    let plan = sshd.good();
    let odd = ["a b", "", "it's", "$HOME", "`id`", "*", "-x", "ö\n\"\\", "a=b", "~"];
    let argv: Vec<_> = ["/usr/bin/printf", "<%s>"].into_iter().chain(odd).collect();
    let (out, error, ending) = collect(sshd.run(&plan, "ed25519", &argv, b"").await.unwrap()).await;
    let expect: String = odd.iter().map(|argument| format!("<{argument}>")).collect();
    assert_eq!((out, error, ending), (expect, String::new(), Some(Ending::Code(0))));

    let script = "cat; echo oops >&2; exit 7";
    let input = "x".repeat(3 << 20);
    let running = sshd.run(&plan, "ecdsa", &["sh", "-c", script], input.as_bytes()).await.unwrap();
    let (out, error, ending) = collect(running).await;
    assert_eq!((out.len(), error.as_str(), ending), (3 << 20, "oops\n", Some(Ending::Code(7))));

    let running = sshd.run(&plan, "rsa", &["sh", "-c", "kill -TERM $$"], b"").await.unwrap();
    assert_eq!(collect(running).await.2, Some(Ending::Signal("TERM".to_owned())));
}

#[tokio::test]
async fn a_host_key_that_is_not_known_is_refused_with_the_line_to_add() {
    let sshd = Sshd::start().await;
    let (host, other) = (sshd.public("host"), sshd.public("other"));
    let line = |key| known_hosts::line("node1", sshd.port, key);
    let check = async |known: String, expect: &str| {
        let plan = sshd.plan(&known);
        let error = sshd.run(&plan, "ed25519", &["true"], b"").await.err().unwrap();
        let denial = denial(&plan, &error).unwrap().to_string();
        assert!(error.to_string().contains(expect), "{error}");
        assert!(denial.contains(&line(&host)), "{denial}");
    };
    check(String::new(), "does not stand in").await;
    check(line(&other), "line 1 of").await;
    check(format!("{}\n@revoked * {}", line(&host), line(&host).split_once(' ').unwrap().1), "line 2 of")
        .await;
    let good = sshd.plan(&format!("{}\n", line(&host)));
    assert_eq!(
        collect(sshd.run(&good, "ed25519", &["true"], b"").await.unwrap()).await.2,
        Some(Ending::Code(0))
    );
    let mut missing = good.clone();
    missing.places[0].known_hosts = sshd.file("absent");
    let error = sshd.run(&missing, "ed25519", &["true"], b"").await.err().unwrap();
    assert!(matches!(error, SshError::KnownHosts { .. }), "{error}");
}

#[tokio::test]
async fn only_listed_addresses_are_called_and_only_the_right_secret_logs_in() {
    let sshd = Sshd::start().await;
    let good = sshd.good();
    let mut elsewhere = good.clone();
    elsewhere.places[0].addresses = vec!["127.0.0.2/32".parse().unwrap()];
    let error = sshd.run(&elsewhere, "ed25519", &["true"], b"").await.err().unwrap();
    assert!(matches!(error, SshError::Dial(DialError::Prohibited(_))), "{error}");
    assert!(denial(&elsewhere, &error).unwrap().remedy.contains("127.0.0.1/32"));
    // The second place has the address.
    let mut two = good.clone();
    two.places.insert(0, elsewhere.places[0].clone());
    sshd.run(&two, "ed25519", &["true"], b"").await.unwrap();
    let error = sshd.run(&good, "other", &["true"], b"").await.err().unwrap();
    assert!(matches!(error, SshError::Refused { .. }), "{error}");
    let error = sshd.run(&good, "sshd_config", &["true"], b"").await.err().unwrap();
    assert!(matches!(error, SshError::Secret(_)), "{error}");
    let mut password = good.clone();
    password.usage = SecretUse::SshPassword;
    let error = sshd.run(&password, "sshd_config", &["true"], b"").await.err().unwrap();
    assert!(matches!(error, SshError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_subsystem_is_written_to_and_read_from_by_turns() {
    let sshd = Sshd::start().await;
    let mut running = start(&dialer(), &sshd.good(), &sshd.secrets("ed25519"), Ask::Sftp).await.unwrap();
    // SSH_FXP_INIT of version 3, which is answered with SSH_FXP_VERSION.
    running.write(vec![0, 0, 0, 5, 1, 0, 0, 0, 3]).await.unwrap();
    let Event::Stdout(answer) = running.next().await else { panic!("no answer") };
    assert_eq!(answer.get(4..9), Some([2, 0, 0, 0, 3].as_slice()));
    // The real path of the directory where the login begins.
    running.write(vec![0, 0, 0, 10, 16, 0, 0, 0, 7, 0, 0, 0, 1, b'.']).await.unwrap();
    let Event::Stdout(answer) = running.next().await else { panic!("no answer") };
    assert_eq!(answer.get(4..9), Some([104, 0, 0, 0, 7].as_slice()));
    // Many questions before an answer is read, more than the connection holds.
    for id in 0..2000_u32 {
        let mut question = vec![0, 0, 0, 10, 16];
        question.extend(id.to_be_bytes());
        question.extend([0, 0, 0, 1, b'.']);
        running.write(question).await.unwrap();
    }
    let mut said = Vec::new();
    let answers = |said: &[u8]| {
        let (mut rest, mut last) = (said, None);
        while let Some(length) = rest.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize)
            && let Some(packet) = rest.get(4..4 + length)
        {
            last = packet.get(1..5).map(<[u8]>::to_vec);
            rest = &rest[4 + length..];
        }
        last
    };
    while answers(&said) != Some(1999_u32.to_be_bytes().to_vec()) {
        let Event::Stdout(answer) = running.next().await else { panic!("no answer") };
        said.extend(answer);
    }
    running.finish().await.unwrap();
    running.finish().await.unwrap();
    assert!(running.write(vec![0]).await.unwrap_err().contains("closed"));
    let (_, _, ending) = collect(running).await;
    assert_eq!(ending, Some(Ending::Code(0)));
}

#[tokio::test]
async fn a_bastion_carries_the_connection() {
    let (bastion, sshd) = (Sshd::start().await, Sshd::start().await);
    let address = |known: &str| {
        let mut plan = sshd.plan(known);
        plan.host = "127.0.0.1".to_owned();
        plan
    };
    let known = known_hosts::line("127.0.0.1", sshd.port, &sshd.public("host"));
    let through = |known: &str, hop: Plan| Plan { bastion: Some(Box::new(hop)), ..address(known) };
    let run = async |plan: &Plan, key: &str| {
        let secrets = Secrets { node: sshd.key("ed25519"), bastion: Some(bastion.key(key)) };
        let line = "echo there; exec sleep 1000".to_owned();
        start(&dialer(), plan, &secrets, Ask::Command { line, stdin: Vec::new() }).await
    };
    let mut running = run(&through(&known, bastion.good()), "ed25519").await.unwrap();
    assert!(matches!(running.next().await, Event::Stdout(said) if said == "there\n"));
    // The node's own key is still judged, and the bastion's too, each by its own name.
    let error = run(&through("", bastion.good()), "ed25519").await.err().unwrap();
    assert!(matches!(&error, SshError::HostKey { port, .. } if *port == sshd.port), "{error}");
    let error = run(&through(&known, bastion.plan("")), "ed25519").await.err().unwrap();
    let SshError::Bastion { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, SshError::HostKey { port, .. } if port == bastion.port), "{error}");
    let error = run(&through(&known, bastion.good()), "other").await.err().unwrap();
    assert!(error.to_string().contains("refuses the login"), "{error}");
    // An address that the owner did not list is not gone to by way of the bastion either.
    let mut far = through(&known, bastion.good());
    far.host = "10.0.0.1".to_owned();
    let error = run(&far, "ed25519").await.err().unwrap();
    assert!(matches!(error, SshError::Dial(DialError::Prohibited(_))), "{error}");
}

#[tokio::test]
async fn dropping_a_command_ends_the_connection() {
    let sshd = Sshd::start().await;
    let mut running =
        sshd.run(&sshd.good(), "ed25519", &["sh", "-c", "echo $PPID; exec cat"], b"").await.unwrap();
    // `cat` ends with its input, which is closed: a command that waits is needed.
    let Event::Stdout(_) = running.next().await else { panic!("no output") };
    drop(running);
    let mut waiting =
        sshd.run(&sshd.good(), "ed25519", &["sh", "-c", "echo $PPID; exec sleep 1000"], b"").await.unwrap();
    let Event::Stdout(pid) = waiting.next().await else { panic!("no output") };
    let session: PathBuf = format!("/proc/{}", String::from_utf8(pid.to_vec()).unwrap().trim()).into();
    assert!(session.exists());
    drop(waiting);
    // The server's process for this connection ends when the connection does.
    while session.exists() {
        tokio::task::yield_now().await;
    }
}

fn issued(running: Running, by_turns: bool) -> Issued {
    let redactor = Redactor::new();
    let value = SecretValue::new(b"a-secret-on-the-node".to_vec()).ok().unwrap();
    redactor.add([(&SecretPath::new("keys/s").unwrap(), &value)]);
    Issued {
        running: Some(Box::new(running)),
        waiting: VecDeque::new(),
        stdout: redactor.stream(),
        stderr: redactor.stream(),
        by_turns,
        exit: None,
    }
}

#[tokio::test]
async fn nothing_is_held_back_where_both_sides_speak_by_turns() {
    let sshd = Sshd::start().await;
    let script = "printf 'a-secret-on-the-node, a-secret'; exec tail -f /dev/null";
    for (by_turns, expect) in [(true, "[redacted:keys/s], a-secret"), (false, "[redacted:keys/s], ")] {
        let running = sshd.run(&sshd.good(), "ed25519", &["sh", "-c", script], b"").await.unwrap();
        let mut command = issued(running, by_turns);
        assert!(command.advance().await);
        assert_eq!(command.waiting, [(Source::Output, expect.as_bytes().to_vec())]);
    }
}

#[tokio::test]
async fn output_is_redacted_across_pieces() {
    let sshd = Sshd::start().await;
    let script = "printf a-secret; echo -on-the-node; printf 'a-secret-on-the-' >&2";
    let running = sshd.run(&sshd.good(), "ed25519", &["sh", "-c", script], b"").await.unwrap();
    let mut command = issued(running, false);
    while command.advance().await {}
    let (mut out, mut error) = (Vec::new(), Vec::new());
    for (source, bytes) in command.waiting.drain(..) {
        match source {
            Source::Output => out.extend(bytes),
            Source::Error => error.extend(bytes),
        }
    }
    assert_eq!(String::from_utf8(out).unwrap(), "[redacted:keys/s]\n");
    assert_eq!(String::from_utf8(error).unwrap(), "a-secret-on-the-");
    assert_eq!(command.exit, Some(Some(Ending::Code(0))));
}
