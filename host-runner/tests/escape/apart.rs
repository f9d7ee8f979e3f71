//! What a broker process that was taken over asks of the kernel and of the launcher, and says to its supervisor.
//!
//! It is started as every broker is, by a launcher with the owner's catalogue, and confines itself as every broker does.

#![expect(clippy::disallowed_methods, reason = "the attacker starts programs and listens")]

use std::{
    fs,
    io::{Error, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::symlink,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use remit_protocol::{Limits, manifest::Kind};
use remit_runner::{
    broker::apart::{Charter, Keeper, Plan},
    config::Config,
    confine::{self, Confinement, Part, Reach},
    conformance::bench::Suite,
    dial::{Dialer, address::Barred, resolve, tls::Trust},
    launcher::{Catalogue, Client, Launch, Launcher, Program, Remote},
    sandbox::{Metering, Sandbox, SandboxConfig},
    worker::Crew,
};
use serde_json::{Value, json};

use crate::{
    service::Service,
    wire::{self, frame},
};

/// Of a broker's frames.
const READY: u8 = 1;
const WARM: u8 = 21;
const FINISH: u8 = 10;
const LINE: u8 = 26;

/// Where things are.
struct Scene {
    folder: PathBuf,
    port: u16,
    supervisor: i64,
    /// The address of something in the supervisor's memory.
    memory: i64,
}

impl Scene {
    fn state(&self, name: &str) -> PathBuf {
        self.folder.join("state").join(name)
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.state("scratch").join(name)
    }
}

type Probe = (&'static str, bool, fn(&Scene) -> Result<(), Error>);

type Order = (&'static str, bool, fn(&Scene) -> Program);
type Words = (&'static str, &'static str, fn(u32) -> Vec<u8>);

/// What is tried, and whether it has to succeed.
const PROBES: &[Probe] = &[
    // What it is there for.
    ("read the store", true, |scene| fs::read(scene.state("store/secrets")).map(drop)),
    ("read a provider's directory", true, |scene| fs::read(scene.folder.join("values/token")).map(drop)),
    ("read who hosts are", true, |scene| fs::read(scene.folder.join("pki/known_hosts")).map(drop)),
    ("read what steps may read", true, |scene| fs::read(scene.folder.join("open/file")).map(drop)),
    ("read the host's configuration", true, |_| fs::read("/etc/passwd").map(drop)),
    ("make a scratch directory", true, |scene| fs::create_dir(scene.scratch("exec-1"))),
    ("write in it", true, |scene| fs::write(scene.scratch("exec-1/file"), "x")),
    ("call out", true, |scene| TcpStream::connect(("127.0.0.1", scene.port)).map(drop)),
    ("resolve a name", true, |_| ("localhost", 1).to_socket_addrs().map(drop)),
    ("start a thread", true, |_| std::thread::spawn(|| ()).join().map_err(|_| ErrorKind::Other.into())),
    // The runner's own.
    ("read the runner's key", false, |scene| fs::read(scene.state("identity.json")).map(drop)),
    ("list the state", false, |scene| fs::read_dir(scene.state("")).map(drop)),
    ("replace the runner's key", false, |scene| {
        fs::rename(scene.scratch("exec-1/file"), scene.state("identity.json"))
    }),
    ("write the session", false, |scene| fs::write(scene.state("session"), "9")),
    ("make a file in the state", false, |scene| fs::write(scene.state("new"), "x")),
    ("read the journal", false, |scene| fs::read(scene.state("journal/0")).map(drop)),
    ("write the journal", false, |scene| append(&scene.state("journal/0"))),
    ("make a journal", false, |scene| fs::write(scene.state("journal/1"), "x")),
    ("remove the journal", false, |scene| fs::remove_file(scene.state("journal/0"))),
    ("write the record", false, |scene| append(&scene.state("audit/0"))),
    ("cut the record", false, |scene| fs::File::create(scene.state("audit/0")).map(drop)),
    ("write what was believed", false, |scene| append(&scene.state("trust.json"))),
    ("change native code", false, |scene| append(&scene.state("cache/code"))),
    ("write the store", false, |scene| append(&scene.state("store/secrets"))),
    ("make a file in the store", false, |scene| fs::write(scene.state("store/new"), "x")),
    ("read where the supervisor's workers are", false, |scene| {
        fs::read_dir(scene.state("workers")).map(drop)
    }),
    ("write the trust policy", false, |scene| append(&scene.folder.join("trust/trust.toml"))),
    ("write the owner's file", false, |scene| append(&scene.folder.join("etc/runner.toml"))),
    ("write who hosts are", false, |scene| append(&scene.folder.join("pki/known_hosts"))),
    ("write what steps may read", false, |scene| append(&scene.folder.join("open/file"))),
    ("write a provider's directory", false, |scene| fs::write(scene.folder.join("values/new"), "x")),
    ("read a foreign file", false, |scene| fs::read(scene.folder.join("outside/file")).map(drop)),
    ("link the runner's key into its scratch", false, |scene| {
        symlink(scene.state("identity.json"), scene.scratch("exec-1/link"))
    }),
    ("link the journal into its scratch", false, |scene| {
        fs::hard_link(scene.state("journal/0"), scene.scratch("exec-1/hard"))
    }),
    // Other processes.
    ("start a program", false, |_| Command::new("/bin/true").status().map(drop)),
    ("start a program that it wrote", false, |scene| {
        fs::copy("/bin/true", scene.scratch("exec-1/true"))?;
        Command::new(scene.scratch("exec-1/true")).status().map(drop)
    }),
    ("read the supervisor's environment", false, |scene| {
        fs::read(format!("/proc/{}/environ", scene.supervisor)).map(drop)
    }),
    ("open the supervisor's memory", false, |scene| {
        fs::File::open(format!("/proc/{}/mem", scene.supervisor)).map(drop)
    }),
    ("open the supervisor's files", false, |scene| {
        fs::File::open(format!("/proc/{}/fd/0", scene.supervisor)).map(drop)
    }),
    ("see through the supervisor's eyes", false, |scene| {
        fs::read_dir(format!("/proc/{}/root/", scene.supervisor)).map(drop)
    }),
    ("read the supervisor's memory", false, |scene| {
        call(libc::SYS_process_vm_readv, [scene.supervisor, scene.memory, 1, scene.memory])
    }),
    ("trace the supervisor", false, |scene| {
        call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), scene.supervisor, 0, 0])
    }),
    ("signal the supervisor", false, |scene| call(libc::SYS_kill, [scene.supervisor, 0, 0, 0])),
    ("signal a thread of the supervisor", false, |scene| {
        call(libc::SYS_tgkill, [scene.supervisor, scene.supervisor, 0, 0])
    }),
    ("get hold of the supervisor", false, |scene| call(libc::SYS_pidfd_open, [scene.supervisor, 0, 0, 0])),
    // Being called, and calling the host's daemons.
    ("listen on a port", false, |_| TcpListener::bind("127.0.0.1:0").map(drop)),
    ("call a socket on disk", false, |scene| UnixStream::connect(scene.folder.join("open/daemon")).map(drop)),
    ("listen on disk", false, |scene| UnixListener::bind(scene.scratch("exec-1/socket")).map(drop)),
    ("send a datagram on disk", false, |_| {
        call(libc::SYS_socket, [libc::AF_UNIX.into(), libc::SOCK_DGRAM.into(), 0, 0])
    }),
    ("open a raw socket", false, |_| {
        call(libc::SYS_socket, [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0, 0])
    }),
    // The rest of the kernel.
    ("make namespaces", false, |_| call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0])),
    ("mount", false, |_| call(libc::SYS_mount, [0; 4])),
    ("become another user", false, |_| call(libc::SYS_setuid, [0; 4])),
    ("set up io_uring", false, |_| call(libc::SYS_io_uring_setup, [1, 0, 0, 0])),
    ("load a program into the kernel", false, |_| call(libc::SYS_bpf, [0; 4])),
    ("handle page faults", false, |_| call(libc::SYS_userfaultfd, [0; 4])),
];

/// What is ordered of the launcher, and whether it is started.
const ORDERS: &[Order] = &[
    ("the permitted program", true, |_| order("/usr/bin/echo", &["permitted"])),
    ("the provider's program", true, |_| order("/usr/bin/true", &[])),
    ("a shell", false, |_| order("/bin/sh", &["-c", "id"])),
    ("other arguments", false, |_| order("/usr/bin/echo", &["other"])),
    ("the provider's program with arguments", false, |_| order("/usr/bin/true", &["--help"])),
    ("a variable for the linker", false, |scene| {
        let mut program = order("/usr/bin/echo", &["permitted"]);
        let library = scene.scratch("exec-1/library").display().to_string();
        program.environment.insert("LD_PRELOAD".to_owned(), library);
        program
    }),
    ("a directory of its own choice", false, |scene| Program {
        directory: Some(scene.state("journal")),
        ..order("/usr/bin/echo", &["permitted"])
    }),
    ("a worker that writes the state", false, |scene| {
        own(&["worker", "--confinement=required", &format!("--scratch={}", scene.state("").display())])
    }),
    ("a worker that need not be confined", false, |_| own(&["worker", "--confinement=where-possible"])),
    ("a broker", false, |_| own(&["broker"])),
    ("a compile process", false, |_| own(&["compile"])),
    ("a runner", false, |scene| {
        own(&["run", "--config", &scene.folder.join("etc/runner.toml").display().to_string()])
    }),
];

/// Which daemons of the host the launcher is to connect to, by their paths below the folder, and whether it does.
const CALLS: &[(&str, bool, &str)] = &[
    ("the named daemon", true, "open/daemon"),
    ("a daemon that is not named", false, "open/other"),
    ("the named daemon by another spelling", false, "open/./daemon"),
    ("the named daemon by a link", false, "open/linked"),
];

/// What a broker says to its supervisor, and what it is ended for.
const WORDS: &[Words] = &[
    ("end a run that was not begun", "not begun", |_| frame(FINISH, 4_000_000, 0, &json!({}), b"")),
    ("end no run", "not begun", |_| frame(FINISH, 0, 0, &json!({}), b"")),
    ("end a run without an end", "broke the rules", |run| frame(FINISH, run, 0, &json!({}), b"")),
    ("speak as a supervisor", "not a broker's to say", |run| frame(2, run, 0, &json!({}), b"")),
    ("ask a broker of its own", "not a broker's to say", |run| frame(3, run, 0, &json!("Reveal"), b"")),
    ("say a line that is too long", "too long", |run| {
        frame(LINE, run, 0, &json!(["info", []]), &[b'x'; 1 << 20])
    }),
    ("say a line that is no text", "not text", |run| frame(LINE, run, 0, &json!(["info", []]), b"\xff")),
    ("send a frame of two gigabytes", "a frame of", |_| vec![0, 0, 0, 0x80]),
    ("say nothing that is a frame", "a frame of", |_| b"\x01\0\0\0hello".to_vec()),
];

fn order(path: &str, arguments: &[&str]) -> Program {
    Program {
        path: path.into(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: std::collections::BTreeMap::new(),
        secret: None,
        directory: None,
        stdin: Vec::new(),
    }
}

fn own(arguments: &[&str]) -> Program {
    let program = std::env::current_exe().unwrap();
    Program { directory: Some("/".into()), ..order(program.to_str().unwrap(), arguments) }
}

fn append(path: &Path) -> Result<(), Error> {
    fs::OpenOptions::new().append(true).open(path)?.write_all(b"x")
}

/// Makes a system call; only a refusal for want of permission counts as one, not one for a bad argument.
#[expect(unsafe_code, reason = "the attacker speaks to the kernel directly")]
fn call(number: libc::c_long, arguments: [i64; 4]) -> Result<(), Error> {
    let [a, b, c, d] = arguments;
    // SAFETY: no argument is an address that the kernel could write to; the process has nothing to lose.
    let result = unsafe { libc::syscall(number, a, b, c, d) };
    match Error::last_os_error() {
        error if result == -1 && error.raw_os_error() == Some(libc::EPERM) => Err(error),
        _ => Ok(()),
    }
}

/// How many things are tried.
pub(crate) fn count() -> usize {
    PROBES.len() + ORDERS.len() + CALLS.len() + WORDS.len()
}

/// As a broker: the whole life of one that was taken over.
pub(crate) fn live() {
    confine::begin().unwrap();
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut line = UnixStream::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    let paper = paper(&mut line);
    let text = paper["text"].as_str().unwrap();
    let config = Config::parse(text, Path::new(paper["directory"].as_str().unwrap())).unwrap();
    let scene: Value = serde_json::from_str(text.lines().last().unwrap().trim_start_matches("# ")).unwrap();
    confine::confine(Part::Broker, &Reach::of_broker(&config, None), Confinement::Required, |_| {}).unwrap();
    wire::receive(&mut socket);
    let act = scene["act"].as_str().unwrap();
    let scene = Scene {
        folder: scene["folder"].as_str().unwrap().into(),
        port: u16::try_from(scene["port"].as_u64().unwrap()).unwrap(),
        supervisor: scene["supervisor"].as_i64().unwrap(),
        memory: scene["memory"].as_i64().unwrap(),
    };
    if act == "probe" {
        let found = probe(&scene) + &orders(&scene, line);
        socket.write_all(&frame(READY, 0, 0, &json!({"Err": found}), b"")).unwrap();
        return;
    }
    socket.write_all(&frame(READY, 0, 0, &json!({"Ok": null}), b"")).unwrap();
    let (_, _, say) = WORDS.iter().find(|(name, ..)| *name == act).unwrap();
    loop {
        let (kind, run, ..) = wire::receive(&mut socket);
        if kind == WARM {
            socket.write_all(&say(run)).unwrap();
        }
    }
}

/// What the launcher says to a broker that it starts.
fn paper(line: &mut UnixStream) -> Value {
    let mut length = [0; 4];
    line.read_exact(&mut length).unwrap();
    let mut charter = vec![0; u32::from_le_bytes(length) as usize];
    line.read_exact(&mut charter).unwrap();
    let length = u32::from_le_bytes(charter[..4].try_into().unwrap()) as usize;
    assert_eq!(&charter[4 + length..], b"from-the-environment");
    serde_json::from_slice(&charter[4..4 + length]).unwrap()
}

fn probe(scene: &Scene) -> String {
    let tell = |(name, _, probe): &Probe| match probe(scene) {
        Ok(()) => format!("yes\t{name}\n"),
        Err(error) => format!("no\t{name}\t{error}\n"),
    };
    PROBES.iter().map(tell).collect()
}

fn orders(scene: &Scene, line: UnixStream) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let launch = Remote::new(Launcher::from(OwnedFd::from(line)), scene.state("scratch")).unwrap();
        let mut found = String::new();
        for (name, _, order) in ORDERS {
            found += &match launch.start(order(scene)).await {
                Ok(mut running) => format!("yes\t{name}\t{:?}\n", running.wait().await),
                Err(error) => format!("no\t{name}\t{error}\n"),
            };
        }
        for (name, _, path) in CALLS {
            // Joined as text: a path's components would hide the other spelling.
            let path = format!("{}/{path}", scene.folder.display());
            found += &match launch.connect(Path::new(&path)).await {
                Ok(_) => format!("yes\t{name}\n"),
                Err(error) => format!("no\t{name}\t{error}\n"),
            };
        }
        found
    })
}

/// The files of a runner, and of its owner.
fn lay(folder: &Path) {
    for name in [
        "state/identity.json",
        "state/session",
        "state/trust.json",
        "state/journal/0",
        "state/audit/0",
        "state/cache/code",
        "state/store/secrets",
        "state/store/secrets.key",
        "trust/trust.toml",
        "etc/runner.toml",
        "pki/known_hosts",
        "values/token",
        "open/file",
        "outside/file",
    ] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    for name in ["state/scratch", "state/workers"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
}

fn text(folder: &Path, scene: &Value) -> String {
    format!(
        "[orchestrator]\nurl = \"https://orchestrator.example\"\n[runner]\nstate = {:?}\n\
         trust = \"../trust/trust.toml\"\n[ceiling]\n\
         [[ceiling.exec]]\nprogram = \"echo\"\npath = \"/usr/bin/echo\"\nargs = [\"permitted\"]\n\
         [[ceiling.files]]\nname = \"open\"\npath = {:?}\n\
         [[ceiling.http]]\nendpoint = \"daemon\"\nunix = {:?}\nmethods = [\"GET\"]\npaths = [\"/\"]\ncomponents = [\"test/exec\"]\n\
         [[ceiling.ssh]]\naddresses = [\"10.0.0.0/8\"]\nusers = [\"ops\"]\nknown_hosts = \"../pki/known_hosts\"\n\
         [[provider]]\nkind = \"store\"\nmount = \"keys/store\"\n\
         [[provider]]\nkind = \"directory\"\nmount = \"keys/values\"\npath = {:?}\n\
         [[provider]]\nkind = \"program\"\nmount = \"keys/program\"\npath = \"/usr/bin/true\"\n\
         [[provider]]\nkind = \"environment\"\nmount = \"keys/e\"\nvariables = {{ token = \"TOKEN\" }}\n\
         # {scene}\n",
        folder.join("state"),
        folder.join("open"),
        folder.join("open/daemon"),
        folder.join("values"),
    )
}

/// How a broker is started in `folder`, and what starts it.
fn plan(folder: &Path, scene: &Value) -> Plan {
    let (text, directory) = (text(folder, scene), folder.join("etc"));
    let config = Config::parse(&text, &directory).unwrap();
    let program = std::env::current_exe().unwrap();
    let scratch = folder.join("state/scratch");
    let catalogue = Catalogue::new(&program, &scratch, Confinement::Required)
        .with_workers(&folder.join("state/workers"))
        .with_ceiling(&config.ceiling)
        .with_providers(&config.providers);
    let take = |name: &str| (name == "TOKEN").then(|| b"from-the-environment".to_vec().into());
    let charter = Charter::new(text, &directory, &program, None).with_variables(&config, take);
    let charter = charter.into_bytes().unwrap();
    let launcher = Launcher::start(&program, &catalogue, Client::Supervisor, &charter).unwrap();
    let launch: Arc<dyn Launch> = Arc::new(Remote::new(launcher, folder.join("state/workers")).unwrap());
    Plan { program, arguments: vec!["broker".to_owned()], launch, scratch, dialer: dialer() }
}

fn dialer() -> Arc<Dialer> {
    let barred = Barred::new("orchestrator.example", 443);
    Arc::new(Dialer::new(Arc::new(resolve::System), None, Trust::untrusting(), barred))
}

/// Has a broker try everything.
pub(crate) async fn attack(service: &Service) {
    // As the supervisor's does, this process keeps its memory to itself.
    confine::close_to_others().unwrap();
    let folder = tempfile::tempdir().unwrap();
    lay(folder.path());
    let _daemons =
        ["open/daemon", "open/other"].map(|name| UnixListener::bind(folder.path().join(name)).unwrap());
    std::os::unix::fs::symlink("daemon", folder.path().join("open/linked")).unwrap();
    let target = Box::new(*b"supervis");
    let scene = json!({
        "act": "probe",
        "folder": folder.path(),
        "port": service.port,
        "supervisor": std::process::id(),
        "memory": (&raw const *target) as i64,
    });
    let refused = Keeper::start(plan(folder.path(), &scene)).await.err().unwrap();
    let text = refused.to_string();
    let text = text.strip_prefix("the broker process does not begin: ").unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let expect = PROBES.iter().map(|(name, allowed, _)| (name, allowed));
    let expect = expect.chain(ORDERS.iter().map(|(name, allowed, _)| (name, allowed)));
    let expect: Vec<_> = expect.chain(CALLS.iter().map(|(name, allowed, _)| (name, allowed))).collect();
    assert_eq!(lines.len(), expect.len(), "{text}");
    for ((name, allowed), line) in expect.into_iter().zip(&lines) {
        assert_eq!(line[1], *name);
        assert_eq!(line[0] == "yes", *allowed, "{name}: {line:?}");
    }
    for name in ["state/identity.json", "state/journal/0", "state/audit/0", "trust/trust.toml"] {
        assert_eq!(fs::read(folder.path().join(name)).unwrap(), name.as_bytes());
    }
}

/// Has a broker say what none says: it is ended for it, and whoever waited is told.
pub(crate) async fn words(suite: &Suite) {
    for (name, says, _) in WORDS {
        let folder = tempfile::tempdir().unwrap();
        lay(folder.path());
        let scene = json!({"act": name, "folder": folder.path(), "port": 0, "supervisor": 0, "memory": 0});
        let plan = plan(folder.path(), &scene);
        let launch = Arc::clone(&plan.launch);
        let keeper = Arc::new(Keeper::start(plan).await.unwrap());
        let config = SandboxConfig {
            slots: 1,
            scratch: folder.path().join("state/workers"),
            dialer: dialer(),
            launch,
        };
        let crew = Crew {
            program: std::env::current_exe().unwrap(),
            confinement: Confinement::Required,
            reserved_processors: 1,
        };
        let sandbox = Sandbox::with_workers(config, crew).unwrap().with_broker(keeper);
        let requests = r#"{"exec":[{"program":"granted"}]}"#;
        let component = suite.verified("exec", Kind::Step, requests, Limits::default()).unwrap();
        let prepared = sandbox.load(&suite.native("exec", Metering::Off).unwrap(), &component).unwrap();
        let error = sandbox.warm(&prepared).await.err().unwrap().to_string();
        assert!(
            error.contains("the broker process of this runner is gone") && error.contains(says),
            "{name}: {error}"
        );
    }
}
