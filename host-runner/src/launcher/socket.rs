//! Connections to the sockets of this host's daemons that the owner's file names.
//!
//! A broker has no sockets but those of the network, so that the launcher connects for it and hands over the connection.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use tokio::net::UnixStream;

/// Connects to the socket at `path`, on which no link may be.
///
/// The socket is opened first, and it is that one to which the connection goes: what stands at the path later does not count.
///
/// # Errors
/// It is not there, it is reached by a link, it is no socket, or nobody listens or may be called there.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = open(path)?;
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    match FileType::from_raw_mode(fstat(&found)?.st_mode) {
        FileType::Socket => Ok(found),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no socket")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[tokio::test]
    async fn only_the_socket_itself_is_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let listener = UnixListener::bind(root.join("a.sock")).unwrap();
        drop(UnixListener::bind(root.join("dead.sock")).unwrap());
        std::fs::write(root.join("file"), "x").unwrap();
        symlink("a.sock", root.join("linked.sock")).unwrap();
        symlink(&root, root.join("linked")).unwrap();
        let check = async |name: &str, expect: Result<(), Option<io::ErrorKind>>| {
            let found = connect(&root.join(name)).await;
            match (&found, expect) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(kind)) => {
                    assert!(kind.is_none_or(|kind| error.kind() == kind), "{name}: {error}");
                }
                _ => panic!("{name}: {found:?}"),
            }
        };
        check("a.sock", Ok(())).await;
        assert!(listener.accept().is_ok());
        check("linked.sock", Err(None)).await;
        check("linked/a.sock", Err(None)).await;
        check("none.sock", Err(Some(io::ErrorKind::NotFound))).await;
        check("dead.sock", Err(Some(io::ErrorKind::ConnectionRefused))).await;
        check("file", Err(Some(io::ErrorKind::InvalidInput))).await;
    }
}
