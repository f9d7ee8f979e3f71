//! The switch between a fixture and a live server: a story is the same against either.
//!
//! A variable such as `REMIT_TEST_KUBERNETES` names a file in TOML; without it the story starts its fixture. How the file looks
//! and what is asserted of which server stands in `fixtures/README.md`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use harness::{Authority, Reply, Seen, Service, Stack};
use serde::Deserialize;

use crate::site;

/// A live server as its file names it; relative paths begin at the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// `https://host:port`.
    url: String,
    /// Holds the credential, and nothing else but a line's end.
    credential_file: PathBuf,
    /// Certificates that are trusted; absent: the operating system's.
    ca_file: Option<PathBuf>,
    /// Ranges of private addresses to which the name may lead.
    #[serde(default)]
    private: Vec<String>,
    /// What a story wants to know beside that.
    #[serde(default)]
    values: toml::Table,
}

/// The server of a story.
pub(super) struct Server {
    /// Its name.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// The fixture; none if the server is a live one.
    pub(super) fixture: Option<Service>,
    credential: String,
    /// What the ceiling says of certificates and addresses.
    reached: String,
    values: toml::Table,
}

impl Server {
    /// The live server whose file `variable` names, or a fixture in `folder` that takes `credential`.
    #[expect(clippy::disallowed_methods, reason = "the switch between fixture and live server")]
    pub(super) fn of(
        variable: &str,
        folder: &Path,
        credential: &str,
        answering: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        match std::env::var_os(variable) {
            Some(file) => Self::live(Path::new(&file)),
            None => Self::fixture(folder, credential, answering),
        }
    }

    fn fixture(
        folder: &Path,
        credential: &str,
        answering: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new().unwrap();
        let ca = folder.join("ca.pem");
        authority.write(&ca).unwrap();
        let service = Service::answering(&authority, "localhost", answering).unwrap();
        Self {
            host: "localhost".to_owned(),
            port: service.port(),
            fixture: Some(service),
            credential: credential.to_owned(),
            reached: format!("private = [\"127.0.0.0/8\", \"::1/128\"]\nca_file = {ca:?}\n"),
            values: toml::Table::new(),
        }
    }

    /// The live server that `file` names.
    pub(super) fn live(file: &Path) -> Self {
        Self::read(file).with_context(|| file.display().to_string()).unwrap()
    }

    fn read(file: &Path) -> anyhow::Result<Self> {
        let found: File = toml::from_str(&fs::read_to_string(file)?)?;
        let beside = |path: &Path| file.parent().unwrap_or(file).join(path);
        let place = found.url.strip_prefix("https://").context("`url` begins with https://")?;
        let (host, port) = place.split_once(':').unwrap_or((place, "443"));
        let credential = fs::read_to_string(beside(&found.credential_file)).context("`credential_file`")?;
        let mut reached = format!("private = {:?}\n", found.private);
        if let Some(ca_file) = &found.ca_file {
            let ca_file = fs::canonicalize(beside(ca_file)).context("`ca_file`")?;
            reached.push_str(&format!("ca_file = {ca_file:?}\n"));
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().context("`url` ends with a port")?,
            fixture: None,
            credential: credential.trim_end_matches(['\r', '\n']).to_owned(),
            reached,
            values: found.values,
        })
    }

    /// Its address.
    pub(super) fn url(&self) -> String {
        format!("https://{}:{}", self.host, self.port)
    }

    /// What the file says under this name, or what holds of the fixture.
    pub(super) fn value<'v>(&'v self, name: &str, fixture: &'v str) -> &'v str {
        self.values.get(name).and_then(toml::Value::as_str).unwrap_or(fixture)
    }

    /// A stack whose runner may call it with all methods, and use the credential there, `keys/test/server`, as `usage`.
    pub(super) fn stack(&self, folder: &Path, usage: &str) -> Stack {
        let secrets = folder.join("secrets");
        fs::create_dir_all(&secrets).unwrap();
        fs::write(secrets.join("server"), &self.credential).unwrap();
        let Self { host, port, reached, .. } = self;
        let ceiling = format!(
            "[ceiling]\n\n[[ceiling.http]]\nhost = {host:?}\nport = {port}\n\
             methods = [\"GET\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\"]\npaths = [\"/\"]\n{reached}\n\
             [[ceiling.secrets]]\npath = \"keys/test/server\"\nuse = {usage:?}\nhosts = [\"{host}:{port}\"]\n\n\
             [[provider]]\nmount = \"keys/test\"\nkind = \"directory\"\npath = {secrets:?}\n"
        );
        site(folder, &ceiling)
    }

    /// A rule of a grant, in TOML; `secret` is what stands behind it.
    pub(super) fn rule(&self, methods: &str, path: &str, secret: &str) -> String {
        let Self { host, port, .. } = self;
        format!(
            "{{ host = {host:?}, port = {port}, methods = [{methods}], paths = [{path:?}], private = true{secret} }}"
        )
    }

    /// Nothing of the credential is in any file of the site.
    pub(super) fn kept_its_credential(&self, stack: &Stack) {
        let password =
            self.credential.split_once(':').map_or(self.credential.as_str(), |(_, password)| password);
        assert!(stack.files_with(password.as_bytes()).unwrap().is_empty(), "a credential was written");
    }
}

/// A fixture beside the site of a story, which takes it for a live server.
pub(super) fn elsewhere(
    folder: &Path,
    credential: &str,
    values: &str,
    answering: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (Server, Service) {
    let place = folder.join("elsewhere");
    fs::create_dir_all(&place).unwrap();
    let mut fixture = Server::fixture(&place, credential, answering);
    fs::write(place.join("credential"), format!("{credential}\n")).unwrap();
    let file = place.join("live.toml");
    let text = format!(
        "url = {:?}\ncredential_file = \"credential\"\nca_file = \"ca.pem\"\nprivate = [\"127.0.0.0/8\", \"::1/128\"]\n\n[values]\n{values}",
        fixture.url()
    );
    fs::write(&file, text).unwrap();
    (Server::live(&file), fixture.fixture.take().unwrap())
}
