//! A real Squid on loopback: an HTTP proxy with credentials, and one that opens TLS to look into it.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{Authority, wait_for};

/// The name and password that the proxy accepts. The password has characters that an address must encode.
const USER: &str = "edge";
/// See [`USER`].
const PASSWORD: &str = "p@ss/word:1";
/// [`PASSWORD`] as it stands in an address.
const ENCODED: &str = "p%40ss%2Fword%3A1";

const PROGRAM: &str = "/usr/sbin/squid";
const LIBRARY: &str = "/usr/lib/squid";

/// How the proxy behaves.
#[derive(Default)]
pub struct Plan<'a> {
    /// It opens TLS with certificates of this authority, and believes servers of the file beside it.
    pub inspect: Option<(&'a Authority, &'a Path)>,
    /// It wants [`USER`] and [`PASSWORD`].
    pub credentials: bool,
    /// Names that it resolves to 127.0.0.1.
    pub names: &'a [&'a str],
    /// It refuses to connect to this port.
    pub closed: Option<u16>,
    /// It removes these header fields from answers; only where it inspects.
    pub strips: &'a [&'a str],
}

/// The proxy; it ends when this is dropped.
pub struct Squid {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

#[expect(clippy::disallowed_methods, reason = "the harness exists to start programs")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// The user and group as which Squid runs where it is started by root.
fn proxy_user() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("proxy:")).context("there is no user `proxy`")?;
    let mut numbers = line.split(':').skip(2);
    let mut number = || numbers.next().and_then(|text| text.parse().ok()).context("/etc/passwd");
    Ok((number()?, number()?))
}

fn give_to_squid(path: &Path, owner: (u32, u32)) -> Result<()> {
    // Where the tests are not run by root, Squid runs as whoever runs them.
    if chown(path, Some(owner.0), Some(owner.1)).is_err() {
        return Ok(());
    }
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give_to_squid(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

impl Squid {
    /// Starts the proxy.
    ///
    /// # Errors
    /// Squid is not installed, or does not start.
    #[expect(clippy::disallowed_methods, reason = "looking for a free port")]
    pub fn start(plan: &Plan<'_>) -> Result<Self> {
        if !Path::new(LIBRARY).join("security_file_certgen").is_file() {
            bail!("{PROGRAM} with OpenSSL is missing: apt-get install squid-openssl");
        }
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = folder.path().join("squid.conf");
        std::fs::write(&config, configuration(plan, folder.path(), port)?)?;
        give_to_squid(folder.path(), proxy_user()?)?;
        let child = command(PROGRAM)
            .args(["-N", "-n", &format!("remit{port}"), "-f"])
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()?;
        let mut squid = Self { child, folder, port };
        wait_for("squid listening", || {
            if squid.child.try_wait()?.is_some() {
                bail!("squid ended: {}", squid.read("cache.log"));
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(squid)
    }

    /// Its address, without credentials.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its address, with the right credentials.
    pub fn url_with_credentials(&self) -> String {
        format!("http://{USER}:{ENCODED}@127.0.0.1:{}", self.port)
    }

    /// What it logged of each request, once the connection ended.
    pub fn access_log(&self) -> String {
        self.read("access.log")
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }
}

fn configuration(plan: &Plan<'_>, folder: &Path, port: u16) -> Result<String> {
    let place = |name: &str| folder.join(name);
    let mut lines = vec![
        format!("pid_filename {}", place("squid.pid").display()),
        format!("cache_log {}", place("cache.log").display()),
        format!("access_log stdio:{} logformat=squid", place("access.log").display()),
        format!("coredump_dir {}", folder.display()),
        "buffered_logs off".to_owned(),
        "cache deny all".to_owned(),
        "visible_hostname squid.example".to_owned(),
        "shutdown_lifetime 0 seconds".to_owned(),
        // Nothing is looked up outside of this machine.
        "dns_nameservers 127.0.0.1".to_owned(),
        format!("hosts_file {}", place("hosts").display()),
    ];
    let hosts: Vec<_> = plan.names.iter().map(|name| format!("127.0.0.1 {name}\n")).collect();
    std::fs::write(place("hosts"), hosts.concat())?;
    match plan.inspect {
        None => lines.push(format!("http_port 127.0.0.1:{port}")),
        Some((authority, believed)) => lines.extend(inspection(folder, port, authority, believed)?),
    }
    lines.extend(plan.strips.iter().map(|name| format!("reply_header_access {name} deny all")));
    if let Some(closed) = plan.closed {
        lines.push(format!("acl closed port {closed}"));
        lines.push("http_access deny closed".to_owned());
    }
    if plan.credentials {
        let passwords = place("passwords");
        std::fs::write(&passwords, format!("{USER}:{}\n", hashed(PASSWORD)?))?;
        lines.push(format!("auth_param basic program {LIBRARY}/basic_ncsa_auth {}", passwords.display()));
        lines.push("acl known proxy_auth REQUIRED".to_owned());
        lines.push("http_access allow known".to_owned());
        lines.push("http_access deny all".to_owned());
    } else {
        lines.push("http_access allow all".to_owned());
    }
    Ok(lines.join("\n") + "\n")
}

/// The lines of a proxy that opens TLS: it shows certificates of its own, made after those of the servers.
fn inspection(folder: &Path, port: u16, authority: &Authority, believed: &Path) -> Result<Vec<String>> {
    let (own, upstream) = (folder.join("inspector.pem"), folder.join("believed.pem"));
    std::fs::write(&own, authority.certificate_and_key())?;
    std::fs::copy(believed, &upstream)?;
    let database = folder.join("certificates");
    let made = command(format!("{LIBRARY}/security_file_certgen"))
        .args(["-c", "-s"])
        .arg(&database)
        .args(["-M", "4MB"])
        .stdout(Stdio::null())
        .status()?;
    if !made.success() {
        bail!("security_file_certgen cannot make its database in {}", database.display());
    }
    Ok(vec![
        format!(
            "http_port 127.0.0.1:{port} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert={}",
            own.display()
        ),
        format!("sslcrtd_program {LIBRARY}/security_file_certgen -s {} -M 4MB", database.display()),
        "sslcrtd_children 2".to_owned(),
        format!("tls_outgoing_options cafile={}", upstream.display()),
        "ssl_bump stare all".to_owned(),
        "ssl_bump bump all".to_owned(),
    ])
}

/// A password as `basic_ncsa_auth` wants it.
fn hashed(password: &str) -> Result<String> {
    let output = command("openssl").args(["passwd", "-apr1", password]).output();
    let output = output.context("openssl is missing: apt-get install openssl")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

impl Drop for Squid {
    fn drop(&mut self) {
        // It may have ended already; its helpers end with their standard input.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
