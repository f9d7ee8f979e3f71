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

/// An SMTP server that takes mail of whoever has proved a password by SCRAM-SHA-256 (RFC 5802), under TLS only. Its
/// arguments: port, certificate, key, user, password, and the folder of its mails.
const GUARDED: &str = r#"
import asyncio, base64, hashlib, hmac, os, ssl, sys
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, AuthResult, MISSING
port, certificate, key, user, password, folder = sys.argv[1:]
salt, rounds = os.urandom(16), 4096
salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
digest = lambda key, text: hmac.new(key, text, hashlib.sha256).digest()
stored = hashlib.sha256(digest(salted, b"Client Key")).digest()
class Guarded(SMTP):
    async def auth_SCRAM__SHA__256(self, _, arguments):
        bare = base64.b64decode(arguments[1]).decode().removeprefix("n,,")
        name, nonce = bare.removeprefix("n=").split(",r=")
        both = nonce + base64.b64encode(os.urandom(18)).decode()
        first = f"r={both},s={base64.b64encode(salt).decode()},i={rounds}"
        last = await self.challenge_auth(first)
        if last is MISSING:
            return AuthResult(success=False)
        without, proof = last.decode().rsplit(",p=", 1)
        whole = f"{bare},{first},{without}".encode()
        client = bytes(a ^ b for a, b in zip(base64.b64decode(proof), digest(stored, whole)))
        if name != user or without != f"c=biws,r={both}" or hashlib.sha256(client).digest() != stored:
            return AuthResult(success=False, handled=False)
        verifier = digest(digest(salted, b"Server Key"), whole)
        await self.challenge_auth("v=" + base64.b64encode(verifier).decode())
        return AuthResult(success=True)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
make = lambda: Guarded(Mailbox(folder), tls_context=context, require_starttls=True, auth_required=True, loop=loop)
loop.run_until_complete(loop.create_server(make, "127.0.0.1", int(port)))
loop.run_forever()
"#;

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

    /// Starts a server that offers STARTTLS, and takes mail of nobody but `user`, who proves a password by SCRAM-SHA-256.
    #[expect(
        clippy::disallowed_methods,
        reason = "looking for a free port, and the harness exists to start programs"
    )]
    pub fn guarded(folder: &Path, tls: (&Path, &Path), user: &str, password: &str) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Self { child: None, folder: folder.to_owned(), port };
        let mut command = Command::new(PYTHON);
        command
            .args(["-c", GUARDED, &port.to_string()])
            .arg(tls.0)
            .arg(tls.1)
            .args([user, password])
            .arg(folder);
        server.begin(command)?;
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
        self.begin(command)
    }

    fn begin(&mut self, mut command: Command) -> Result<()> {
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
