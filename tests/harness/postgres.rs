//! A real PostgreSQL server on loopback, of Debian's package, with a certificate and users of its own.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{Authority, wait_for};

/// Where Debian puts each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The server; it ends when this is dropped. Its database is `postgres`.
pub struct Postgres {
    child: Child,
    folder: PathBuf,
    port: u16,
}

/// The newest version that is there.
fn programs() -> Result<PathBuf> {
    let found = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let newest = found.filter(|path| path.join("initdb").is_file()).max();
    newest.context("there is no PostgreSQL: apt-get install postgresql")
}

/// A program of the server. It does not run as root, so root runs it as the package's user.
#[expect(clippy::disallowed_methods, reason = "the harness exists to start programs")]
fn program(name: &str, root: bool) -> Result<Command> {
    let program = programs()?.join(name);
    let mut command = if root {
        let mut command = Command::new("/sbin/runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.env("LC_ALL", "C.UTF-8").current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

fn ended(mut command: Command) -> Result<()> {
    let ended = command.stderr(Stdio::piped()).output().with_context(|| format!("{command:?}"))?;
    if !ended.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    }
    Ok(())
}

impl Postgres {
    /// Starts the server in a new directory, with a certificate for `localhost` by `authority`. Users: `app`, whose password is
    /// proved under TLS; `plain`, who needs none, without TLS; `old` and `clear`, whose password the server asks for by MD5 and
    /// in the clear. `setup` is run first, by the database's owner.
    #[expect(clippy::disallowed_methods, reason = "looking for a free port")]
    pub fn start(authority: &Authority, password: &str, setup: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("remit-postgres").tempdir()?.keep();
        let root = fs::metadata("/proc/self")?.uid() == 0;
        let (data, certificate, key) = (folder.join("data"), folder.join("cert.pem"), folder.join("key.pem"));
        authority.write_server("localhost", &certificate, &key)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        if root {
            let users = fs::read_to_string("/etc/passwd")?;
            let line = users.lines().find(|line| line.starts_with("postgres:"));
            let user = line.and_then(|line| line.split(':').nth(2)).context("there is no user postgres")?;
            for path in [&folder, &certificate, &key] {
                chown(path, Some(user.parse()?), None)?;
            }
        }
        let mut command = program("initdb", root)?;
        command.args(["--no-sync", "-A", "trust", "-U", "owner", "-E", "UTF8", "-D"]).arg(&data);
        ended(command)?;
        let rules = "local all owner trust\nhostssl all app 127.0.0.1/32 scram-sha-256\nhostnossl all plain 127.0.0.1/32 trust\n\
                     hostssl all old 127.0.0.1/32 md5\nhostssl all clear 127.0.0.1/32 password\n";
        fs::write(data.join("pg_hba.conf"), rules)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = program("postgres", root)?;
        command.arg("-D").arg(&data).stderr(Stdio::null());
        for (name, value) in [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("unix_socket_directories", folder.display().to_string()),
            ("ssl", "on".to_owned()),
            ("ssl_cert_file", certificate.display().to_string()),
            ("ssl_key_file", key.display().to_string()),
            ("fsync", "off".to_owned()),
            ("password_encryption", "scram-sha-256".to_owned()),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let child = command.spawn()?;
        let server = Self { child, folder, port };
        wait_for("PostgreSQL listening", || Ok(TcpStream::connect(("127.0.0.1", port)).ok()))?;
        let users = format!(
            "CREATE ROLE app LOGIN PASSWORD '{password}'; CREATE ROLE plain LOGIN; CREATE ROLE clear LOGIN PASSWORD '{password}'; \
             SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD '{password}'; {setup}"
        );
        wait_for("PostgreSQL answering", || Ok(server.psql(root, "SELECT 1").ok()))?;
        server.psql(root, &users)?;
        Ok(server)
    }

    fn psql(&self, root: bool, sql: &str) -> Result<()> {
        let mut command = program("psql", root)?;
        command.args([
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "owner",
            "-d",
            "postgres",
            "-p",
            &self.port.to_string(),
            "-h",
        ]);
        command.arg(&self.folder).args(["-c", sql]);
        ended(command)
    }

    /// The port on `localhost`.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // `runuser` hands this on, and the server ends its own processes; the word is that of the postmaster's file.
        let root = Path::new("/proc/self").metadata().is_ok_and(|found| found.uid() == 0);
        if let Ok(mut command) = program("pg_ctl", root) {
            command.args(["stop", "-m", "immediate", "-D"]).arg(self.folder.join("data"));
            let _ = ended(command);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
