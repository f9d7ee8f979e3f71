//! The provider `store`: one encrypted file in the runner's state directory.
//!
//! The file is text: a first line that names the format, then one line a secret, sorted, `<path> <base64>`. The base64 is
//! a nonce of 24 bytes and the value under XChaCha20-Poly1305, with format and path as associated data: no value can be
//! moved to another path, and names can be listed without the key. Who can write the file can remove a secret or bring
//! back an older value of the same path; the file's mode keeps them out, not the cipher.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt as _, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, AeadInOut, Payload},
};
use remit_protocol::SecretPath;
use zeroize::Zeroizing;

use super::{InvalidSecret, Resolve, SecretError, SecretValue};

/// The directory of the store in the state directory: apart from the rest, so that the broker can be given it alone.
const DIRECTORY: &str = "store";
/// Its files there.
pub(super) const VALUES: &str = "secrets";
pub(super) const KEY: &str = "secrets.key";
const LOCK: &str = "secrets.lock";

const FORMAT: &str = "remit-secrets/v1";
const NONCE: usize = 24;
/// Largest file: some hundred secrets of the largest size, thousands of usual ones.
const MAX_FILE: u64 = 16 << 20;

/// Where the store's key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file of mode 0600 of the runner's own user; made by the first `set`.
    File(PathBuf),
    /// A systemd credential: given by the system, never made here.
    Credential(PathBuf),
}

/// Where the store of a state directory is. Versions before had it in the state directory itself, and until [`settle`] it
/// stays there.
pub fn place(state: &Path) -> PathBuf {
    let place = state.join(DIRECTORY);
    if state.join(VALUES).is_file() && !place.join(VALUES).exists() { state.to_owned() } else { place }
}

/// Makes the store's directory, and moves there what an earlier version has left in the state directory itself.
///
/// # Errors
/// [`StoreError::Io`].
pub fn settle(state: &Path) -> Result<PathBuf, StoreError> {
    let (old, new) = (place(state), state.join(DIRECTORY));
    let io = |source| StoreError::Io { path: new.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(&new).map_err(io)?;
    if old != new {
        // The values go last: as long as they are in the old place, that counts.
        for name in [LOCK, KEY, VALUES] {
            match std::fs::rename(old.join(name), new.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
    }
    Ok(new)
}

/// Why the store cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// There is no key.
    #[error("the key {} of the secrets store is missing; restore it, or delete the store and set its secrets again", .0.display())]
    NoKey(PathBuf),
    /// The key may be read by others.
    #[error("{} may be read or written by others (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key belongs to somebody else.
    #[error("{} belongs to user {owner}, not to the runner's user or root", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Not a key.
    #[error("{} is not a key: 32 bytes, or 64 hexadecimal digits", .0.display())]
    Key(PathBuf),
    /// The file is not in our format.
    #[error("{}, line {line}: not a secrets store of format {FORMAT}; restore the file from a copy", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The value does not open with this key.
    #[error("the value of {path} does not open: the key is another one, or the file was altered")]
    Sealed {
        /// The secret.
        path: SecretPath,
    },
    /// What is in it is no secret.
    #[error("the value of {path} cannot be a secret: {why}")]
    Invalid {
        /// The secret.
        path: SecretPath,
        /// Why.
        why: InvalidSecret,
    },
    /// The file is too long.
    #[error("{} would be larger than {MAX_FILE} bytes; remove secrets that are not used", .0.display())]
    Full(PathBuf),
    /// No randomness.
    #[error("the operating system gives no random bytes: {0}")]
    Random(String),
}

/// The store's file and where its key is. Nothing is kept in memory between two calls.
#[derive(Debug, Clone)]
pub struct Store {
    file: PathBuf,
    key: KeySource,
}

type Sealed = BTreeMap<SecretPath, Vec<u8>>;

impl Store {
    /// A store in `file`; it comes into being with the first [`set`](Self::set).
    pub fn new(file: &Path, key: KeySource) -> Self {
        Self { file: file.to_owned(), key }
    }

    /// Puts `value` at `path`, over an older one. Blocks on the disk.
    pub fn set(&self, path: &SecretPath, value: &SecretValue) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let mut entries = self.entries()?;
        let cipher = self.cipher(entries.is_empty())?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| StoreError::Random(error.to_string()))?;
        let aad = associated(path);
        let payload = Payload { msg: value.expose(), aad: aad.as_bytes() };
        let ciphertext = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| StoreError::Sealed { path: path.clone() })?;
        entries.insert(path.clone(), [nonce.as_slice(), &ciphertext].concat());
        self.write(&entries)
    }

    /// The paths in order. Needs no key. Blocks on the disk.
    pub fn list(&self) -> Result<Vec<SecretPath>, StoreError> {
        Ok(self.entries()?.into_keys().collect())
    }

    /// Removes the secret at `path`; false if there was none. Blocks on the disk.
    pub fn remove(&self, path: &SecretPath) -> Result<bool, StoreError> {
        let _lock = self.lock()?;
        let mut entries = self.entries()?;
        let found = entries.remove(path).is_some();
        if found {
            self.write(&entries)?;
        }
        Ok(found)
    }

    /// The value at `path`, if there is one. Blocks on the disk.
    pub fn get(&self, path: &SecretPath) -> Result<Option<SecretValue>, StoreError> {
        let Some(sealed) = self.entries()?.remove(path) else { return Ok(None) };
        let altered = || StoreError::Sealed { path: path.clone() };
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE).ok_or_else(altered)?;
        let nonce = <[u8; NONCE]>::try_from(nonce).map_err(|_| altered())?;
        // In place, so that the plaintext exists only in bytes that are overwritten.
        let mut value = Zeroizing::new(ciphertext.to_vec());
        self.cipher(false)?
            .decrypt_in_place(&XNonce::from(nonce), associated(path).as_bytes(), &mut *value)
            .map_err(|_| altered())?;
        SecretValue::from_zeroizing(value)
            .map(Some)
            .map_err(|why| StoreError::Invalid { path: path.clone(), why })
    }

    fn io(&self, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    }

    /// Held while the file is changed: two `secret set` at once must not lose one.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.file.with_extension("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(self.io(&path))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| self.io(&path)(error.into()))?;
        Ok(file)
    }

    fn entries(&self) -> Result<Sealed, StoreError> {
        let mut text = String::new();
        match File::open(&self.file) {
            Ok(file) => {
                let read = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(self.io(&self.file))?;
                if read as u64 > MAX_FILE {
                    return Err(StoreError::Full(self.file.clone()));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Sealed::new()),
            Err(error) => return Err(self.io(&self.file)(error)),
        }
        let bad = |line: usize| StoreError::Format { path: self.file.clone(), line };
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(first, _)| first != FORMAT) {
            return Err(bad(1));
        }
        lines
            .map(|(line, number)| {
                let (path, sealed) = line.split_once(' ').ok_or_else(|| bad(number))?;
                let path = SecretPath::new(path).map_err(|_| bad(number))?;
                Ok((path, STANDARD.decode(sealed).map_err(|_| bad(number))?))
            })
            .collect()
    }

    /// Replaces the file as a whole: a crash leaves the old one or the new one.
    fn write(&self, entries: &Sealed) -> Result<(), StoreError> {
        let mut text = format!("{FORMAT}\n");
        for (path, sealed) in entries {
            text.push_str(&format!("{path} {}\n", STANDARD.encode(sealed)));
        }
        if text.len() as u64 > MAX_FILE {
            return Err(StoreError::Full(self.file.clone()));
        }
        replace(&self.file, text.as_bytes()).map_err(self.io(&self.file))
    }

    fn cipher(&self, may_make: bool) -> Result<XChaCha20Poly1305, StoreError> {
        let (path, ours) = match &self.key {
            KeySource::File(path) => (path, true),
            KeySource::Credential(path) => (path, false),
        };
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default())
            .open(path);
        let key = match opened {
            Ok(file) => read_key(path, file, ours)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !(ours && may_make) {
                    return Err(StoreError::NoKey(path.clone()));
                }
                let mut key = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *key).map_err(|error| StoreError::Random(error.to_string()))?;
                let mut text = Zeroizing::new(vec![0; 65]);
                data_encoding::HEXLOWER.encode_mut(&*key, &mut text[..64]);
                text[64] = b'\n';
                replace(path, &text).map_err(self.io(path))?;
                key
            }
            Err(error) => return Err(self.io(path)(error)),
        };
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }
}

fn read_key(path: &Path, file: File, ours: bool) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(StoreError::Key(path.to_owned()));
    }
    // A credential's mode is systemd's affair; a file of ours must be ours alone.
    if ours {
        let owner = metadata.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(StoreError::Owner { path: path.to_owned(), owner });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Mode { path: path.to_owned(), mode });
        }
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(128));
    file.take(100).read_to_end(&mut bytes).map_err(io)?;
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() == key.len() {
        key.copy_from_slice(&bytes);
        return Ok(key);
    }
    let text = bytes.trim_ascii_end();
    match data_encoding::HEXLOWER_PERMISSIVE.decode_len(text.len()) {
        Ok(32) if data_encoding::HEXLOWER_PERMISSIVE.decode_mut(text, &mut *key).is_ok() => Ok(key),
        _ => Err(StoreError::Key(path.to_owned())),
    }
}

fn associated(path: &SecretPath) -> String {
    format!("{FORMAT} {path}")
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // `tempfile` makes it with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

#[async_trait]
impl Resolve for Store {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        let place = || "the runner's secrets store".to_owned();
        let unreadable = |why: String| SecretError::Unreadable { path: path.clone(), place: place(), why };
        let (store, wanted) = (self.clone(), path.clone());
        match tokio::task::spawn_blocking(move || store.get(&wanted)).await {
            Ok(Ok(Some(value))) => Ok(value),
            Ok(Ok(None)) => Err(SecretError::Missing {
                path: path.clone(),
                place: place(),
                remedy: format!("run `remit-runner secret set {path}` on the runner's host"),
            }),
            Ok(Err(StoreError::Invalid { path, why })) => {
                Err(SecretError::Invalid { path, place: place(), why })
            }
            Ok(Err(error)) => Err(unreadable(error.to_string())),
            Err(_) => Err(unreadable("the runner is stopping".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store(root: &Path) -> Store {
        Store::new(&root.join("secrets"), KeySource::File(root.join("secrets.key")))
    }

    fn path(text: &str) -> SecretPath {
        SecretPath::new(text).unwrap()
    }

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.as_bytes().to_vec()).ok().unwrap()
    }

    fn found(store: &Store, name: &str) -> Option<String> {
        let value = store.get(&path(name)).unwrap();
        value.map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
    }

    #[test]
    fn a_store_of_an_earlier_version_is_moved_whole() {
        let state = tempfile::tempdir().unwrap();
        let at = |folder: &Path| Store::new(&folder.join(VALUES), KeySource::File(folder.join(KEY)));
        let (path, value) = (SecretPath::new("keys/a").unwrap(), SecretValue::new(b"long enough".to_vec()));
        at(state.path()).set(&path, &value.ok().unwrap()).unwrap();
        assert_eq!(place(state.path()), state.path());
        let settled = settle(state.path()).unwrap();
        assert_eq!((settle(state.path()).unwrap(), place(state.path())), (settled.clone(), settled.clone()));
        assert_eq!(at(&settled).get(&path).unwrap().unwrap().expose(), b"long enough");
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1, "only the store's own directory");
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(place(empty.path()), settle(empty.path()).unwrap());
    }

    #[test]
    fn secrets_are_set_listed_rotated_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        assert_eq!(store.list().unwrap(), []);
        assert_eq!(found(&store, "keys/b"), None);
        store.set(&path("keys/b"), &value("first value")).unwrap();
        store.set(&path("keys/a"), &value("other value")).unwrap();
        store.set(&path("keys/b"), &value("second value")).unwrap();
        assert_eq!(store.list().unwrap(), [path("keys/a"), path("keys/b")]);
        assert_eq!(found(&store, "keys/b").as_deref(), Some("second value"));
        assert!(store.remove(&path("keys/b")).unwrap());
        assert!(!store.remove(&path("keys/b")).unwrap());
        assert_eq!(found(&store, "keys/b"), None);
        assert_eq!(found(&store, "keys/a").as_deref(), Some("other value"));
    }

    #[test]
    fn the_files_are_private_and_hold_no_plaintext() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        store.set(&path("keys/a"), &value("a very plain value")).unwrap();
        for name in ["secrets", "secrets.key"] {
            let file = root.path().join(name);
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(5).any(|window| window == b"plain"), "{name}");
        }
    }

    #[test]
    fn a_moved_or_altered_value_does_not_open() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        store.set(&path("keys/a"), &value("value of a")).unwrap();
        store.set(&path("keys/b"), &value("value of b")).unwrap();
        let file = root.path().join("secrets");
        let text = std::fs::read_to_string(&file).unwrap();
        let swapped =
            text.replace("keys/a", "keys/x").replace("keys/b", "keys/a").replace("keys/x", "keys/b");
        std::fs::write(&file, swapped).unwrap();
        assert!(matches!(store.get(&path("keys/a")), Err(StoreError::Sealed { .. })));
        std::fs::write(&file, text.replace("remit-secrets/v1", "remit-secrets/v2")).unwrap();
        assert!(matches!(store.list(), Err(StoreError::Format { line: 1, .. })));
        std::fs::write(&file, format!("{text}keys/c not base64\n")).unwrap();
        assert!(matches!(store.list(), Err(StoreError::Format { line: 4, .. })));
    }

    #[test]
    fn the_key_has_to_be_ours_alone() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        store.set(&path("keys/a"), &value("value of a")).unwrap();
        let key = root.path().join("secrets.key");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(store.get(&path("keys/a")), Err(StoreError::Mode { mode: 0o640, .. })));
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(found(&store, "keys/a").as_deref(), Some("value of a"));
        std::fs::write(&key, "too short").unwrap();
        assert!(matches!(store.get(&path("keys/a")), Err(StoreError::Key(_))));
        std::fs::remove_file(&key).unwrap();
        // A new key would make the old values unreadable without anybody noticing.
        assert!(matches!(store.set(&path("keys/b"), &value("value of b")), Err(StoreError::NoKey(_))));
    }

    #[test]
    fn a_credential_is_never_made() {
        let root = tempfile::tempdir().unwrap();
        let credential = root.path().join("credential");
        let store = Store::new(&root.path().join("secrets"), KeySource::Credential(credential.clone()));
        assert!(matches!(store.set(&path("keys/a"), &value("value of a")), Err(StoreError::NoKey(_))));
        std::fs::write(&credential, [7; 32]).unwrap();
        store.set(&path("keys/a"), &value("value of a")).unwrap();
        assert_eq!(found(&store, "keys/a").as_deref(), Some("value of a"));
    }

    #[tokio::test]
    async fn rotation_needs_no_restart() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let error = store.resolve(&path("keys/a")).await.err().unwrap().to_string();
        assert!(error.contains("remit-runner secret set keys/a"), "{error}");
        for text in ["first value", "second value"] {
            self::store(root.path()).set(&path("keys/a"), &value(text)).unwrap();
            assert_eq!(store.resolve(&path("keys/a")).await.ok().unwrap().expose(), text.as_bytes());
        }
    }
}
