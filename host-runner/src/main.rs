//! `remit-runner`: for the owner of a host that runs steps.
//!
//! Thin: arguments in, one call of the library, words and an exit code out. Exit codes: 0 done; 1 it failed, or mistakes
//! were found; 2 the command line is wrong.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io::{IsTerminal as _, Read as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use remit_protocol::{
    SecretName, SecretPath, Size,
    capability::{Grant, imports::Profile},
    limits::{MAX_COMPONENT, MAX_MANIFEST},
    manifest::{Kind, Manifest},
    node::Node,
    weigh,
};
use remit_runner::{
    audit,
    broker::apart::{self, Charter},
    check,
    component::compile::{Bounds, limit_this_process},
    config::{Config, MAX_CONFIG, OrchestratorUrl, ProxyUrl},
    confine::{self, Confinement, Part, Reach},
    conformance::{self, bench::Suite},
    doctor::{self, Finding, Severity, Thorough},
    enrol, explain,
    launcher::{self, Catalogue, Client, Launcher},
    local, measure,
    runner::Exit,
    sandbox::{self, Metering},
    secrets::{
        ProviderConfig, Providers, SecretValue,
        providers::open_store,
        store::settle,
        trial::{self, Trial},
    },
    start::{self, Environment},
    state, worker,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Serialize;
use zeroize::Zeroizing;

/// Largest ticket.
const MAX_TICKET: u64 = 4096;

/// Fetches signed work, confines it to its remit, runs it.
#[derive(Parser)]
#[command(name = "remit-runner", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The form of the runner's own log, on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text, env = "REMIT_LOG_FORM")]
    log_form: LogForm,
    /// What is logged, such as info or remit_runner=debug.
    #[arg(long, global = true, default_value = "info", env = "REMIT_LOG")]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Make this host a runner: reads a one-use ticket from standard input.
    Enrol(Enrol),
    /// Run until told to stop: SIGTERM ends what runs, a second one cancels it.
    Run {
        #[command(flatten)]
        configured: Configured,
        /// Stop when the process that started it ends, however that ends.
        #[arg(long, hide = true)]
        end_with_parent: bool,
    },
    /// Find every mistake in runner.toml and trust.toml.
    Check(Report),
    /// Find out what is wrong on this host, and what to do.
    Doctor {
        #[command(flatten)]
        report: Report,
        /// Leave out the call that takes as long as a parked poll, half a minute.
        #[arg(long)]
        quick: bool,
    },
    /// Let hostile components attack this program on this host, and report what held.
    Conformance(Conformance),
    /// Values in this host's encrypted store.
    #[command(subcommand)]
    Secret(Secret),
    /// The record of what this runner did and refused.
    #[command(subcommand)]
    Audit(Audit),
    /// Say what the owner's file would allow a step: a question in JSON on standard input, the answer on standard output.
    #[command(hide = true)]
    Explain(Explain),
    /// A component on this machine, for its author.
    #[command(subcommand)]
    Step(Step),
    /// Measure.
    #[command(subcommand, hide = true)]
    Bench(Bench),
    /// Start what the runner at the other end of standard input orders.
    #[command(hide = true)]
    Launch,
    /// Keep secrets and call out for the runner at the other end of standard input; the launcher is behind standard output.
    #[command(hide = true)]
    Broker,
    /// Compile: wasm on standard input, native code on standard output.
    #[command(hide = true)]
    Compile {
        /// The code counts the fuel that it uses.
        #[arg(long)]
        fuel: bool,
        /// Its address space.
        #[arg(long)]
        memory: Option<Size>,
        /// Its processor time.
        #[arg(long)]
        cpu_seconds: Option<u64>,
    },
    /// Try one thing that only somebody who has broken out of a worker would try, confined like one or not.
    #[command(hide = true)]
    Probe {
        /// Confined as workers are.
        #[arg(long)]
        confined: bool,
        /// What is tried: `connect`, `read`, `list` or `start`.
        what: String,
        /// At what.
        at: String,
    },
    /// Run one component for the runner at the other end of standard input; its native code is behind standard output.
    #[command(hide = true)]
    Worker {
        /// Whether it begins on a kernel that cannot confine it.
        #[arg(long)]
        confinement: Confinement,
        /// Where its runs have their scratch directories.
        #[arg(long)]
        scratch: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Configured {
    /// The owner's file.
    #[arg(long, value_name = "FILE", default_value = "runner.toml")]
    config: PathBuf,
}

#[derive(Args)]
struct Explain {
    #[command(flatten)]
    configured: Configured,
    /// The question is a manifest: what the ceiling says to each of its requests.
    #[arg(long)]
    requests: bool,
}

#[derive(Args)]
struct Report {
    #[command(flatten)]
    configured: Configured,
    /// The form of the findings.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

#[derive(Args)]
struct Enrol {
    /// The owner's file, which says where the orchestrator and the state directory are. With --url and --state, one to
    /// begin with is written there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The orchestrator.
    #[arg(long, requires = "state")]
    url: Option<OrchestratorUrl>,
    /// The state directory; it is made.
    #[arg(long, requires = "url", value_name = "DIR")]
    state: Option<PathBuf>,
    /// An HTTP proxy on the way.
    #[arg(long, requires = "url")]
    proxy: Option<String>,
    /// Certificates to trust beside the ticket's, in PEM.
    #[arg(long, requires = "url", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A file that holds the ticket, in place of standard input.
    #[arg(long, value_name = "FILE")]
    ticket: Option<PathBuf>,
    /// Done if the host is enrolled already: for what runs at every start.
    #[arg(long)]
    unless_enrolled: bool,
}

#[derive(Args)]
struct Conformance {
    /// The folder of the hostile components, as `cargo xtask guests` leaves it.
    #[arg(long, value_name = "DIR")]
    suite: PathBuf,
    /// Only the rows of this threat; SECURITY.md numbers them.
    #[arg(long, value_name = "NUMBER")]
    threat: Option<u8>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

#[derive(Subcommand)]
enum Secret {
    /// Keep a value, read from standard input.
    Set(SecretPlace),
    /// The paths that have a value.
    List(Configured),
    /// Forget a value.
    Remove(SecretPlace),
    /// Say whether a secret can be had, from which provider, how fast, and where it may go. Never its value.
    Test {
        #[command(flatten)]
        place: SecretPlace,
        /// The form of the answer.
        #[arg(long, value_enum, default_value_t = Form::Text)]
        output: Form,
    },
}

#[derive(Subcommand)]
enum Audit {
    /// Print the key that signs the end of the record: `remit audit verify --key` wants it.
    Key(Configured),
    /// Print the record and its signed end, for `remit audit verify`.
    Export(Configured),
}

#[derive(Args)]
struct SecretPlace {
    /// The secret, such as keys/local/token.
    path: SecretPath,
    #[command(flatten)]
    configured: Configured,
}

#[derive(Subcommand)]
enum Step {
    /// Run it once: the result as JSON on standard output, its log on standard error.
    Run(StepRun),
    /// Run it once and add what it really used, as the least that a step.toml has to ask for.
    Record(StepRun),
    /// Print the schemas of its input and output.
    Describe {
        /// The component.
        #[arg(long, value_name = "WASM")]
        component: PathBuf,
        /// What it is.
        #[arg(long, value_enum, default_value_t = KindName::Step)]
        kind: KindName,
        /// The language whose toolchain made it, if that has a profile.
        #[arg(long, value_enum)]
        profile: Option<ProfileName>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ProfileName {
    Python,
    Js,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::Python => Self::Python,
            ProfileName::Js => Self::Js,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum KindName {
    Step,
    NodeSource,
}

#[derive(Args)]
struct StepRun {
    /// The component.
    #[arg(long, value_name = "WASM")]
    component: PathBuf,
    /// Its manifest.
    #[arg(long, value_name = "JSON-FILE")]
    manifest: PathBuf,
    /// Its input, as JSON.
    #[arg(long, default_value = "{}")]
    input: String,
    /// What it is granted, as JSON; absent: everything literal that it requests.
    #[arg(long, value_name = "JSON")]
    grant: Option<String>,
    /// The ceiling and the secrets providers; absent: what the grant names, and no private address.
    #[arg(long, value_name = "RUNNER.TOML")]
    ceiling: Option<PathBuf>,
    /// The node that it is run for, as JSON: name, tags, attributes.
    #[arg(long, value_name = "JSON")]
    node: Option<String>,
    /// A secret of the ceiling's providers. May be repeated.
    #[arg(long = "secret", value_name = "NAME=PATH")]
    secrets: Vec<String>,
    /// A file that the component may read by name. May be repeated.
    #[arg(long = "file", value_name = "NAME=PATH")]
    files: Vec<String>,
    /// The directory that its artifacts are written to; absent: they are only listed.
    #[arg(long, value_name = "DIRECTORY")]
    artifacts: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Bench {
    /// Instantiate, run and drop, warm.
    WarmStep {
        #[command(flatten)]
        step: StepRun,
        /// How often.
        #[arg(long, default_value_t = 5000)]
        runs: u32,
        /// In a worker, as under a runner.
        #[arg(long)]
        worker: bool,
    },
    /// What a request of a component costs, in this process and in a worker.
    Broker {
        /// The folder of the hostile components, as `cargo xtask guests` leaves it.
        #[arg(long, value_name = "DIR")]
        suite: PathBuf,
        /// How many requests.
        #[arg(long, default_value_t = 3000)]
        requests: u32,
    },
    /// Judge requests, and take secrets out of a text: no component is needed.
    Rules,
    /// What each of many live sandboxes takes of the host's memory.
    Live {
        /// The folder of the hostile components, as `cargo xtask guests` leaves it.
        #[arg(long, value_name = "DIR")]
        suite: PathBuf,
        /// How many at once.
        #[arg(long, default_value_t = 1000)]
        sandboxes: u32,
    },
    /// From the start of a compile process to cached code.
    Compile {
        /// The component.
        #[arg(long, value_name = "FILE")]
        component: PathBuf,
        /// How often.
        #[arg(long, default_value_t = 11)]
        runs: u32,
    },
    /// How a quiet step fares beside hostile neighbours.
    Neighbours {
        /// The folder of the hostile components, as `cargo xtask guests` leaves it.
        #[arg(long, value_name = "DIR")]
        suite: PathBuf,
        /// How many runs of the quiet step, alone and again beside them.
        #[arg(long, default_value_t = 3000)]
        runs: u32,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Secrets pass through this process: it leaves no image of its memory when it dies.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        say_error(&format!("remit-runner: core dumps cannot be switched off: {error}"));
        return ExitCode::FAILURE;
    }
    // Before there is any other thread: variables that hold secrets are read and removed.
    let environment = environment();
    log(&cli);
    let arguments = broker_arguments(&cli);
    match dispatch(cli.command, &environment, arguments) {
        Ok(code) => code,
        Err(error) => {
            say_error(&format!("remit-runner: {}", words(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; a cause that the error has told already is not told again.
fn words(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !told.contains(&cause) {
            let separator = if told.is_empty() { "" } else { ": " };
            told.extend([separator, &cause]);
        }
    }
    told
}

#[expect(clippy::disallowed_methods, reason = "the one place where the runner reads its environment")]
fn environment() -> Environment {
    Environment {
        credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        take: take_variable,
        program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("remit-runner")),
    }
}

/// Called while there is one thread: see [`run`].
#[expect(
    clippy::disallowed_methods,
    unsafe_code,
    reason = "the one place where the runner reads its environment"
)]
fn take_variable(name: &str) -> Option<Zeroizing<Vec<u8>>> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).map(|value| Zeroizing::new(value.into_vec()))?;
    let place = CString::new(name).ok()?;
    // SAFETY: no other thread exists yet that could read the environment meanwhile. Where the value stands, the process was
    // given as many bytes by the kernel, which would show them in /proc for as long as it lives.
    unsafe {
        let held = libc::getenv(place.as_ptr());
        if !held.is_null() {
            held.cast::<u8>().write_bytes(0, libc::strlen(held));
        }
        std::env::remove_var(name);
    }
    Some(value)
}

fn log(cli: &Cli) {
    let filter = tracing_subscriber::EnvFilter::new(&cli.log);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_form {
        LogForm::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).init(),
        LogForm::Json => subscriber.json().init(),
    }
}

fn dispatch(command: Command, environment: &Environment, arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Compile { fuel, memory, cpu_seconds } => {
            let most = Bounds::default();
            let bounds = Bounds {
                memory: memory.unwrap_or(most.memory).min(most.memory),
                cpu_seconds: cpu_seconds.unwrap_or(most.cpu_seconds).min(most.cpu_seconds),
            };
            compile(Metering::where_counted(fuel), bounds)
        }
        Command::Probe { confined, what, at } => {
            say(&conformance::probe::probe(confined, &what, &at)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Launch => launch(),
        Command::Worker { confinement, scratch } => work(scratch, confinement),
        Command::Broker => keep_and_call(),
        Command::Check(report) => check_files(&report),
        Command::Audit(audit) => show_audit(audit),
        Command::Explain(asked) => explain_step(&asked),
        Command::Conformance(suite) => block_on(conform(suite, environment)),
        Command::Secret(secret) => keep_secret(secret, environment),
        Command::Enrol(plan) => block_on(enrol_host(plan)),
        Command::Run { configured, end_with_parent } => {
            if end_with_parent {
                set_parent_process_death_signal(Some(Signal::TERM))?;
            }
            run(&configured.config, environment, arguments)
        }
        Command::Doctor { report, quick } => {
            let thorough = if quick { Thorough::No } else { Thorough::Yes };
            examine(&report, thorough, environment)
        }
        Command::Step(Step::Run(step)) => step_run(&step, environment),
        Command::Step(Step::Record(step)) => step_record(&step, environment),
        Command::Step(Step::Describe { component, kind, profile }) => {
            block_on(describe(component, kind, profile, environment))
        }
        Command::Bench(Bench::WarmStep { step, runs, worker }) => {
            let home = if worker { local::Home::Worker } else { local::Home::Here };
            block_on(warm_step(step, runs, home, environment))
        }
        Command::Bench(Bench::Broker { suite, requests }) => {
            block_on(broker_cost(suite, requests, environment))
        }
        Command::Bench(Bench::Live { suite, sandboxes }) => block_on(async {
            say_json(&conformance::crowd::live(&suite, &environment.program, sandboxes).await?)?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Bench(Bench::Neighbours { suite, runs }) => block_on(async {
            say_json(&conformance::crowd::neighbours(&suite, &environment.program, runs).await?)?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Bench(Bench::Compile { component, runs }) => block_on(async {
            let bytes = local::read_file(&component, MAX_COMPONENT)?;
            say_json(&conformance::cost::compiling(&environment.program, &bytes, runs).await?)?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Bench(Bench::Rules) => {
            say_json(&measure::rules()?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).max_blocking_threads(32).enable_all().build().context("no threads")
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(work)
}

fn say(text: &str) {
    // A reader that went away has seen enough.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn say_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    say(&serde_json::to_string(value)?);
    Ok(())
}

/// Longest question of `explain`: a manifest and a grant.
const MAX_QUESTION: u64 = 4 << 20;

fn standard_input(limit: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).context("standard input")?;
    if bytes.len() as u64 > limit {
        bail!("standard input: more than {limit} bytes");
    }
    Ok(bytes)
}

fn read_config(path: &Path) -> anyhow::Result<Config> {
    Ok(read_owners_file(path)?.0)
}

/// The owner's file, with its text and the directory in which it lies.
fn read_owners_file(path: &Path) -> anyhow::Result<(Config, String, PathBuf)> {
    let bytes = local::read_file(path, MAX_CONFIG).with_context(|| path.display().to_string())?;
    let text = String::from_utf8(bytes).with_context(|| path.display().to_string())?;
    let directory = std::path::absolute(check::directory(path))?;
    let parsed = Config::parse(&text, &directory).map_err(|faults| {
        let lines = faults
            .into_iter()
            .map(|fault| check::Mistake { file: path.to_owned(), fault, warning: false }.to_string());
        anyhow::anyhow!("the configuration has mistakes:\n{}", lines.collect::<Vec<_>>().join("\n"))
    });
    Ok((parsed?, text, directory))
}

fn show_audit(command: Audit) -> anyhow::Result<ExitCode> {
    match command {
        Audit::Key(configured) => {
            let identity = state::Identity::read(&read_config(&configured.config)?.runner.state)?;
            say(&identity.key.vkey().to_string());
        }
        Audit::Export(configured) => {
            let state = read_config(&configured.config)?.runner.state;
            let mut out = std::io::stdout().lock();
            audit::export(&state, &mut out)
                .with_context(|| format!("the record below {}", state.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explain_step(asked: &Explain) -> anyhow::Result<ExitCode> {
    let config = read_config(&asked.configured.config)?;
    let question = standard_input(MAX_QUESTION)?;
    if asked.requests {
        let manifest = Manifest::from_slice(&question).context("the manifest")?;
        say_json(&weigh::weigh(&manifest.name, &manifest.requests, &config.ceiling))?;
        return Ok(ExitCode::SUCCESS);
    }
    let question = serde_json::from_slice(&question).context("the question")?;
    say_json(&explain::explain(&config, &question))?;
    Ok(ExitCode::SUCCESS)
}

/// How the broker of this runner is started: it writes to the same log.
fn broker_arguments(cli: &Cli) -> Vec<String> {
    let form = match cli.log_form {
        LogForm::Text => "text",
        LogForm::Json => "json",
    };
    vec![launcher::BROKER.to_owned(), format!("--log={}", cli.log), format!("--log-form={form}")]
}

fn launch() -> anyhow::Result<ExitCode> {
    // It keeps what brokers begin with.
    confine::close_to_others().context("the launcher process")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    launcher::serve(socket)?;
    Ok(ExitCode::SUCCESS)
}

fn keep_and_call() -> anyhow::Result<ExitCode> {
    confine::begin().context("the broker's process")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let line = std::io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
    apart::live(socket, line, || runtime().map_err(std::io::Error::other))?;
    Ok(ExitCode::SUCCESS)
}

fn work(scratch: Option<PathBuf>, confinement: Confinement) -> anyhow::Result<ExitCode> {
    confine::worker::begin().context("the worker's process")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let code = std::io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
    worker::live(socket, code, scratch, confinement)?;
    Ok(ExitCode::SUCCESS)
}

fn compile(metering: Metering, bounds: Bounds) -> anyhow::Result<ExitCode> {
    limit_this_process(bounds).context("limits of the compile process")?;
    // It needs nothing but its pipes. Where the kernel cannot hold it to that, the owner has agreed to do without, or this
    // is an author's own machine.
    confine::confine(Part::Supervisor, &Reach::default(), Confinement::WherePossible, |_| {})?;
    let wasm = standard_input(MAX_COMPONENT)?;
    let native = sandbox::compile(&wasm, metering)?;
    std::io::stdout().lock().write_all(native.as_bytes()).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn check_files(report: &Report) -> anyhow::Result<ExitCode> {
    let mistakes = check::check(&report.configured.config);
    match report.output {
        Form::Json => say_json(&mistakes)?,
        Form::Text if mistakes.is_empty() => say("no mistake found"),
        Form::Text => mistakes.iter().for_each(|mistake| say(&mistake.to_string())),
    }
    Ok(if mistakes.iter().all(|mistake| mistake.warning) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(report: &Report, thorough: Thorough, environment: &Environment) -> anyhow::Result<ExitCode> {
    let mut worst = Severity::Good;
    let mut findings = Vec::new();
    let mut hear = |finding: Finding| {
        worst = worst.max(finding.severity);
        if let Form::Text = report.output {
            let mark = match finding.severity {
                Severity::Good => "ok     ",
                Severity::Warning => "warning",
                Severity::Bad => "BAD    ",
            };
            say(&format!("{mark} {}: {}", finding.what, finding.found));
            if !finding.remedy.is_empty() {
                say(&format!("        {}", finding.remedy));
            }
        }
        findings.push(finding);
    };
    let path = &report.configured.config;
    // Providers may take variables out of the environment: before there are threads.
    if let Some(config) = doctor::configuration(path, &mut hear) {
        hear(doctor::providers(&config, environment));
        runtime()?.block_on(doctor::examine(&config, thorough, &mut hear));
    }
    if let Form::Json = report.output {
        say_json(&findings)?;
    }
    Ok(if worst == Severity::Bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn conform(arguments: Conformance, environment: &Environment) -> anyhow::Result<ExitCode> {
    let suite = Suite::new(&arguments.suite, &environment.program).alone();
    let text = matches!(arguments.output, Form::Text);
    let report = conformance::run(&suite, arguments.threat, |row| {
        if text {
            say(&format!("{} {:>2} {}", if row.passed { "held  " } else { "FAILED" }, row.threat, row.name));
            for (which, seen) in [("attack", &row.attack), ("twin", &row.twin)] {
                if !seen.fault.is_empty() {
                    say(&format!("          {which} `{}`: {}", seen.act, seen.fault));
                }
            }
        }
    })
    .await?;
    match arguments.output {
        Form::Json => say_json(&report)?,
        Form::Text => say(&format!(
            "{} of {} attacks held, each beside a twin that is permitted; remit-runner {}, Linux {}, confinement: {}",
            report.passed,
            report.rows.len(),
            report.version,
            report.kernel,
            report.confinement
        )),
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn enrol_host(arguments: Enrol) -> anyhow::Result<ExitCode> {
    let plan = match (&arguments.url, &arguments.state, &arguments.config) {
        (Some(url), Some(state), _) => enrol::Plan {
            url: url.clone(),
            proxy: arguments.proxy.map(ProxyUrl::try_from).transpose()?,
            ca_file: arguments.ca_file,
            state: std::path::absolute(state)?,
        },
        (None, None, Some(path)) => {
            let config = read_config(path)?;
            let orchestrator = config.orchestrator;
            enrol::Plan {
                url: orchestrator.url,
                proxy: orchestrator.proxy,
                ca_file: orchestrator.ca_file,
                state: config.runner.state,
            }
        }
        _ => bail!("name the owner's file with --config, or --url and --state"),
    };
    if arguments.unless_enrolled
        && let Ok(identity) = state::Identity::read(&plan.state)
    {
        say(&format!("enrolled already as {}", identity.name));
        return Ok(ExitCode::SUCCESS);
    }
    let ticket = match &arguments.ticket {
        Some(file) => {
            Zeroizing::new(local::read_file(file, MAX_TICKET).with_context(|| file.display().to_string())?)
        }
        None => {
            if std::io::stdin().is_terminal() {
                say_error("paste the ticket, then press Enter and Ctrl-D:");
            }
            standard_input(MAX_TICKET)?
        }
    };
    let name = enrol::enrol(&plan, std::str::from_utf8(&ticket).context("the ticket")?).await?;
    say(&format!("enrolled as {name}; its identity is in {}", plan.state.display()));
    if let (Some(path), Some(_)) = (&arguments.config, &arguments.url) {
        for (path, text) in [
            (path.clone(), enrol::starter_config(&plan)),
            (check::directory(path).join("trust.toml"), enrol::STARTER_TRUST.to_owned()),
        ] {
            if !path.exists() {
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
                say(&format!("wrote {}", path.display()));
            }
        }
        say(&format!(
            "next: remit-runner check --config {0}, then remit-runner run --config {0}",
            path.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that is decided before this process has heard a word from outside: what the launcher starts, and what a broker
/// is born with. What came in the environment goes to the launcher alone.
fn split_off(path: &Path, environment: &Environment) -> anyhow::Result<(Config, Launcher)> {
    let (config, text, directory) = read_owners_file(path)?;
    let (program, state) = (&environment.program, &config.runner.state);
    if config.providers.iter().any(|provider| matches!(provider, ProviderConfig::Store { .. })) {
        settle(state)?;
    }
    let catalogue = Catalogue::new(program, &state.join(state::SCRATCH), config.runner.confinement)
        .with_workers(&state.join(state::WORKERS))
        .with_ceiling(&config.ceiling)
        .with_providers(&config.providers);
    let charter = Charter::new(text, &directory, program, environment.credentials.as_deref())
        .with_variables(&config, environment.take)
        .into_bytes()
        .context("what the broker begins with")?;
    let launcher =
        Launcher::start(program, &catalogue, Client::Supervisor, &charter).context("the launcher process")?;
    Ok((config, launcher))
}

fn run(path: &Path, environment: &Environment, arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    // Variables are taken out of the environment: before there are threads. Programs are started by a process that is not
    // confined; from here on this one cannot start any.
    let (config, launcher) = split_off(path, environment)?;
    confine::close_to_others()?;
    let reach = Reach::of_supervisor(&config, &std::path::absolute(path)?);
    confine::confine(Part::Supervisor, &reach, config.runner.confinement, |lacking| {
        tracing::warn!(%lacking, "the owner lets this runner begin without confinement");
    })?;
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let runner = start::runner(&config, environment, launcher, arguments).await?;
        let (stop, stopped) = tokio::sync::mpsc::channel(4);
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let signals = async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if stop.send(()).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), orchestrator = %config.orchestrator.url, slots = config.runner.slots, "starting");
        tokio::select! {
            exit = runner.run(stopped) => anyhow::Ok(exit),
            () = signals => unreachable_signals(),
        }
    })?;
    // Guests that do not end by themselves must not keep the program.
    runtime.shutdown_background();
    match exit {
        Exit::Drained => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Exit::Fatal(why) => bail!("{why}"),
    }
}

fn unreachable_signals() -> anyhow::Result<Exit> {
    bail!("signals are not heard any more")
}

fn store(
    path: &Path,
    wanted: Option<&SecretPath>,
    environment: &Environment,
) -> anyhow::Result<Vec<remit_runner::secrets::store::Store>> {
    let config = read_config(path)?;
    let mut stores = Vec::new();
    for provider in &config.providers {
        let ProviderConfig::Store { mount, .. } = provider else { continue };
        let below = |path: &SecretPath| {
            path.as_str().strip_prefix(mount.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if wanted.is_none_or(below) {
            stores.push(open_store(provider, &config.runner.state, environment.credentials.as_deref())?);
        }
    }
    if stores.is_empty() {
        bail!(
            "{} has no [[provider]] of kind \"store\" for this; add one:\n[[provider]]\nmount = \"keys/local\"\nkind = \"store\"",
            path.display()
        );
    }
    Ok(stores)
}

fn keep_secret(secret: Secret, environment: &Environment) -> anyhow::Result<ExitCode> {
    match secret {
        Secret::Set(SecretPlace { path, configured }) => {
            // A secret may be kept before the host is enrolled.
            let state = read_config(&configured.config)?.runner.state;
            state::make_private(&state)?;
            settle(&state)?;
            let stores = store(&configured.config, Some(&path), environment)?;
            if std::io::stdin().is_terminal() {
                say_error("type the value, then press Enter and Ctrl-D; it is shown as you type:");
            }
            let mut value = standard_input(128 << 10)?;
            if value.last() == Some(&b'\n') {
                value.pop();
            }
            let value = SecretValue::from_zeroizing(value)?;
            stores[stores.len() - 1].set(&path, &value)?;
            say(&format!("kept {path}"));
        }
        Secret::List(configured) => {
            for store in store(&configured.config, None, environment)? {
                store.list()?.iter().for_each(|path| say(path.as_str()));
            }
        }
        Secret::Remove(SecretPlace { path, configured }) => {
            let stores = store(&configured.config, Some(&path), environment)?;
            if !stores[stores.len() - 1].remove(&path)? {
                bail!("{path} has no value here");
            }
            say(&format!("forgot {path}"));
        }
        Secret::Test { place, output } => return test_secret(place, output, environment),
    }
    Ok(ExitCode::SUCCESS)
}

fn test_secret(place: SecretPlace, output: Form, environment: &Environment) -> anyhow::Result<ExitCode> {
    let config = read_config(&place.configured.config)?;
    // Providers may take variables out of the environment: before there are threads.
    let providers = start::providers(&config, environment)?;
    let scratch = tempfile::tempdir().context("no temporary directory")?;
    providers.start_with(Arc::new(launcher::Local::new(scratch.path().to_owned())));
    let trial = runtime()?.block_on(trial::trial(&providers, &config.ceiling, place.path));
    let Trial { path, provider, millis, error, uses, found } = &trial;
    match output {
        Form::Json => say_json(&trial)?,
        Form::Text => {
            let from = provider.as_ref().map(|by| format!(" by the provider {} ({})", by.mount, by.kind));
            let from = from.unwrap_or_default();
            match error {
                None => say(&format!("{path} was given{from} in {millis} ms")),
                Some(error) => say(&format!("{path} was not given{from} in {millis} ms: {error}")),
            }
            match uses.as_slice() {
                [] => say("no [[ceiling.secrets]] names it: no step can use it"),
                uses => uses.iter().for_each(|place| say(&format!("it may be used as {place}"))),
            }
        }
    }
    Ok(if *found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn pairs(texts: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    let split = |text: &'_ String| -> anyhow::Result<()> {
        if text.contains('=') { Ok(()) } else { bail!("{text:?}: write NAME=PATH") }
    };
    texts.iter().try_for_each(split)?;
    Ok(texts.iter().filter_map(|text| text.split_once('=')).collect())
}

fn local_run(step: &StepRun) -> anyhow::Result<local::Run> {
    let read = |path: &Path, limit| local::read_file(path, limit).with_context(|| path.display().to_string());
    let mut secrets: BTreeMap<SecretName, Vec<SecretPath>> = BTreeMap::new();
    for (name, path) in pairs(&step.secrets)? {
        secrets.entry(SecretName::new(name)?).or_default().push(SecretPath::new(path)?);
    }
    let mut files = Vec::new();
    for (name, path) in pairs(&step.files)? {
        files.push((name.to_owned(), std::path::absolute(path)?));
    }
    Ok(local::Run {
        component: read(&step.component, MAX_COMPONENT)?,
        manifest: read(&step.manifest, MAX_MANIFEST as u64)?,
        input: serde_json::from_str(&step.input).context("--input")?,
        grant: step.grant.as_deref().map(serde_json::from_str::<Grant>).transpose().context("--grant")?,
        config: step.ceiling.as_deref().map(read_config).transpose()?,
        node: step.node.as_deref().map(serde_json::from_str::<Node>).transpose().context("--node")?,
        secrets,
        files,
        artifacts: step.artifacts.clone(),
    })
}

fn run_recorded(step: &StepRun, environment: &Environment) -> anyhow::Result<local::Recorded> {
    let run = local_run(step)?;
    // Providers may take variables out of the environment: before there are threads.
    let providers = match &run.config {
        Some(config) => start::providers(config, environment)?,
        None => Providers::default(),
    };
    Ok(runtime()?.block_on(local::run(run, providers, environment))?)
}

fn step_run(step: &StepRun, environment: &Environment) -> anyhow::Result<ExitCode> {
    let local::Recorded { report, .. } = run_recorded(step, environment)?;
    if let Some(usage) = &report.usage {
        // A closed standard error is the reader's own wish.
        let _ = writeln!(std::io::stderr(), "used: {}", usage.words());
    }
    say_json(&report)?;
    Ok(if report.outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn step_record(step: &StepRun, environment: &Environment) -> anyhow::Result<ExitCode> {
    let recorded = run_recorded(step, environment)?;
    say_json(&recorded)?;
    Ok(if recorded.report.outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn describe(
    component: PathBuf,
    kind: KindName,
    profile: Option<ProfileName>,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let bytes =
        local::read_file(&component, MAX_COMPONENT).with_context(|| component.display().to_string())?;
    let kind = match kind {
        KindName::Step => Kind::Step,
        KindName::NodeSource => Kind::NodeSource,
    };
    let described = local::describe(bytes, kind, profile.map(Profile::from), environment).await?;
    say_json(&serde_json::json!({ "input": described.input, "output": described.output }))?;
    Ok(ExitCode::SUCCESS)
}

async fn warm_step(
    step: StepRun,
    runs: u32,
    home: local::Home,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    say_json(&local::warm_step(local_run(&step)?, runs, home, environment).await?)?;
    Ok(ExitCode::SUCCESS)
}

async fn broker_cost(suite: PathBuf, requests: u32, environment: &Environment) -> anyhow::Result<ExitCode> {
    say_json(&conformance::cost::requests(&suite, &environment.program, requests).await?)?;
    Ok(ExitCode::SUCCESS)
}
