//! The WIT world of one step: exactly what its `step.toml` asks for. A toolchain that imports all of a world would import
//! too much of any other.

use std::path::Path;

use remit_protocol::{capability::files::FilesRequest, manifest::StepFile};

use crate::{
    failure::{Failure, Result},
    files,
};

/// Packages of `sdk/wit` beside the vendored ones.
const PACKAGES: [&str; 6] = ["step", "exec", "ssh", "tcp", "secrets", "files"];

/// Writes `build/wit` anew, from `sdk/wit` and `step_file`.
pub(super) fn write(folder: &Path, step_file: &StepFile) -> Result<()> {
    let (from, to) = (folder.join("sdk/wit"), folder.join("build/wit"));
    match std::fs::remove_dir_all(&to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::file(&to, &error)),
        _ => {}
    }
    copy(&from.join("deps"), &to.join("deps"))?;
    for package in PACKAGES {
        copy(&from.join(package), &to.join("deps").join(package))?;
    }
    files::write(&to.join("world.wit"), text(step_file).as_bytes(), false)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let entries = std::fs::read_dir(from).map_err(|error| {
        Failure::file(from, &error).with_remedy(
            "`remit step new` writes the SDK and its WIT to sdk/: copy that folder of a new step",
        )
    })?;
    for entry in entries {
        let path = entry.map_err(|error| Failure::file(from, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "wit") {
            let name = path.file_name().unwrap_or_default();
            files::write(&to.join(name), &files::read(&path, 1 << 20)?, false)?;
        }
    }
    Ok(())
}

fn text(step_file: &StepFile) -> String {
    let asked = [
        (!step_file.http.is_empty(), "wasi:http/outgoing-handler@0.2.12"),
        (!step_file.exec.is_empty(), "remit:exec/run@0.1.1"),
        (!step_file.ssh.is_empty(), "remit:ssh/run@0.1.1"),
        (!step_file.tcp.is_empty(), "remit:tcp/connect@0.1.0"),
        (step_file.files.iter().any(FilesRequest::is_named), "remit:files/named@0.1.1"),
        (step_file.files.contains(&FilesRequest::Artifacts), "remit:files/artifacts@0.1.1"),
        (!step_file.reveal.is_empty(), "remit:secrets/reveal@0.1.0"),
    ];
    let base = ["remit:step/log@0.1.0", "remit:step/context@0.1.0"];
    let mut lines = vec!["package build:component;".to_owned(), "world component {".to_owned()];
    let asked = asked.into_iter().filter_map(|(asked, interface)| asked.then_some(interface));
    lines.extend(base.into_iter().chain(asked).map(|interface| format!("  import {interface};")));
    lines.extend(["  export remit:step/main@0.1.0;".to_owned(), "}".to_owned(), String::new()]);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_holds_what_is_asked_for_and_nothing_else() {
        fn check(requests: &str, expect: &[&str]) {
            let file = format!(
                "name = \"my/a\"\nversion = \"1.0.0\"\nkind = \"step\"\ndescription = \"a\"\neffect = \"pure\"\n{requests}"
            );
            let text = text(&toml::from_str(&file).unwrap());
            let imports: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  import ")).collect();
            assert_eq!(imports[..2], ["remit:step/log@0.1.0;", "remit:step/context@0.1.0;"]);
            assert_eq!(imports[2..], *expect, "{requests}");
            assert!(text.contains("  export remit:step/main@0.1.0;\n}\n"));
        }
        check("", &[]);
        check("[[exec]]\nprogram = \"uname\"\n", &["remit:exec/run@0.1.1;"]);
        check("[[files]]\nscratch = true\n", &[]);
        check("[[reveal]]\nname = \"token\"\n", &["remit:secrets/reveal@0.1.0;"]);
        check(
            "[[http]]\nhost = \"a.example\"\nmethods = [\"GET\"]\npaths = [\"/\"]\n",
            &["wasi:http/outgoing-handler@0.2.12;"],
        );
    }
}
