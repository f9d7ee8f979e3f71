//! A real Docker daemon on a socket of its own, with one small image and nothing of the network.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

/// The daemon; it ends when this is dropped.
pub struct Docker {
    daemon: Child,
    socket: PathBuf,
}

/// The image that every daemon has: busybox as `/bin/busybox`, `/bin/sh` and the commands of [`COMMANDS`].
pub const IMAGE: &str = "remit/busybox:1";
const COMMANDS: [&str; 6] = ["sh", "cat", "echo", "env", "printf", "sleep"];

#[expect(clippy::disallowed_methods, reason = "the harness exists to start programs")]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Docker {
    /// Starts the daemon in `folder`. None, said on standard output, where the programs are there but the kernel does not let
    /// a daemon run.
    ///
    /// # Errors
    /// A program that is not installed.
    pub fn start(folder: &Path) -> Result<Option<Self>> {
        for (program, package) in [("/usr/sbin/dockerd", "docker.io"), ("/bin/busybox", "busybox-static")] {
            if !Path::new(program).is_file() {
                bail!("{program} is missing: apt-get install {package}");
            }
        }
        std::fs::create_dir_all(folder)?;
        // A runner takes no socket behind a link.
        let folder = &std::fs::canonicalize(folder)?;
        let (socket, log) = (folder.join("docker.sock"), folder.join("dockerd.log"));
        let daemon = command("/usr/sbin/dockerd")
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .args(["--iptables=false", "--ip-forward=false", "--bridge=none", "--storage-driver=vfs", "-H"])
            .arg(format!("unix://{}", socket.display()))
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let mut docker = Self { daemon, socket };
        let running = wait_for("dockerd answering", || {
            if docker.daemon.try_wait()?.is_some() {
                return Ok(Some(false));
            }
            Ok(docker.client(&["version"]).is_ok().then_some(true))
        })?;
        if !running {
            say(&format!(
                "NOT RUN: dockerd does not run here: {}",
                std::fs::read_to_string(log)?.lines().last().unwrap_or_default()
            ));
            return Ok(None);
        }
        docker.import(&folder.join("image"))?;
        Ok(Some(docker))
    }

    /// Makes the image out of this machine's busybox.
    fn import(&self, folder: &Path) -> Result<()> {
        let programs = folder.join("bin");
        std::fs::create_dir_all(&programs)?;
        std::fs::copy("/bin/busybox", programs.join("busybox"))?;
        for name in COMMANDS {
            std::os::unix::fs::symlink("busybox", programs.join(name))?;
        }
        let archive = folder.join("image.tar");
        let packed = command("tar").arg("-C").arg(folder).arg("-cf").arg(&archive).arg("bin").status()?;
        if !packed.success() {
            bail!("tar could not pack the image");
        }
        self.client(&["import", &archive.display().to_string(), IMAGE]).map(drop)
    }

    /// A rule of a ceiling: components may call the daemon with these methods and paths.
    pub fn endpoint(&self, components: &[&str], methods: &[&str], paths: &[&str]) -> String {
        format!(
            "[[ceiling.http]]\nendpoint = \"docker\"\nunix = {:?}\nmethods = {methods:?}\npaths = {paths:?}\ncomponents = {components:?}\n\n",
            self.socket
        )
    }

    /// Where it listens, as the client wants it.
    fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The client with arguments; gives what it printed.
    ///
    /// # Errors
    /// Any end but exit code 0.
    pub fn client(&self, arguments: &[&str]) -> Result<String> {
        let output = command("/usr/bin/docker")
            .args(["-H", &self.host()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .context("/usr/bin/docker is missing: apt-get install docker.io")?;
        if !output.status.success() {
            bail!("docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[expect(clippy::print_stdout, reason = "what was not run is told")]
fn say(text: &str) {
    println!("{text}");
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Containers first: a daemon that ends lets them go on.
        if let Ok(all) = self.client(&["ps", "--quiet", "--all"]) {
            for id in all.split_whitespace() {
                let _ = self.client(&["rm", "--force", id]);
            }
        }
        // Asked, not killed: it ends the containerd that it has started.
        if let Some(pid) = Pid::from_raw(self.daemon.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.daemon.wait();
    }
}
