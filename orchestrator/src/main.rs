//! The program `remit-orchestrator`.

use std::{
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use remit_orchestrator::{
    app::{App, FirstToken, system_clock},
    config::Config,
    registry,
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Holds jobs, decides what runs where, records what happened.
#[derive(Debug, Parser)]
#[command(name = "remit-orchestrator", version)]
struct Cli {
    /// What is logged, such as `info` or `remit_orchestrator=debug`.
    #[arg(long, global = true, default_value = "info", env = "REMIT_LOG")]
    log: String,
    /// The form of the log, on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text, env = "REMIT_LOG_FORM")]
    log_form: LogForm,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until it is told to stop.
    Serve {
        #[command(flatten)]
        place: Place,
        /// Where to listen, instead of what the configuration says; port 0 lets the operating system choose.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
        /// How it is reached, instead of what the configuration says.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// The registry's trust policy, instead of what the configuration says.
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
        /// Prints the token that the first start makes in the ready line, instead of writing it to a file.
        #[arg(long)]
        print_token: bool,
        /// Stops when the process that started it ends, however that ends.
        #[arg(long, hide = true)]
        end_with_parent: bool,
    },
    /// Measures a part of this program.
    #[command(subcommand, hide = true)]
    Bench(Bench),
    /// Checks configuration and trust policy: every mistake with its place.
    Check {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// How many notes a second the transparency log takes.
    LogAppend {
        /// An empty directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// How many notes.
        #[arg(long)]
        notes: u32,
        /// How many callers append at once, one note after the other.
        #[arg(long)]
        callers: u32,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One directory for everything, in place of a configuration file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    fn config(&self) -> anyhow::Result<Config> {
        match (&self.config, &self.data) {
            (Some(file), _) => Ok(Config::load(file)?),
            (None, Some(data)) => Ok(Config::in_directory(data, SocketAddr::from(([127, 0, 0, 1], 8443)))),
            (None, None) => {
                anyhow::bail!("name a configuration file with --config, or a directory with --data")
            }
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_form {
        LogForm::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogForm::Json => log.json().init(),
    }
    raise_open_files();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "remit-orchestrator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Each parked runner is a connection: as many files may be open as the operating system lets this process have.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the number of open files could not be raised");
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check { place } => {
            let config = place.config()?;
            let policy = registry::trust(&config.trust)?;
            let namespaces: Vec<_> = policy.namespaces().map(ToString::to_string).collect();
            let mut out = std::io::stdout();
            writeln!(out, "The configuration is in order.")?;
            writeln!(out, "Publishers of these namespaces are trusted: {}", namespaces.join(", "))?;
            Ok(())
        }
        Command::Bench(Bench::LogAppend { data, notes, callers }) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let speed = runtime.block_on(registry::append_speed(&data, notes, callers))?;
            writeln!(std::io::stdout(), "{}", serde_json::json!({ "notes_per_second": speed }))?;
            Ok(())
        }
        Command::Serve { place, listen, url, trust, print_token, end_with_parent } => {
            if end_with_parent {
                set_parent_process_death_signal(Some(Signal::TERM))?;
            }
            let mut config = place.config()?;
            config.listen = listen.unwrap_or(config.listen);
            config.url = url.map(|url| url.trim_end_matches('/').to_owned()).or(config.url);
            config.trust = trust.unwrap_or(config.trust);
            let first = if print_token { FirstToken::Print } else { FirstToken::File };
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(serve(config, first))
        }
    }
}

async fn serve(config: Config, first: FirstToken) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let app = App::start(config, first, system_clock(), stop.clone()).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(app.ready())?).context("cannot print the ready line")?;
    out.flush()?;
    let served = app.serve();
    let mut served = std::pin::pin!(served);
    tokio::select! {
        ended = &mut served => return ended,
        signal = asked_to_stop() => signal?,
    }
    tracing::info!("stopping");
    stop.cancel();
    served.await
}

/// Waits for SIGTERM or Ctrl-C.
async fn asked_to_stop() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}
