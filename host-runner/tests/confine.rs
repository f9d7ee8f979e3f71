//! A guest that has taken over the runner's process altogether: what is left to it below the sandbox.
//!
//! The test starts itself again; the child confines itself as the runner does and then tries everything in [`PROBES`].
//! It has a `main` of its own, since a filter of system calls holds for a whole process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the child tells the parent")]
#![expect(clippy::disallowed_methods, reason = "the attacker starts programs and listens")]

use std::{
    fs,
    io::{Error, ErrorKind},
    net::{TcpListener, TcpStream, ToSocketAddrs as _},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
};

use remit_runner::confine::{self, Confinement, Part, Ports, Reach};

/// Where things are, for parent and child.
struct Scene {
    folder: PathBuf,
    port: u16,
    parent: i32,
}

impl Scene {
    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn outside(&self) -> PathBuf {
        self.folder.join("outside")
    }
}

type Probe = (&'static str, bool, fn(&Scene) -> Result<(), Error>);

/// What is tried, and whether it has to succeed.
const PROBES: &[Probe] = &[
    ("read the state", true, |scene| fs::read(scene.state().join("file")).map(drop)),
    ("write the state", true, |scene| fs::write(scene.state().join("new"), "x")),
    ("rename in the state", true, |scene| fs::rename(scene.state().join("new"), scene.state().join("newer"))),
    ("read the host's configuration", true, |_| fs::read("/etc/passwd").map(drop)),
    ("start a thread", true, |_| std::thread::spawn(|| ()).join().map_err(|_| ErrorKind::Other.into())),
    ("resolve a name", true, |_| ("localhost", 1).to_socket_addrs().map(drop)),
    ("call out", true, |scene| TcpStream::connect(("127.0.0.1", scene.port)).map(drop)),
    ("start a program", false, |_| Command::new("/bin/true").status().map(drop)),
    ("start a program that it wrote", false, |scene| {
        fs::copy("/bin/true", scene.state().join("true"))?;
        Command::new(scene.state().join("true")).status().map(drop)
    }),
    ("read a foreign file", false, |scene| fs::read(scene.outside().join("file")).map(drop)),
    ("list a foreign directory", false, |scene| fs::read_dir(scene.outside()).map(drop)),
    ("write a foreign file", false, |scene| fs::write(scene.outside().join("file"), "x")),
    ("make a foreign file", false, |scene| fs::write(scene.outside().join("new"), "x")),
    ("write the host's configuration", false, |_| {
        fs::OpenOptions::new().append(true).open("/etc/passwd").map(drop)
    }),
    ("read another user's home", false, |_| fs::read_dir("/root").map(drop)),
    ("move the state away", false, |scene| {
        fs::rename(scene.state().join("file"), scene.outside().join("moved"))
    }),
    ("link a foreign file into the state", false, |scene| {
        fs::hard_link(scene.outside().join("file"), scene.state().join("linked"))
    }),
    ("listen on a port", false, |_| TcpListener::bind("127.0.0.1:0").map(drop)),
    ("listen on a socket in the state", false, |scene| {
        UnixListener::bind(scene.state().join("socket")).map(drop)
    }),
    ("trace the parent", false, |scene| {
        call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.cast_signed().into(), scene.parent.into(), 0, 0])
    }),
    ("read the parent's memory", false, |scene| {
        call(libc::SYS_process_vm_readv, [scene.parent.into(), 0, 0, 0])
    }),
    ("signal the parent", false, |scene| call(libc::SYS_kill, [scene.parent.into(), 0, 0, 0])),
    ("make namespaces", false, |_| call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0])),
    ("enter a namespace", false, |_| call(libc::SYS_setns, [0, 0, 0, 0])),
    ("mount", false, |_| call(libc::SYS_mount, [0, 0, 0, 0])),
    ("change its root", false, |_| call(libc::SYS_chroot, [0, 0, 0, 0])),
    ("become another user", false, |_| call(libc::SYS_setuid, [0, 0, 0, 0])),
    ("set up io_uring", false, |_| call(libc::SYS_io_uring_setup, [1, 0, 0, 0])),
    ("load a program into the kernel", false, |_| call(libc::SYS_bpf, [0, 0, 0, 0])),
    ("watch the processor", false, |_| call(libc::SYS_perf_event_open, [0, 0, 0, 0])),
    ("handle page faults", false, |_| call(libc::SYS_userfaultfd, [0, 0, 0, 0])),
    ("read the kernel's keys", false, |_| call(libc::SYS_keyctl, [0, 0, 0, 0])),
    ("set the clock", false, |_| call(libc::SYS_clock_settime, [0, 0, 0, 0])),
];

/// Makes a system call; only a refusal for want of permission counts as one, not one for a bad argument.
#[expect(unsafe_code, reason = "the attacker speaks to the kernel directly")]
fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> Result<(), Error> {
    let [a, b, c, d] = arguments;
    // SAFETY: no argument is an address that the kernel could write to; the child has nothing to lose.
    let result = unsafe { libc::syscall(number, a, b, c, d) };
    match Error::last_os_error() {
        error if result == -1 && error.raw_os_error() == Some(libc::EPERM) => Err(error),
        _ => Ok(()),
    }
}

fn child(scene: &Scene) {
    let mut reach = Reach { write: vec![scene.state()], read: Vec::new(), ports: Ports::All };
    reach.read.extend(["/etc", "/usr", "/lib", "/lib64", "/proc"].map(PathBuf::from));
    confine::confine(Part::Supervisor, &reach, Confinement::Required, |_| {}).unwrap();
    for (name, _, probe) in PROBES {
        match probe(scene) {
            Ok(()) => println!("yes\t{name}"),
            Err(error) => println!("no\t{name}\t{error}"),
        }
    }
}

fn parent() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["state", "outside"] {
        fs::create_dir(folder.path().join(part)).unwrap();
        fs::write(folder.path().join(part).join("file"), "content").unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([folder.path(), Path::new(&port), Path::new(&std::process::id().to_string())])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), PROBES.len(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for ((name, allowed, _), line) in PROBES.iter().zip(&lines) {
        assert_eq!(line[1], *name);
        assert_eq!(line[0] == "yes", *allowed, "{name}: {line:?}");
    }
    assert_eq!(fs::read(folder.path().join("outside/file")).unwrap(), b"content");
    println!("confine: {} probes, as expected", PROBES.len());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [folder, port, parent] if Path::new(folder).is_absolute() => child(&Scene {
            folder: folder.into(),
            port: port.parse().unwrap(),
            parent: parent.parse().unwrap(),
        }),
        _ => parent(),
    }
}
