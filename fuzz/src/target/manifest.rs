//! Manifests and `step.toml`.

use remit_protocol::manifest::{Manifest, StepFile};

use super::{Broken, Target, Verdict, files};
use crate::mutate::Form;

pub(super) const TARGET: Target = Target {
    name: "manifest",
    form: Form::Json,
    words: &[
        "v",
        "name",
        "version",
        "kind",
        "step",
        "node-source",
        "effect",
        "pure",
        "read",
        "idempotent",
        "profile",
        "python",
        "js",
        "imports",
        "remit:step/log@0.1.0",
        "wasi:http/outgoing-handler@0.2.6",
        "requests",
        "http",
        "exec",
        "ssh",
        "files",
        "reveal",
        "limits",
        "memory",
        "wall",
        "64MiB",
        "513MiB",
        "25h",
        "acme/hello",
        "1.4.2",
        "host",
        "granted",
        "scratch",
        "target",
        "node",
        "secret",
        "use",
        "bearer",
        "header",
        "methods",
        "paths",
        "GET",
        "/v1",
        "program",
        "args",
    ],
    seeds: || {
        let mut seeds = files("protocol/tests/wire", "manifest.json");
        seeds.push(br#"{"v":1,"name":"acme/x","version":"1.0.0","kind":"step","description":"x","effect":"effect","imports":["remit:exec/run@0.1.0","remit:step/log@0.1.0"],"requests":{"http":[{"host":"*.b.example","port":8443,"methods":["GET","POST"],"paths":["/v1"],"private":true},{"host":"a.example","methods":["GET"],"paths":["/"],"secret":{"name":"token","use":"bearer"}}],"exec":[{"program":"ls","args":["-l","{path under srv}","{text}*"],"secret":{"name":"token","env":"TOKEN"}},{"program":"granted"}],"ssh":[{"target":"node","secret":{"name":"key","use":"ssh-key"}}],"files":[{"scratch":true},{"name":"nodes"},{"path":"granted"}],"reveal":[{"name":"token"}]},"limits":{"memory":"64MiB","wall":"1m","cpu":"30s","log":"1MiB","output":"256KiB","requests":100,"egress":"16MiB","ingress":"64MiB","processes":16,"scratch":"64MiB","handles":1024},"input":{"type":"object"},"output":null}"#.to_vec());
        super::seeds(seeds, "manifest")
    },
    check,
};

fn check(input: &[u8]) -> Result<Verdict, Broken> {
    let manifest = match Manifest::from_slice(input) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Verdict { accepted: false, words: error.to_string() }),
    };
    let written = manifest.to_vec();
    match Manifest::from_slice(&written) {
        Ok(read) => Broken::unless(read == manifest, || "it reads otherwise what it wrote".to_owned())?,
        Err(error) => return Err(Broken(format!("it does not read what it wrote: {error}"))),
    }
    // The requests of a manifest are those of a step.toml with the same words.
    let requests = &manifest.requests;
    let file = serde_json::json!({
        "name": manifest.name, "version": manifest.version, "kind": manifest.kind, "description": manifest.description,
        "effect": manifest.effect, "profile": manifest.profile, "limits": manifest.limits, "http": requests.http,
        "exec": requests.exec, "ssh": requests.ssh, "files": requests.files, "reveal": requests.reveal,
    });
    let file: StepFile =
        serde_json::from_value(file).map_err(|error| Broken(format!("no step.toml says this: {error}")))?;
    let made = file.into_manifest(manifest.imports.clone(), manifest.input.clone(), manifest.output.clone());
    Broken::unless(made == manifest, || "its step.toml makes another manifest".to_owned())?;
    let words = format!(
        "{} {} {} {} {} {}",
        requests.http.len(),
        requests.exec.len(),
        requests.ssh.len(),
        requests.files.len(),
        requests.reveal.len(),
        manifest.imports.len()
    );
    Ok(Verdict { accepted: true, words: words.replace(|c: char| c.is_ascii_digit() && c > '3', "many") })
}
