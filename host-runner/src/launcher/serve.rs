//! The launcher process: it starts what the runner orders, and outlives it for as long as clearing up takes.

use std::{io, os::fd::OwnedFd};

use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use super::{
    group::Group,
    streams::Ends,
    wire::{self, Answer},
};

/// Serves the runner at the other end of `socket` until that is gone; then everything that was started is ended.
///
/// # Errors
/// There is no runtime, or the socket is none.
pub fn serve(socket: OwnedFd) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        // A service manager tells every process of a unit to end. The runner decides when programs end, and then this does.
        let mut told = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut programs = JoinSet::new();
        loop {
            tokio::select! {
                received = wire::receive_descriptors(&socket) => match received {
                    Ok(Some((control, ends))) => {
                        programs.spawn(program(control, ends));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "the launcher cannot go on");
                        break;
                    }
                },
                Some(_) = programs.join_next() => {}
                _ = told.recv() => {}
                _ = interrupted.recv() => {}
            }
        }
        while programs.join_next().await.is_some() {}
        Ok(())
    })
}

/// One program, from its order to the end of its whole group.
async fn program(control: OwnedFd, ends: Ends) {
    let control = std::os::unix::net::UnixStream::from(control);
    let served = match UnixStream::from_std(control) {
        Ok(mut control) => attend(&mut control, ends).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a program was given up");
    }
}

async fn attend(control: &mut UnixStream, ends: Ends) -> io::Result<()> {
    let (program, directory) = wire::receive_order(control).await?;
    let group = match Group::start(&program, &directory, ends) {
        Ok(group) => group,
        Err(error) => {
            let failed = Answer::Failed { code: error.raw_os_error(), message: error.to_string() };
            return wire::answer(control, &failed).await;
        }
    };
    drop(program);
    let told = tell(control, &group).await;
    // Whatever the runner heard: the program ends when the runner has closed its side, or is gone.
    group.end().await;
    told
}

/// Tells of the start and of the end, and waits until the other side is closed.
async fn tell(control: &mut UnixStream, group: &Group) -> io::Result<()> {
    wire::answer(control, &Answer::Started).await?;
    let mut byte = [0];
    tokio::select! {
        exit = group.exited() => wire::answer(control, &Answer::Ended(exit?)).await?,
        _ = control.read(&mut byte) => return Ok(()),
    }
    let _ = control.read(&mut byte).await;
    Ok(())
}
