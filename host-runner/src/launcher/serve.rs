//! The launcher process: it starts what its clients order and its catalogue permits, and outlives them for as long as
//! clearing up takes.

use std::{
    future::Future,
    io,
    os::fd::{AsFd as _, OwnedFd},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use zeroize::Zeroizing;

use super::{
    Catalogue, Client, Program,
    catalogue::Wanted,
    group::Group,
    socket,
    streams::Ends,
    wire::{self, Answer, Wish},
};

/// What the launcher was told when it began.
struct Book {
    catalogue: Catalogue,
    /// What each broker begins with: the owner's file, and secrets that came in the runner's environment.
    charter: Zeroizing<Vec<u8>>,
}

/// Serves the runner at the other end of `socket` until that is gone; then everything that was started is ended.
///
/// # Errors
/// There is no runtime, or the socket is none, or nobody says at it what this launcher is for.
pub fn serve(socket: OwnedFd) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut socket = stream(socket.into())?;
        let (catalogue, client, charter) = wire::instructed(&mut socket).await?;
        let book = Arc::new(Book { catalogue, charter });
        // A service manager tells every process of a unit to end. The runner decides when programs end, and then this does.
        let mut told = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut attended = std::pin::pin!(attend(socket, client, book));
        loop {
            tokio::select! {
                () = &mut attended => return Ok(()),
                _ = told.recv() => {}
                _ = interrupted.recv() => {}
            }
        }
    })
}

fn stream(socket: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// One client, until it is gone and nothing that it ordered is running any more.
async fn attend(socket: UnixStream, client: Client, book: Arc<Book>) {
    let mut programs = JoinSet::new();
    loop {
        tokio::select! {
            received = wire::receive_wish(&socket) => match received {
                Ok(Some(Wish::Program(control, ends))) => {
                    programs.spawn(program(control, ends, client, Arc::clone(&book)));
                }
                Ok(Some(Wish::Connection(control))) => {
                    programs.spawn(connection(control, client, Arc::clone(&book)));
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, ?client, "the launcher does not hear a client any more");
                    break;
                }
            },
            Some(_) = programs.join_next() => {}
        }
    }
    drop(socket);
    while programs.join_next().await.is_some() {}
}

/// How long a daemon may take to let somebody connect.
const CONNECTING: Duration = Duration::from_secs(10);

/// One connection to a daemon of this host, until it is handed over.
async fn connection(control: OwnedFd, client: Client, book: Arc<Book>) {
    let served = match stream(control.into()) {
        Ok(mut control) => call(&mut control, client, &book).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection was given up");
    }
}

async fn call(control: &mut UnixStream, client: Client, book: &Book) -> io::Result<()> {
    let path = wire::receive_socket(control).await?;
    let connected = if book.catalogue.connects(client, &path) {
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
        tokio::time::timeout(CONNECTING, socket::connect(&path)).await.unwrap_or_else(late)
    } else {
        Err(io::Error::other(
            "the launcher does not connect there: runner.toml did not name it when the runner began",
        ))
    };
    match connected {
        Ok(connection) => wire::send_connection(control, connection.as_fd()).await,
        Err(error) => {
            wire::send_no_connection(control).await?;
            let failed = Answer::Failed { code: error.raw_os_error(), message: error.to_string() };
            wire::answer(control, &failed).await
        }
    }
}

/// One program, from its order to the end of its whole group.
async fn program(control: OwnedFd, ends: Ends, client: Client, book: Arc<Book>) {
    let served = match stream(control.into()) {
        Ok(mut control) => run(&mut control, ends, client, book).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a program was given up");
    }
}

async fn run(control: &mut UnixStream, mut ends: Ends, client: Client, book: Arc<Book>) -> io::Result<()> {
    let (program, directory) = wire::receive_order(control).await?;
    let wanted = Wanted {
        path: &program.path,
        arguments: &program.arguments,
        environment: &program.environment,
        secret: program.secret.as_ref().map(|(given, _)| given.variable()),
        directory: &directory,
    };
    if !book.catalogue.permits(client, wanted) {
        return wire::answer(control, &refused(&program)).await;
    }
    let line = if book.catalogue.is_broker(wanted) { Some(broker_line(&mut ends)?) } else { None };
    let group = match Group::start(&program, &directory, ends) {
        Ok(group) => group,
        Err(error) => {
            let failed = Answer::Failed { code: error.raw_os_error(), message: error.to_string() };
            return wire::answer(control, &failed).await;
        }
    };
    drop(program);
    let life = async {
        let told = tell(control, &group).await;
        // Whatever the client heard: the program ends when the client has closed its side, or is gone.
        group.end().await;
        told
    };
    match line {
        Some(line) => tokio::join!(life, serve_broker(line, book)).0,
        None => life.await,
    }
}

fn refused(program: &Program) -> Answer {
    let message = format!(
        "the launcher does not start {} so: runner.toml did not list it when the runner began",
        program.path.display()
    );
    Answer::Failed { code: None, message }
}

/// The launcher's own line to a broker that it is about to start; the broker's end is its standard output.
fn broker_line(ends: &mut Ends) -> io::Result<UnixStream> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    let [_, output, _] = ends;
    *output = far.into();
    stream(near)
}

/// A broker orders programs in its turn. It is a client like any other, and serves in one more turn of the same functions.
fn serve_broker(mut line: UnixStream, book: Arc<Book>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        // One that is gone at once is told of by how its process ended.
        if wire::send(&mut line, &book.charter).await.is_ok() {
            attend(line, Client::Broker, book).await;
        }
    })
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
