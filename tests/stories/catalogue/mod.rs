//! The step catalogue: each step and node source as users run it, against the real thing where it can run here, otherwise
//! against answers of the documented form.

mod live;
mod nodes;
mod plain;
mod platforms;
mod sql;
mod ssh;
mod tcp;

use std::path::Path;

use harness::{Authority, Reply, Seen, Service, Stack};
use serde_json::Value;

use super::{apply, run};

/// A service on `localhost`, and the rules of a ceiling that let steps send it requests of all methods.
fn serving(folder: &Path, answering: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Service, String) {
    let authority = Authority::new().unwrap();
    let ca = folder.join("ca.pem");
    authority.write(&ca).unwrap();
    let service = Service::answering(&authority, "localhost", answering).unwrap();
    let ceiling = format!(
        "[[ceiling.http]]\nhost = \"localhost\"\nport = {}\nmethods = [\"GET\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\"]\npaths = [\"/\"]\n\
         private = [\"127.0.0.0/8\", \"::1/128\"]\nca_file = {ca:?}\n\n",
        service.port()
    );
    (service, ceiling)
}

/// A secret in the directory `secrets` of `folder`, and the lines that name its provider; the rule stays the caller's.
fn secret(folder: &Path, name: &str, value: &str) -> String {
    let secrets = folder.join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join(name), value).unwrap();
    format!("[[provider]]\nmount = \"keys/test\"\nkind = \"directory\"\npath = {secrets:?}\n\n")
}

/// Saves a job and runs it; it has to succeed. Gives the execution.
fn succeeds(stack: &Stack, folder: &Path, source: &str, arguments: &[&str]) -> Value {
    apply(stack, folder, source);
    let name = source.lines().find_map(|line| line.strip_prefix("job: ")).unwrap();
    let shown = run(stack, &[&[name], arguments].concat());
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    shown
}

/// Saves a job and runs it; its first step has to fail with a message that holds `part`.
fn fails(stack: &Stack, folder: &Path, source: &str, part: &str) {
    apply(stack, folder, source);
    let name = source.lines().find_map(|line| line.strip_prefix("job: ")).unwrap();
    let shown = run(stack, &[name]);
    assert_ne!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    let message = shown["steps"][0]["run"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(part), "wanted {part:?}: {shown:#}");
}
