//! A real SMTP server on loopback that keeps what it is sent.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::wait_for;

/// Debian's python, for which Debian's aiosmtpd is.
const PYTHON: &str = "/usr/bin/python3";

/// The server; it ends when this is dropped.
pub struct MailServer {
    child: Option<Child>,
    folder: PathBuf,
    port: u16,
}

impl MailServer {
    /// Starts the server; it keeps mail in `folder`. With certificate and key it offers STARTTLS.
    #[expect(clippy::disallowed_methods, reason = "looking for a free port")]
    pub fn start(folder: &Path, tls: Option<(&Path, &Path)>) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Self { child: None, folder: folder.to_owned(), port };
        server.listen(tls)?;
        Ok(server)
    }

    /// Starts it where it was.
    pub fn restart(&mut self) -> Result<()> {
        self.listen(None)
    }

    #[expect(clippy::disallowed_methods, reason = "the harness exists to start programs")]
    fn listen(&mut self, tls: Option<(&Path, &Path)>) -> Result<()> {
        let mut command = Command::new(PYTHON);
        command.args(["-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{}", self.port)]);
        if let Some((certificate, key)) = tls {
            command.arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
        }
        command.args(["-c", "aiosmtpd.handlers.Mailbox"]).arg(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("{PYTHON} does not start"))?;
        wait_for("the mail server listening", || {
            if let Some(status) = child.try_wait()? {
                bail!("aiosmtpd ended with {status}: apt-get install python3-aiosmtpd");
            }
            Ok(TcpStream::connect(("127.0.0.1", self.port)).ok().map(|_| ()))
        })?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The mails that it has taken.
    pub fn mails(&self) -> Result<Vec<String>> {
        let mut mails = Vec::new();
        for entry in fs::read_dir(self.folder.join("new")).into_iter().flatten() {
            mails.push(fs::read_to_string(entry?.path())?);
        }
        Ok(mails)
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.stop();
    }
}
