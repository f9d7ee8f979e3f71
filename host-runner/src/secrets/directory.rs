//! The provider `directory`: one file a secret, as systemd credentials and Kubernetes mounts lay them out.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions, OpenOptionsExt},
};
use remit_protocol::{SecretPath, limits::MAX_SECRET};
use zeroize::Zeroizing;

use super::{Resolve, SecretError, SecretValue, trim_newline};

/// A directory whose file `a/b` is the secret `<mount>/a/b`.
///
/// Symbolic links are followed inside the directory only (Kubernetes uses them to swap versions); nothing outside can be
/// reached, and only regular files are read.
pub struct Directory {
    mount: String,
    root: PathBuf,
}

impl Directory {
    /// Looks the secrets below `mount` up in `root`. Opened anew at each use, so that a remounted directory is seen.
    pub fn new(mount: &str, root: &Path) -> Self {
        Self { mount: mount.to_owned(), root: root.to_owned() }
    }

    fn read(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        let place = || format!("the directory {}", self.root.display());
        let unreadable = |why: String| SecretError::Unreadable { path: path.clone(), place: place(), why };
        let missing = |relative: &str| SecretError::Missing {
            path: path.clone(),
            place: place(),
            remedy: format!("put its value into the file {}", self.root.join(relative).display()),
        };
        let relative = path
            .as_str()
            .strip_prefix(&self.mount)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| SecretError::NoProvider { path: path.clone() })?;
        let root = Dir::open_ambient_dir(&self.root, ambient_authority())
            .map_err(|error| unreadable(error.to_string()))?;
        // Without O_NONBLOCK a named pipe in the directory would hold the reader for ever.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits();
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(i32::try_from(nonblock).unwrap_or_default());
        let file = match root.open_with(relative, &options) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(relative)),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
        if !metadata.is_file() {
            return Err(unreadable("it is not a regular file".to_owned()));
        }
        // The whole capacity at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 4));
        file.take(MAX_SECRET as u64 + 3)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(error.to_string()))?;
        trim_newline(&mut bytes);
        SecretValue::from_zeroizing(bytes).map_err(|why| SecretError::Invalid {
            path: path.clone(),
            place: place(),
            why,
        })
    }
}

#[async_trait]
impl Resolve for Directory {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        let (wanted, directory) = (path.clone(), Self { mount: self.mount.clone(), root: self.root.clone() });
        match tokio::task::spawn_blocking(move || directory.read(&wanted)).await {
            Ok(result) => result,
            Err(_) => Err(SecretError::Unreadable {
                path: path.clone(),
                place: format!("the directory {}", self.root.display()),
                why: "the runner is stopping".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(root: &Path, path: &str) -> Result<String, String> {
        Directory::new("keys/k8s", root)
            .read(&SecretPath::new(path).unwrap())
            .map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_secrets() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("..v1/sub")).unwrap();
        std::fs::write(root.path().join("..v1/token"), "value-one\n").unwrap();
        std::fs::write(root.path().join("..v1/sub/deep"), "value-two").unwrap();
        std::fs::write(root.path().join("short"), "1234567\n").unwrap();
        std::fs::write(root.path().join("long"), vec![b'x'; MAX_SECRET + 2]).unwrap();
        symlink("..v1", root.path().join("..data")).unwrap();
        symlink("..data/token", root.path().join("token")).unwrap();
        symlink("..data/sub", root.path().join("sub")).unwrap();
        assert_eq!(found(root.path(), "keys/k8s/token").unwrap(), "value-one");
        assert_eq!(found(root.path(), "keys/k8s/sub/deep").unwrap(), "value-two");
        assert!(found(root.path(), "keys/k8s/short").unwrap_err().contains("7 bytes"));
        assert!(found(root.path(), "keys/k8s/long").unwrap_err().contains("at most"));
        assert!(found(root.path(), "keys/k8s/absent").unwrap_err().contains("put its value into"));
        assert!(found(root.path(), "keys/other/token").unwrap_err().contains("no secrets provider"));
    }

    #[test]
    fn nothing_outside_the_directory_and_no_special_file_is_read() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("token"), "not-for-you").unwrap();
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path().join("token"), root.path().join("token")).unwrap();
        symlink(outside.path(), root.path().join("dir")).unwrap();
        symlink("../", root.path().join("up")).unwrap();
        std::fs::create_dir(root.path().join("folder")).unwrap();
        let pipe = root.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in ["token", "dir/token", "up/x", "folder", "pipe"] {
            let error = found(root.path(), &format!("keys/k8s/{path}")).unwrap_err();
            assert!(error.contains("could not be read"), "{path}: {error}");
        }
    }
}
