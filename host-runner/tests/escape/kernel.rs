//! What a worker that was taken over asks of the kernel.

#![expect(clippy::disallowed_methods, reason = "the attacker starts programs and listens")]

use std::{
    fs,
    io::{Error, ErrorKind},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use remit_runner::conformance::bench::Bench;
use serde_json::json;

use crate::{Expect, check, wire::Worker};

/// What must come of a probe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It works: workers need it.
    Works,
    /// The kernel says no.
    Refused,
    /// The process ends at once.
    Dies,
}

use End::{Dies, Refused, Works};

/// Where things are.
pub(crate) struct Scene {
    supervisor: i64,
    /// The address of something in the supervisor's memory.
    memory: i64,
    port: u16,
    folder: PathBuf,
    scratch: PathBuf,
}

type Probe = (&'static str, End, fn(&Scene) -> Result<(), Error>);

/// Of a worker without any file.
pub(crate) const PROBES: &[Probe] = &[
    ("use memory", Works, |_| {
        drop(std::hint::black_box(vec![1u8; 64 << 20]));
        Ok(())
    }),
    ("start a thread", Works, |_| std::thread::spawn(|| ()).join().map_err(|_| ErrorKind::Other.into())),
    ("wait", Works, |_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        Ok(())
    }),
    ("take random bytes", Works, |_| call(libc::SYS_getrandom, [bytes(), 16, 0, 0, 0, 0])),
    // Files.
    ("read the host's configuration", Refused, |_| fs::read("/etc/passwd").map(drop)),
    ("read a foreign file", Refused, |scene| fs::read(scene.folder.join("closed")).map(drop)),
    ("read a file of the remit without asking", Refused, |scene| {
        fs::read(scene.folder.join("open")).map(drop)
    }),
    ("look whether a file is there", Refused, |_| fs::metadata("/etc/passwd").map(drop)),
    ("list a directory", Refused, |_| fs::read_dir("/").map(drop)),
    ("make a file", Refused, |scene| fs::write(scene.folder.join("new"), "x")),
    ("remove a file", Refused, |scene| fs::remove_file(scene.folder.join("open"))),
    ("rename a file", Refused, |scene| fs::rename(scene.folder.join("open"), scene.folder.join("moved"))),
    ("change its directory", Refused, |_| std::env::set_current_dir("/etc")),
    ("make a file without a name", Refused, |_| call(libc::SYS_memfd_create, [bytes(), 0, 0, 0, 0, 0])),
    ("read its own maps", Refused, |_| fs::read("/proc/self/maps").map(drop)),
    ("read the supervisor's environment", Refused, |scene| {
        fs::read(format!("/proc/{}/environ", scene.supervisor)).map(drop)
    }),
    ("open the supervisor's memory", Refused, |scene| {
        fs::File::open(format!("/proc/{}/mem", scene.supervisor)).map(drop)
    }),
    ("change its native code's file", Refused, |_| call(libc::SYS_write, [1, bytes(), 8, 0, 0, 0])),
    ("map its native code's file to write", Refused, |_| {
        map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, 1)
    }),
    ("link a file", Dies, |scene| fs::hard_link(scene.folder.join("open"), scene.folder.join("linked"))),
    ("make a symbolic link", Dies, |scene| {
        let folder = path(&scene.folder.join("link"));
        call(
            libc::SYS_symlinkat,
            [folder.as_ptr() as i64, libc::AT_FDCWD.into(), folder.as_ptr() as i64, 0, 0, 0],
        )
    }),
    ("make a device", Dies, |_| call(libc::SYS_mknodat, [0; 6])),
    ("open a file by its handle", Dies, |_| call(libc::SYS_open_by_handle_at, [0; 6])),
    // The network.
    ("call out", Dies, |scene| TcpStream::connect(("127.0.0.1", scene.port)).map(drop)),
    ("send a datagram", Dies, |_| UdpSocket::bind("127.0.0.1:0").map(drop)),
    ("call a socket on disk", Dies, |_| UnixStream::connect("/run/docker.sock").map(drop)),
    ("listen", Dies, |_| TcpListener::bind("127.0.0.1:0").map(drop)),
    ("talk to the kernel's network", Dies, |_| {
        call(libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), 0, 0, 0, 0])
    }),
    ("send its own socket elsewhere", Dies, |_| call(libc::SYS_connect, [0, bytes(), 16, 0, 0, 0])),
    ("listen on its own socket", Dies, |_| call(libc::SYS_listen, [0, 1, 0, 0, 0, 0])),
    ("hand a descriptor over", Dies, |_| call(libc::SYS_sendmsg, [0, bytes(), 0, 0, 0, 0])),
    ("take a descriptor", Refused, |_| call(libc::SYS_recvmsg, [0, bytes(), 0, 0, 0, 0])),
    // Programs and processes.
    ("start a program", Refused, |_| Command::new("/bin/true").status().map(drop)),
    ("become another program", Dies, |_| call(libc::SYS_execve, [bytes(), 0, 0, 0, 0, 0])),
    ("become a program in memory", Dies, |_| {
        call(libc::SYS_execveat, [1, bytes(), 0, 0, libc::AT_EMPTY_PATH.into(), 0])
    }),
    ("start a process", Refused, |_| call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0])),
    ("start a process in another way", Refused, |_| call(libc::SYS_clone3, [bytes(), 88, 0, 0, 0, 0])),
    ("trace the supervisor", Dies, |scene| {
        call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), scene.supervisor, 0, 0, 0, 0])
    }),
    ("read the supervisor's memory", Dies, |scene| {
        let own = libc::iovec { iov_base: bytes() as *mut _, iov_len: 8 };
        let far = libc::iovec { iov_base: scene.memory as *mut _, iov_len: 8 };
        let (own, far) = (&raw const own as i64, &raw const far as i64);
        call(libc::SYS_process_vm_readv, [scene.supervisor, own, 1, far, 1, 0])
    }),
    ("get hold of the supervisor", Dies, |scene| {
        call(libc::SYS_pidfd_open, [scene.supervisor, 0, 0, 0, 0, 0])
    }),
    ("take the supervisor's descriptors", Dies, |_| call(libc::SYS_pidfd_getfd, [0; 6])),
    ("signal the supervisor", Dies, |scene| call(libc::SYS_kill, [scene.supervisor, 0, 0, 0, 0, 0])),
    ("signal a thread of the supervisor", Refused, |scene| {
        call(libc::SYS_tgkill, [scene.supervisor, scene.supervisor, 0, 0, 0, 0])
    }),
    ("limit the supervisor", Refused, |scene| {
        call(libc::SYS_prlimit64, [scene.supervisor, 7, 0, bytes(), 0, 0])
    }),
    ("slow the supervisor down", Refused, |scene| {
        call(libc::SYS_setpriority, [libc::PRIO_PROCESS.into(), scene.supervisor, 19, 0, 0, 0])
    }),
    ("give the supervisor another place in the order", Refused, |scene| order(scene.supervisor, 19)),
    ("slow down whatever its user runs", Refused, |_| {
        call(libc::SYS_setpriority, [libc::PRIO_USER.into(), 0, 19, 0, 0, 0])
    }),
    ("move the supervisor to one processor", Refused, |scene| {
        let first = 1_u64;
        call(libc::SYS_sched_setaffinity, [scene.supervisor, 8, &raw const first as i64, 0, 0, 0])
    }),
    ("overtake others", Refused, |_| order(0, -1)),
    ("outlive the supervisor", Refused, |_| prctl(libc::PR_SET_PDEATHSIG)),
    ("show its memory", Refused, |_| prctl(libc::PR_SET_DUMPABLE)),
    ("handle signals anew", Refused, |_| {
        call(libc::SYS_rt_sigaction, [libc::SIGTERM.into(), 0, bytes(), 8, 0, 0])
    }),
    // Code.
    ("map memory to execute", Refused, |_| {
        map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }),
    ("make memory executable", Refused, |_| {
        call(
            libc::SYS_mprotect,
            [bytes() & !0xfff, 4096, (libc::PROT_READ | libc::PROT_EXEC).into(), 0, 0, 0],
        )
    }),
    // The rest of the kernel.
    ("add a filter", Refused, |_| call(libc::SYS_seccomp, [1, 0, bytes(), 0, 0, 0])),
    ("control a terminal", Refused, |_| call(libc::SYS_ioctl, [2, 0x5412, bytes(), 0, 0, 0])),
    ("make namespaces", Dies, |_| call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0, 0])),
    ("enter a namespace", Dies, |_| call(libc::SYS_setns, [0; 6])),
    ("mount", Dies, |_| call(libc::SYS_mount, [0; 6])),
    ("change its root", Dies, |_| call(libc::SYS_chroot, [0; 6])),
    ("become another user", Dies, |_| call(libc::SYS_setuid, [0; 6])),
    ("set up io_uring", Dies, |_| call(libc::SYS_io_uring_setup, [1, bytes(), 0, 0, 0, 0])),
    ("load a program into the kernel", Dies, |_| call(libc::SYS_bpf, [0; 6])),
    ("watch the processor", Dies, |_| call(libc::SYS_perf_event_open, [0; 6])),
    ("handle page faults", Dies, |_| call(libc::SYS_userfaultfd, [0; 6])),
    ("read the kernel's keys", Dies, |_| call(libc::SYS_keyctl, [0; 6])),
    ("share memory", Dies, |_| call(libc::SYS_shmget, [0, 4096, 0o600, 0, 0, 0])),
    ("set the clock", Dies, |_| call(libc::SYS_clock_settime, [0; 6])),
];

/// Of a worker with a scratch directory.
pub(crate) const SCRATCH: &[Probe] = &[
    ("write its scratch", Works, |scene| fs::write(scene.scratch.join("file"), "x")),
    ("read its scratch", Works, |scene| fs::read(scene.scratch.join("file")).map(drop)),
    ("list its scratch", Works, |scene| fs::read_dir(&scene.scratch).map(drop)),
    ("clear its scratch", Works, |scene| fs::remove_file(scene.scratch.join("file"))),
    ("read the host's configuration", Refused, |_| fs::read("/etc/passwd").map(drop)),
    ("read beside its scratch", Refused, |scene| fs::read_dir(scene.scratch.join("..")).map(drop)),
    ("write beside its scratch", Refused, |scene| fs::write(scene.scratch.join("../new"), "x")),
    ("read a foreign file", Refused, |scene| fs::read(scene.folder.join("closed")).map(drop)),
    ("move a foreign file in", Refused, |scene| {
        fs::rename(scene.folder.join("closed"), scene.scratch.join("closed"))
    }),
    ("open the supervisor's memory", Refused, |scene| {
        fs::File::open(format!("/proc/{}/mem", scene.supervisor)).map(drop)
    }),
    ("start a program that it wrote", Refused, |scene| {
        fs::write(scene.scratch.join("program"), "#!/bin/sh\n")?;
        Command::new(scene.scratch.join("program")).status().map(drop)
    }),
    ("link a foreign file in", Dies, |scene| {
        let (from, to) = (path(&scene.folder.join("closed")), path(&scene.scratch.join("linked")));
        let here = i64::from(libc::AT_FDCWD);
        call(libc::SYS_linkat, [here, from.as_ptr() as i64, here, to.as_ptr() as i64, 0, 0])
    }),
    ("make a symbolic link", Dies, |_| call(libc::SYS_symlinkat, [0; 6])),
    ("make a device", Dies, |_| call(libc::SYS_mknodat, [0; 6])),
    ("call out", Dies, |scene| TcpStream::connect(("127.0.0.1", scene.port)).map(drop)),
];

fn path(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap()
}

/// The address of some bytes of our own.
fn bytes() -> i64 {
    static BYTES: [std::sync::atomic::AtomicU64; 64] = [const { std::sync::atomic::AtomicU64::new(0) }; 64];
    BYTES.as_ptr() as i64
}

#[expect(unsafe_code, reason = "the attacker speaks to the kernel directly")]
fn call(number: libc::c_long, arguments: [i64; 6]) -> Result<(), Error> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: what the kernel could write to is memory of ours that nobody else uses.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

fn map(protection: i32, flags: i32, descriptor: i32) -> Result<(), Error> {
    call(libc::SYS_mmap, [0, 4096, protection.into(), flags.into(), descriptor.into(), 0])
}

fn prctl(option: i32) -> Result<(), Error> {
    call(libc::SYS_prctl, [option.into(), 0, 0, 0, 0, 0])
}

/// Gives a process, 0 for this thread, this place in the order.
fn order(process: i64, nice: i32) -> Result<(), Error> {
    let wish = libc::sched_attr {
        size: size_of::<libc::sched_attr>().try_into().unwrap(),
        sched_policy: 0,
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY.try_into().unwrap(),
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    call(libc::SYS_sched_setattr, [process, &raw const wish as i64, 0, 0, 0, 0])
}

/// In the worker: tries it, and tells.
pub(crate) fn play(name: &str, worker: &mut Worker) {
    let scene = Scene {
        supervisor: worker.scene["supervisor"].as_i64().unwrap(),
        memory: worker.scene["memory"].as_i64().unwrap(),
        port: u16::try_from(worker.scene["port"].as_u64().unwrap()).unwrap(),
        folder: worker.scene["folder"].as_str().unwrap().into(),
        scratch: worker.scratch.clone().unwrap_or_default(),
    };
    let (_, _, probe) = *PROBES.iter().chain(SCRATCH).find(|(known, ..)| *known == name).unwrap();
    // Bars that are put up late bar the threads that were there before as well.
    let scene = std::sync::Arc::new(scene);
    let (tell, told) = std::sync::mpsc::channel();
    let same = scene.clone();
    worker.older.send(Box::new(move || drop(tell.send(probe(&same))))).unwrap();
    let tried = match told.recv().unwrap() {
        Ok(()) => Ok(()),
        Err(_) => probe(&scene),
    };
    match tried {
        Ok(()) => worker.output("it works"),
        Err(error)
            if [Some(libc::EPERM), Some(libc::EACCES), Some(libc::ENOSYS)]
                .contains(&error.raw_os_error()) =>
        {
            worker.output("it is refused");
        }
        Err(error) => worker.output(&format!("it fails: {error}")),
    }
}

/// Has each probe tried by a worker of `bench`.
pub(crate) async fn attack(bench: &Bench, probes: &[Probe], port: u16, folder: &Path) {
    let target = Box::new(*b"supervis");
    for (name, end, _) in probes {
        let scene = json!({
            "act": format!("kernel:{name}"),
            "supervisor": std::process::id(),
            "memory": (&raw const *target) as i64,
            "port": port,
            "folder": folder,
        });
        let ended = bench.run(&scene.to_string()).await;
        let expect = match end {
            Works => Expect { outcome: "succeeded", says: "it works" },
            Refused => Expect { outcome: "succeeded", says: "it is refused" },
            Dies => Expect { outcome: "host-fault", says: "SIGSYS" },
        };
        check(name, &ended, &expect);
    }
    assert_eq!(fs::read(folder.join("open")).unwrap(), b"open");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2, "something was made beside the files");
}
