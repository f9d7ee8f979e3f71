//! `cargo xtask demo`: the whole product at work on this machine, and the promises that it makes, tried.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use harness::{Authority, Ended, Service, Stack, builder_trust, components, trust_lines};

use crate::{
    build,
    shell::{root, say},
};

/// The secret of the demo. It is in a file at the runner and must be found nowhere else.
const SECRET: &str = "s3cr3t-of-the-control-api-4711";

/// Builds what is missing, runs the tour, tries the promises; then waits for Ctrl-C unless it only checks.
pub(crate) fn run(check: bool) -> Result<()> {
    build::all(false)?;
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(folder.path())?;
    demo.tour()?;
    demo.secret_is_nowhere()?;
    demo.unknown_key_is_refused()?;
    demo.ungranted_host_is_refused()?;
    demo.misdirected_secret_is_refused()?;
    say("\nEverything was as promised.");
    if check {
        return Ok(());
    }
    say(&format!(
        "\nThe orchestrator and the runner are still there. In another terminal:\n\n  export REMIT_URL={}\n  export REMIT_TOKEN={}\n  export REMIT_CA={}\n  export REMIT_PROJECT=demo\n  export PATH=\"{}:$PATH\"\n  remit execution list\n\nCtrl-C ends it.",
        demo.stack.url(),
        demo.stack.token(),
        demo.stack.ca().display(),
        harness::programs().display()
    ));
    wait_for_interrupt()
}

/// Blocks until Ctrl-C.
fn wait_for_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(tokio::signal::ctrl_c())?)
}

struct Demo {
    folder: PathBuf,
    stack: Stack,
    /// The control API: the one that the owner of the runner permits.
    control: Service,
    /// A host that the owner permits, but not for the secret.
    other: Service,
    /// A host that the owner does not permit.
    outside: Service,
}

impl Demo {
    /// Starts everything: three HTTPS services, an orchestrator, and a runner with its owner's policy.
    fn start(folder: &Path) -> Result<Self> {
        say(
            "── starting three HTTPS services, an orchestrator, and a runner that enrols with a one-use ticket",
        );
        let authority = Authority::new()?;
        let service = || Service::start(&authority, "localhost");
        let (control, other, outside) = (service()?, service()?, service()?);
        let secrets = folder.join("secrets");
        std::fs::create_dir_all(&secrets)?;
        std::fs::write(secrets.join("control-token"), SECRET)?;
        std::fs::copy(root().join("xtask/demo/nodes.yaml"), folder.join("nodes.yaml"))?;
        authority.write(&folder.join("site-ca.pem"))?;
        let key = folder.join("acme.key");
        let remit = harness::programs().join("remit");
        crate::shell::run(
            crate::shell::program(remit).args(["key", "new", "acme.example/release", "--out"]).arg(&key),
        )?;
        let acme = std::fs::read_to_string(key.with_extension("vkey"))?;
        // The registry takes components of acme; the runner's owner does not trust acme.
        let runner_trust = builder_trust()?;
        let registry_trust = format!("{runner_trust}\n{}", trust_lines("acme", acme.trim(), "mallory")?);
        let mut stack = Stack::start(&folder.join("site"), &registry_trust)?;
        succeed(&stack.remit(&["project", "create", "demo"])?)?;
        stack.publish_built_in()?;
        let ceiling = ceiling(folder, control.port(), other.port());
        stack.runner("edge", &["dmz"], &ceiling, &runner_trust)?;
        show(&stack, &["runner", "list"])?;
        Ok(Self { folder: folder.to_owned(), stack, control, other, outside })
    }

    /// Nodes through the runner, then a job over them with a secret.
    fn tour(&self) -> Result<()> {
        say("\n── nodes: a signed node source reads a file at the runner");
        let source = self.folder.join("site.toml");
        std::fs::copy(root().join("xtask/demo/site.toml"), &source)?;
        show(&self.stack, &["nodes", "source", "apply", &text(&source)])?;
        show(&self.stack, &["nodes", "source", "refresh", "site"])?;
        show(&self.stack, &["nodes", "list", "--filter", "tags: web"])?;
        say(
            "\n── a job: one call to the control API for each web node, with a token that the steps never see",
        );
        self.apply("restart_web.yaml", self.control.port())?;
        show(&self.stack, &["job", "run", "restart_web", "--option", "service=web", "--follow"])?;
        let listed = self.stack.json(&["execution", "list", "--job", "restart_web"])?;
        let id = listed["items"][0]["id"].as_str().context("the execution is not listed")?.to_owned();
        show(&self.stack, &["execution", "nodes", &id, "--step", "0"])?;
        let seen = self.control.seen();
        ensure!(seen.len() == 3, "the control API was called {} times instead of 3", seen.len());
        let bearer = format!("Bearer {SECRET}");
        ensure!(
            seen.iter().all(|request| request.authorization.as_deref() == Some(&bearer)),
            "a call came without the token"
        );
        say("the control API saw three calls, each with the token");
        Ok(())
    }

    /// (a) The secret is nowhere at the orchestrator, even though the control API echoed it.
    fn secret_is_nowhere(&self) -> Result<()> {
        say("\n── (a) the secret's value is nowhere at the orchestrator");
        self.apply("echo.yaml", self.control.port())?;
        let run = self.stack.remit(&["job", "run", "echo", "--follow"])?;
        succeed(&run)?;
        ensure!(
            run.out.contains("[redacted:keys/demo/control-token]"),
            "the echo is not redacted: {}",
            run.out
        );
        ensure!(
            !run.out.contains(SECRET) && !run.err.contains(SECRET),
            "the command line printed the secret"
        );
        let found = self.stack.files_with(SECRET.as_bytes())?;
        ensure!(found.is_empty(), "the secret is in {found:?}");
        let log = std::fs::read_to_string(self.stack.log_file())?;
        ensure!(!log.contains(SECRET), "the orchestrator's own log has the secret");
        let listed = self.stack.json(&["execution", "list"])?;
        for execution in listed["items"].as_array().into_iter().flatten() {
            let id = execution["id"].as_str().unwrap_or_default();
            for part in ["", "/log", "/steps/0/nodes"] {
                let (_, answer) = self.stack.get(&format!("/api/v1/executions/{id}{part}"))?;
                ensure!(!answer.contains(SECRET), "the API's answer on {id}{part} has the secret");
            }
        }
        say("not in its data directory, database, logs or API answers; the service's echo arrived redacted");
        Ok(())
    }

    /// (b) A component whose signer the runner does not know.
    fn unknown_key_is_refused(&self) -> Result<()> {
        say("\n── (b) a component that is signed by a key the runner's owner does not trust");
        let package = self.folder.join("acme");
        std::fs::create_dir_all(&package)?;
        let step = std::fs::read_to_string(root().join("steps/transform/step.toml"))?;
        std::fs::write(package.join("step.toml"), step.replace("remit/transform", "acme/transform"))?;
        let wasm = components().join("transform/component.wasm");
        let stack = &self.stack;
        succeed(&stack.remit(&["step", "build", &text(&package), "--wasm", &text(&wasm)])?)?;
        succeed(&stack.remit(&[
            "step",
            "sign",
            &text(&package),
            "--key",
            &text(&self.folder.join("acme.key")),
        ])?)?;
        succeed(&stack.remit(&["step", "publish", &text(&package)])?)?;
        self.refused("unknown_key.yaml", "unknown_key", 0, "E_SCOPE")
    }

    /// (c) A host that the ceiling does not name.
    fn ungranted_host_is_refused(&self) -> Result<()> {
        say("\n── (c) a step that asks for a host outside of its remit");
        self.refused("outside.yaml", "outside", self.outside.port(), "E_CEILING")?;
        ensure!(self.outside.connections() == 0, "the listener saw a connection");
        say("the listener saw no connection");
        Ok(())
    }

    /// (d) A secret for a host that the owner did not name for it.
    fn misdirected_secret_is_refused(&self) -> Result<()> {
        say("\n── (d) a secret that is bound to a host which the owner did not name for it");
        self.refused("misdirected.yaml", "misdirected", self.other.port(), "E_CEILING")?;
        ensure!(self.other.connections() == 0, "the listener saw a connection");
        say("the listener saw no connection");
        Ok(())
    }

    /// Applies a job of the demo with the port filled in.
    fn apply(&self, file: &str, port: u16) -> Result<()> {
        let source = std::fs::read_to_string(root().join("xtask/demo").join(file))?;
        let path = self.folder.join(file);
        std::fs::write(&path, source.replace("PORT", &port.to_string()))?;
        show(&self.stack, &["job", "apply", &text(&path)])
    }

    /// Runs a job that has to be refused with this code and a remedy.
    fn refused(&self, file: &str, job: &str, port: u16, code: &str) -> Result<()> {
        self.apply(file, port)?;
        let run = self.stack.remit(&["job", "run", job, "--follow"])?;
        say(run.out.trim_end());
        say(run.err.trim_end());
        ensure!(run.code == 4, "the exit code is {} instead of 4 (refused)", run.code);
        ensure!(run.out.contains(code), "the refusal does not name {code}");
        Ok(())
    }
}

/// The owner's policy: two hosts, one secret for one of them, one named path.
fn ceiling(folder: &Path, control: u16, other: u16) -> String {
    let folder = folder.display();
    format!(
        r#"[ceiling]
memory = "256MiB"
wall = "10m"

[[ceiling.http]]
host = "localhost"
port = {control}
methods = ["GET", "POST"]
paths = ["/v1", "/echo"]
private = ["127.0.0.0/8", "::1/128"]
ca_file = "{folder}/site-ca.pem"

[[ceiling.http]]
host = "localhost"
port = {other}
methods = ["GET", "POST"]
paths = ["/"]
private = ["127.0.0.0/8", "::1/128"]
ca_file = "{folder}/site-ca.pem"

[[ceiling.secrets]]
path = "keys/demo/control-token"
use = "bearer"
hosts = ["localhost:{control}"]
components = ["remit/http-request"]

[[ceiling.files]]
name = "inventory"
path = "{folder}/nodes.yaml"
mode = "ro"

[[provider]]
mount = "keys/demo"
kind = "directory"
path = "{folder}/secrets"
"#
    )
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs `remit` as a user would, shows it, and expects it to succeed.
fn show(stack: &Stack, arguments: &[&str]) -> Result<()> {
    say(&format!("\n$ remit {}", arguments.join(" ")));
    let ended = stack.remit(arguments)?;
    say(ended.out.trim_end());
    succeed(&ended)
}

fn succeed(ended: &Ended) -> Result<()> {
    if ended.code != 0 {
        bail!("it ended with {}: {}", ended.code, ended.err);
    }
    Ok(())
}
