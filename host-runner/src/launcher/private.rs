//! A secret as a file that one program has, and nobody else.
//!
//! The file has no name and is on no disk: it is memory behind a descriptor that the program is born with, and is gone with the
//! last process that holds it. The program finds it by a path in a variable.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create},
    io::{FdFlags, fcntl_setfd},
};
use tokio::process::Command;

use crate::secrets::SecretValue;

/// Gives the program that `command` will start a file with `value`, to which the variable `name` leads. What comes back is
/// to be held until the program was started.
pub(super) fn give(command: &mut Command, name: &str, value: &SecretValue) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("secret", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(value.expose())?;
    // For the owner to read; and for nobody to change, not even for the owner.
    fchmod(&file, Mode::RUSR)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    let file = OwnedFd::from(file);
    let number = file.as_raw_fd();
    // Opened by its path it is read from the beginning, whatever others have read.
    command.env(name, format!("/proc/self/fd/{number}"));
    let keep = move || {
        #[expect(unsafe_code, reason = "the child has the descriptors of its parent, by their numbers")]
        // SAFETY: the parent holds the descriptor until the child was started, and nobody closes it in between.
        let own = unsafe { BorrowedFd::borrow_raw(number) };
        Ok(fcntl_setfd(own, FdFlags::empty())?)
    };
    #[expect(unsafe_code, reason = "the one way to hand a descriptor over to one program and to no other")]
    // SAFETY: between fork and exec it makes one system call, which neither allocates nor locks.
    unsafe {
        command.pre_exec(keep)
    };
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use remit_protocol::capability::exec::Given;

    use super::super::{Exit, Launch as _, Local, Program, Running, Source};
    use super::*;

    async fn text(mut running: Box<dyn Running>) -> String {
        let mut all = Vec::new();
        while let Some((source, piece)) = running.read().await.unwrap() {
            assert_eq!(source, Source::Output, "{}", String::from_utf8_lossy(&piece));
            all.extend(piece);
        }
        assert_eq!(running.wait().await.unwrap(), Exit::Code(0));
        String::from_utf8(all).unwrap()
    }

    fn script(text: &str, secret: Option<&str>) -> Program {
        let value = |value: &str| SecretValue::new(value.as_bytes().to_vec()).unwrap();
        Program {
            path: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".to_owned(), text.to_owned()],
            environment: BTreeMap::new(),
            secret: secret.map(|secret| (Given::File("TOKEN_FILE".to_owned()), value(secret))),
            directory: None,
            stdin: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_program_reads_its_file_as_often_as_it_wants_and_cannot_change_it() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Local::new(folder.path().to_owned());
        let reads = "cat \"$TOKEN_FILE\"; echo; head -c 4 \"$TOKEN_FILE\"; echo; stat -L -c %a \"$TOKEN_FILE\"; \
                     (echo worse > \"$TOKEN_FILE\") 2>/dev/null || echo kept; cat \"$TOKEN_FILE\"";
        let running = launch.start(script(reads, Some("a long value"))).await.unwrap();
        assert_eq!(text(running).await, "a long value\na lo\n400\nkept\na long value");
        launch.idle().await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is on disk");
    }

    #[tokio::test]
    async fn nobody_else_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Local::new(folder.path().to_owned());
        let holding = "printf held; exec sleep 60";
        let mut first = launch.start(script(holding, Some("a long value"))).await.unwrap();
        assert_eq!(first.read().await.unwrap().unwrap().1, b"held");
        // A program that is started meanwhile has its standard streams and what it opened to look.
        let others = launch
            .start(script("for fd in /proc/self/fd/*; do readlink \"$fd\"; done; true", None))
            .await
            .unwrap();
        assert!(!text(others).await.contains("memfd:secret"));
        drop(first);
        launch.idle().await;
    }
}
