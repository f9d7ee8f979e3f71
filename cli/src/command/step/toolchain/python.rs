//! Python: componentize-py, in a virtual environment of the step's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Pinned, finish};
use crate::{failure::Result, files, output, programs};

/// What the toolchain wraps: the author's module, and the SDK's exports under the name of the world's export.
const ENTRY: &str = "import step\nfrom remit._guest import Main as RemitStepMain010\n";

const INSTALL: &str = "install Python 3.10 or newer with venv and pip (Debian: apt install python3-venv), then, in the \
step's folder:\npython3 -m venv build/venv && build/venv/bin/pip install -r requirements.txt";

/// Builds `step.py` in `folder`, whose world is written already.
pub(super) fn build(folder: &Path) -> Result<PathBuf> {
    let build = folder.join("build");
    let environment = build.join("venv");
    let pinned = Pinned { folder, file: "requirements.txt", product: "venv/bin/componentize-py" };
    pinned.install(|| {
        let failed = "the virtual environment cannot be made";
        finish(programs::tool("python3").args(["-m", "venv", "--clear"]).arg(&environment), failed, INSTALL)?;
        let mut pip = programs::tool(environment.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        pip.arg(folder.join("requirements.txt"));
        finish(&mut pip, "what requirements.txt names cannot be installed", INSTALL)
    })?;
    files::write(&build.join("source/entry.py"), ENTRY.as_bytes(), false)?;
    output::note("building with componentize-py …");
    let component = build.join("component.wasm");
    let mut tool = programs::tool(environment.join("bin/componentize-py"));
    tool.args(["--full-names", "--quiet", "--world", "component", "--wit-path"]).arg(build.join("wit"));
    tool.arg("componentize").arg("entry");
    for path in [build.join("source"), folder.to_owned(), folder.join("sdk/python")] {
        tool.arg("--python-path").arg(path);
    }
    tool.arg("--output").arg(&component);
    tool.env("VIRTUAL_ENV", &environment).env_remove("PYTHONPATH").env("RUST_BACKTRACE", "0");
    finish(&mut tool, "the step does not build", "read the last line above: it names the place in step.py")?;
    Ok(component)
}

/// `unittest` over `test*.py`.
pub(super) fn tests(folder: &Path) -> Result<Command> {
    let folder = folder.canonicalize().map_err(|error| crate::failure::Failure::file(folder, &error))?;
    let mut python = programs::tool("python3");
    python.args(["-B", "-m", "unittest"]).env("PYTHONPATH", folder.join("sdk/python")).current_dir(&folder);
    Ok(python)
}
