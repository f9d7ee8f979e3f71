//! SSH fan-out against a real server: what a node costs on our side.

use anyhow::{Context as _, Result, ensure};
use harness::Sshd;
use serde_json::json;

use super::{Row, load, process};
use crate::shell::program;

/// Nodes of the fan-out; all are the same server.
const NODES: u32 = 200;

pub(crate) fn fan_out() -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let sshd = Sshd::start(&folder.path().join("sshd"))?;
    let secrets = folder.path().join("secrets");
    std::fs::create_dir_all(&secrets)?;
    std::fs::copy(sshd.client_key(), secrets.join("key"))?;
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.ssh]]\naddresses = [\"127.0.0.0/8\"]\nport = {}\nusers = [\"root\"]\nknown_hosts = {:?}\n\n\
         [[ceiling.secrets]]\npath = \"keys/bench/key\"\nuse = \"ssh-key\"\nusers = [\"root\"]\n\n\
         [[provider]]\nmount = \"keys/bench\"\nkind = \"directory\"\npath = {secrets:?}\n",
        sshd.port(),
        sshd.known_hosts()
    );
    let mut stack = load::stack(folder.path(), &ceiling)?;
    let nodes: Vec<_> = (0..NODES)
        .map(|number| {
            json!({ "name": format!("node-{number:03}"), "attributes":
                { "hostname": format!("127.0.0.1:{}", sshd.port()), "username": "root" } })
        })
        .collect();
    load::load_nodes(&stack, &nodes)?;
    let job = "job: ssh\nrunner: { tags: [bench] }\nnodes: { filter: \".*\", threads: 8 }\nsteps:\n  - name: run\n    \
               uses: remit/ssh-command@1\n    per: node\n    with: { argv: [\"true\"] }\n    secrets: { key: keys/bench/key }\n";
    load::apply(&stack, folder.path(), "ssh", job)?;
    // The first run compiles the component.
    let run = |stack: &harness::Stack, filter: &str| -> Result<()> {
        let triggered = stack.json(&["job", "run", "ssh", "--filter", filter])?;
        let shown = load::ended(stack, triggered["execution"].as_str().context("no execution")?)?;
        let outcome = &shown["summary"]["outcome"];
        ensure!(*outcome == "succeeded", "the SSH fan-out ended {outcome}: {}", shown["steps"]);
        Ok(())
    };
    run(&stack, "node-000")?;
    let runner = stack.runner_named("bench")?;
    // The broker calls the nodes, the supervisor speaks with the orchestrator.
    let pids = [runner.pid().context("the runner is not running")?, broker(runner)?];
    let spent = || pids.iter().map(|pid| process::cpu(*pid)).sum::<Result<f64>>();
    let before = spent()?;
    run(&stack, ".*")?;
    let value = (spent()? - before) / f64::from(NODES);
    let baseline = client(&sshd)?;
    Ok(Row {
        id: "ssh-fan-out",
        value,
        unit: "ms CPU a node",
        baseline,
        ratio: value / baseline,
        note: format!("{NODES} nodes; baseline the client `ssh` against the same server; goal ≤ 2 ms"),
    })
}

fn broker(runner: &harness::Runner) -> Result<u32> {
    Ok(u32::try_from(runner.broker_pid()?.as_raw_nonzero().get())?)
}

/// CPU milliseconds of one run of the client `ssh`.
fn client(sshd: &Sshd) -> Result<f64> {
    let runs = 40;
    let before = process::cpu(std::process::id())?;
    for _ in 0..runs {
        let mut ssh = program("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-p", &sshd.port().to_string(), "-i"])
            .arg(sshd.client_key());
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", sshd.known_hosts().display()));
        ensure!(ssh.args(["root@127.0.0.1", "true"]).status()?.success(), "ssh failed");
    }
    Ok((process::cpu(std::process::id())? - before) / f64::from(runs))
}
