//! A real OpenSSH server on loopback, with keys of its own.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::wait_for;

/// The server; it ends when this is dropped.
pub struct Sshd {
    child: Child,
    folder: PathBuf,
    port: u16,
}

#[expect(clippy::disallowed_methods, reason = "the harness exists to start programs")]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn keygen(file: &Path) -> Result<()> {
    let status = command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status();
    if !status.context("ssh-keygen is missing: apt-get install openssh-server openssh-client")?.success() {
        bail!("ssh-keygen failed");
    }
    Ok(())
}

impl Sshd {
    /// Starts the server in `folder`, which also gets the client's key and a known-hosts file.
    #[expect(clippy::disallowed_methods, reason = "looking for a free port")]
    pub fn start(folder: &Path) -> Result<Self> {
        let program = "/usr/sbin/sshd";
        if !Path::new(program).is_file() {
            bail!("{program} is missing: apt-get install openssh-server");
        }
        std::fs::create_dir_all(folder)?;
        std::fs::create_dir_all("/run/sshd").ok();
        let (host, client) = (folder.join("host_key"), folder.join("client_key"));
        keygen(&host)?;
        keygen(&client)?;
        std::fs::copy(client.with_extension("pub"), folder.join("authorized_keys"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let public = std::fs::read_to_string(host.with_extension("pub"))?;
        std::fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {}\n", public.trim()))?;
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 1000\nMaxSessions 1000\nUseDNS no\n\
             Subsystem sftp internal-sftp\nSetEnv HOME={}\n",
            host.display(),
            folder.join("authorized_keys").display(),
            folder.join("sshd.pid").display(),
            // A shell on the node reads nothing of what the machine's own users have set up.
            folder.display()
        );
        let file = folder.join("sshd_config");
        std::fs::write(&file, config)?;
        let child = command(program).args(["-D", "-e", "-f"]).arg(&file).spawn()?;
        let server = Self { child, folder: folder.to_owned(), port };
        wait_for("sshd listening", || Ok(TcpStream::connect(("127.0.0.1", port)).ok()))?;
        Ok(server)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The client's private key.
    pub fn client_key(&self) -> PathBuf {
        self.folder.join("client_key")
    }

    /// A known-hosts file with the server's key.
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.join("known_hosts")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
