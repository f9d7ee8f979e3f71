//! The programs as users run them: an orchestrator and any number of runners, each a process of its own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;

/// What `remit-orchestrator serve` prints when it is ready.
#[derive(Debug, Clone, Deserialize)]
struct Ready {
    url: String,
    ca: PathBuf,
    token_file: PathBuf,
}

/// An orchestrator on loopback, with everything that it keeps in a folder of its own.
pub struct Stack {
    folder: PathBuf,
    programs: PathBuf,
    orchestrator: Option<Child>,
    ready: Ready,
    token: String,
    runners: Vec<Runner>,
}

/// A runner's process.
pub struct Runner {
    /// Its name.
    pub name: String,
    /// Its folder: `runner.toml`, `trust.toml`, state.
    pub folder: PathBuf,
    wrapper: Vec<String>,
    process: Option<Child>,
}

/// What is particular about a runner's host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The orchestrator's address as it is seen from there, if it is another one.
    pub url: Option<String>,
    /// More lines of `[orchestrator]`.
    pub way: String,
    /// A program with arguments that starts the runner's.
    pub wrapper: Vec<String>,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// What a process came to.
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The output as JSON; of several documents the last.
    pub fn json(&self) -> Result<Value> {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("not JSON: {}{}", self.out, self.err))
    }
}

/// The folder of the programs: `target/debug`, or the one that the caller was built into.
pub fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .find(|folder| folder.join("remit-orchestrator").is_file())
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// The built-in components and the builder's public key, as `cargo xtask build` leaves them.
pub fn components() -> PathBuf {
    programs().join("../components")
}

#[expect(clippy::disallowed_methods, reason = "the harness exists to start programs")]
fn command(program: PathBuf) -> Command {
    Command::new(program)
}

fn signal(process: Option<&Child>, signal: Signal) -> Result<()> {
    let pid =
        process.and_then(|child| Pid::from_raw(child.id().cast_signed())).context("it is not running")?;
    Ok(kill_process(pid, signal)?)
}

/// A program, started by another one where there is one.
fn wrapped(wrapper: &[String], program: PathBuf) -> Command {
    let Some((first, arguments)) = wrapper.split_first() else { return command(program) };
    let mut start = command(PathBuf::from(first));
    start.args(arguments).arg(program);
    start
}

/// How long anything may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `done` gives something.
#[expect(clippy::disallowed_methods, reason = "the harness waits for other processes")]
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = done()? {
            return Ok(found);
        }
        if begun.elapsed() > PATIENCE {
            bail!("{what} did not happen within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Stack {
    /// Starts an orchestrator in `folder` with this trust policy of its registry.
    pub fn start(folder: &Path, trust: &str) -> Result<Self> {
        let programs = programs();
        if !programs.join("remit-runner").is_file() {
            bail!("the programs are not built: run `cargo xtask build`");
        }
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("registry-trust.toml"), trust)?;
        let (orchestrator, ready) = serve(&programs, folder, "127.0.0.1:0")?;
        let token = std::fs::read_to_string(&ready.token_file)?.trim().to_owned();
        let runners = Vec::new();
        Ok(Self {
            folder: folder.to_owned(),
            programs,
            orchestrator: Some(orchestrator),
            ready,
            token,
            runners,
        })
    }

    /// The orchestrator's address.
    pub fn url(&self) -> &str {
        &self.ready.url
    }

    /// The admin token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The certificate of the orchestrator's authority.
    pub fn ca(&self) -> &Path {
        &self.ready.ca
    }

    /// The orchestrator's process, while it runs.
    pub fn orchestrator_pid(&self) -> Option<u32> {
        self.orchestrator.as_ref().map(Child::id)
    }

    /// What the orchestrator itself logs.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("orchestrator.log")
    }

    /// Everything that the orchestrator keeps.
    pub fn data(&self) -> PathBuf {
        self.folder.join("orchestrator")
    }

    /// Ends the orchestrator with SIGKILL.
    pub fn kill_orchestrator(&mut self) -> Result<()> {
        if let Some(mut child) = self.orchestrator.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops the orchestrator where it is.
    pub fn freeze_orchestrator(&self) -> Result<()> {
        signal(self.orchestrator.as_ref(), Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw_orchestrator(&self) -> Result<()> {
        signal(self.orchestrator.as_ref(), Signal::CONT)
    }

    /// Starts it again where it was.
    pub fn restart_orchestrator(&mut self) -> Result<()> {
        let address = self.ready.url.trim_start_matches("https://").to_owned();
        let (child, ready) = serve(&self.programs, &self.folder, &address)?;
        (self.orchestrator, self.ready) = (Some(child), ready);
        Ok(())
    }

    /// `remit` with arguments, as the admin in project `demo`.
    pub fn remit<A: AsRef<std::ffi::OsStr>>(&self, arguments: &[A]) -> Result<Ended> {
        let mut remit = self.remit_command();
        Ok(Ended::of(&remit.args(arguments).output()?))
    }

    /// `remit` ready to be given arguments.
    pub fn remit_command(&self) -> Command {
        let mut remit = command(self.programs.join("remit"));
        remit
            .env("REMIT_URL", &self.ready.url)
            .env("REMIT_TOKEN", &self.token)
            .env("REMIT_CA", &self.ready.ca)
            .env("REMIT_PROJECT", "demo")
            .env("REMIT_PROFILE", self.folder.join("no-profile"))
            .stdin(Stdio::null());
        remit
    }

    /// `remit --output json` with arguments; anything but exit code 0 is an error.
    pub fn json<A: AsRef<std::ffi::OsStr>>(&self, arguments: &[A]) -> Result<Value> {
        let mut remit = self.remit_command();
        let ended = Ended::of(&remit.args(["--output", "json"]).args(arguments).output()?);
        if ended.code != 0 {
            bail!("remit ended with {}: {}{}", ended.code, ended.out, ended.err);
        }
        ended.json()
    }

    /// A GET of the operator API, as text, with its status.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let response = self
                .client()?
                .get(format!("{}{path}", self.ready.url))
                .bearer_auth(&self.token)
                .send()
                .await?;
            Ok((response.status().as_u16(), response.text().await?))
        })
    }

    /// A client that trusts the orchestrator's authority.
    pub fn client(&self) -> Result<reqwest::Client> {
        // The second caller finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pem = std::fs::read(&self.ready.ca)?;
        Ok(reqwest::Client::builder().tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?).build()?)
    }

    /// Creates a runner, writes its files, enrols it over its one-use ticket, and starts it.
    ///
    /// `ceiling` are the lines of `runner.toml` from `[ceiling]` on.
    pub fn runner(&mut self, name: &str, tags: &[&str], ceiling: &str, trust: &str) -> Result<&mut Runner> {
        self.runner_on(&Host::default(), name, tags, ceiling, trust)
    }

    /// As [`runner`](Self::runner), on a particular host.
    pub fn runner_on(
        &mut self,
        host: &Host,
        name: &str,
        tags: &[&str],
        ceiling: &str,
        trust: &str,
    ) -> Result<&mut Runner> {
        let folder = self.enrolled(host, name, tags, ceiling, trust)?;
        self.start_enrolled(host, name, folder)
    }

    /// Starts a runner that is enrolled in `folder`.
    pub fn start_enrolled(&mut self, host: &Host, name: &str, folder: PathBuf) -> Result<&mut Runner> {
        let mut runner =
            Runner { name: name.to_owned(), folder, wrapper: host.wrapper.clone(), process: None };
        runner.start(&self.programs)?;
        self.runners.push(runner);
        self.wait_healthy(name)?;
        let runner = self.runners.last_mut();
        runner.context("a runner was just added")
    }

    /// Creates a runner, writes its files and enrols it, without starting it; gives its folder.
    pub fn enrolled(
        &self,
        host: &Host,
        name: &str,
        tags: &[&str],
        ceiling: &str,
        trust: &str,
    ) -> Result<PathBuf> {
        let folder = self.folder.join("runners").join(name);
        std::fs::create_dir_all(&folder)?;
        let config = format!(
            "[orchestrator]\nurl = {:?}\n{}\n\n[runner]\nstate = \"state\"\nslots = 16\ntrust = \"trust.toml\"\n\n{ceiling}",
            host.url.as_ref().unwrap_or(&self.ready.url),
            host.way
        );
        std::fs::write(folder.join("runner.toml"), config)?;
        std::fs::write(folder.join("trust.toml"), trust)?;
        let mut arguments = vec!["runner", "create", name, "--for-project", "demo"];
        for tag in tags {
            arguments.extend(["--tag", tag]);
        }
        if tags.is_empty() {
            arguments.push("--local");
        }
        let issued = self.json(&arguments)?;
        let ticket = issued["ticket"].as_str().context("no ticket in the answer")?.to_owned();
        let enrolled = self.runner_program(&folder, &["enrol", "--config", "runner.toml"], &ticket)?;
        if enrolled.code != 0 {
            bail!("enrolment failed: {}{}", enrolled.out, enrolled.err);
        }
        Ok(folder)
    }

    /// Waits until the orchestrator has heard of the runner.
    pub fn wait_healthy(&self, name: &str) -> Result<()> {
        wait_for(&format!("runner {name} being healthy"), || {
            let shown = self.json(&["runner", "show", name])?;
            Ok((shown["status"] == "healthy").then_some(()))
        })
    }

    /// A runner of this stack.
    pub fn runner_named(&mut self, name: &str) -> Result<&mut Runner> {
        self.runners.iter_mut().find(|runner| runner.name == name).context("no such runner")
    }

    /// Starts a runner again and waits for nobody.
    pub fn start_runner(&mut self, name: &str) -> Result<()> {
        let programs = self.programs.clone();
        self.runner_named(name)?.start(&programs)
    }

    /// Starts a stopped runner again.
    pub fn restart_runner(&mut self, name: &str) -> Result<()> {
        let programs = self.programs.clone();
        self.runner_named(name)?.start(&programs)?;
        self.wait_healthy(name)
    }

    /// `remit-runner` in a folder, with text on standard input.
    pub fn runner_program(&self, folder: &Path, arguments: &[&str], input: &str) -> Result<Ended> {
        self.runner_program_on(&Host::default(), folder, arguments, input)
    }

    /// As [`runner_program`](Self::runner_program), on a particular host.
    pub fn runner_program_on(
        &self,
        host: &Host,
        folder: &Path,
        arguments: &[&str],
        input: &str,
    ) -> Result<Ended> {
        let mut child = wrapped(&host.wrapper, self.programs.join("remit-runner"))
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that wants no input may have ended already.
            let _ = stdin.write_all(format!("{input}\n").as_bytes());
        }
        Ok(Ended::of(&child.wait_with_output()?))
    }

    /// Publishes the built-in components.
    pub fn publish_built_in(&self) -> Result<()> {
        let folder = components();
        for entry in std::fs::read_dir(&folder)
            .with_context(|| format!("{}: run `cargo xtask build`", folder.display()))?
        {
            let folder = entry?.path();
            if folder.join("component.note").is_file() {
                let ended = self.remit(&["step".as_ref(), "publish".as_ref(), folder.as_os_str()])?;
                if ended.code != 0 {
                    bail!("publishing {} failed: {}", folder.display(), ended.err);
                }
            }
        }
        Ok(())
    }

    /// Every file under the orchestrator's data that holds `needle`.
    pub fn files_with(&self, needle: &[u8]) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(&path)?.windows(needle.len()).any(|window| window == needle) {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }
}

fn serve(programs: &Path, folder: &Path, listen: &str) -> Result<(Child, Ready)> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("orchestrator.log"))?;
    let config = folder.join("orchestrator.toml");
    let (how, place) = match config.is_file() {
        true => ("--config", config),
        false => ("--data", folder.join("orchestrator")),
    };
    let mut child = command(programs.join("remit-orchestrator"))
        .args(["serve", how])
        .arg(place)
        .args(["--listen", listen, "--trust"])
        .arg(folder.join("registry-trust.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("remit-orchestrator does not start")?;
    let mut line = String::new();
    if let Some(out) = child.stdout.as_mut() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let ready = serde_json::from_str(&line).with_context(|| {
        format!("remit-orchestrator said {line:?}; see {}", folder.join("orchestrator.log").display())
    })?;
    Ok((child, ready))
}

impl Runner {
    /// Starts the process; its log goes to `runner.log`.
    fn start(&mut self, programs: &Path) -> Result<()> {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("runner.log"))?;
        let child = wrapped(&self.wrapper, programs.join("remit-runner"))
            .args(["run", "--config", "runner.toml"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("remit-runner does not start with {:?}", self.wrapper))?;
        self.process = Some(child);
        Ok(())
    }

    /// The process's id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The process of its broker, which the launcher has started.
    pub fn broker_pid(&self) -> Result<rustix::process::Pid> {
        let own = self.pid().context("the runner does not run")?;
        let below = |parent: u32| -> Vec<u32> {
            let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
            let is_child = |pid: &u32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let after = stat.rsplit(") ").next().unwrap_or_default();
                after.split(' ').nth(1).and_then(|text| text.parse().ok()) == Some(parent)
            };
            pids.filter(is_child).collect()
        };
        let is_broker = |pid: &u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"broker".as_slice())
        };
        let found = below(own).into_iter().flat_map(below).find(is_broker);
        let found = found.and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        found.context("the runner has no broker")
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> Result<()> {
        signal(self.process.as_ref(), Signal::TERM)?;
        if let Some(mut child) = self.process.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Stops it where it is; [`Runner::kill`] still ends it.
    pub fn freeze(&self) -> Result<()> {
        signal(self.process.as_ref(), Signal::STOP)
    }

    /// True once its journal holds this text.
    pub fn has_journalled(&self, text: &str) -> Result<bool> {
        for entry in std::fs::read_dir(self.folder.join("state/journal"))? {
            // A segment that was just replaced is read the next time.
            let bytes = std::fs::read(entry?.path()).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("runner.log")).unwrap_or_default()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for runner in &mut self.runners {
            // It may be gone already.
            let _ = runner.kill();
        }
        let _ = self.kill_orchestrator();
    }
}
