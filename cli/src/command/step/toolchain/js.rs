//! JavaScript: ComponentizeJS, in a `node_modules` of the step's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Pinned, finish};
use crate::{
    failure::{Failure, Result},
    files, output, programs,
};

const ENTRY: &str = "import step from \"../step.js\";\nimport { main as wrap } from \"../sdk/js/guest.js\";\n\
export const main = wrap(step);\n";

const INSTALL: &str = "install Node.js 20 or newer with npm (Debian: apt install nodejs npm), then, in the step's \
folder:\nmkdir -p build && cp package.json build && npm install --prefix build";

/// Builds `step.js` in `folder`, whose world is written already.
pub(super) fn build(folder: &Path) -> Result<PathBuf> {
    let build = folder.join("build");
    let product = "node_modules/@bytecodealliance/componentize-js/package.json";
    let pinned = Pinned { folder, file: "package.json", product };
    pinned.install(|| {
        let package = files::read(&folder.join("package.json"), 1 << 20)?;
        files::write(&build.join("package.json"), &package, false)?;
        let mut npm = programs::tool("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(&build);
        finish(npm.current_dir(&build), "what package.json names cannot be installed", INSTALL)
    })?;
    files::write(&build.join("entry.js"), ENTRY.as_bytes(), false)?;
    output::note("building with ComponentizeJS …");
    // It stands beside `node_modules`, because that is where a module looks for its imports.
    let script = files::read(&folder.join("sdk/js/build.mjs"), 1 << 20)?;
    files::write(&build.join("build.mjs"), &script, false)?;
    let component = build.join("component.wasm");
    let mut node = programs::tool("node");
    node.arg(build.join("build.mjs")).arg(&component).current_dir(folder);
    finish(&mut node, "the step does not build", INSTALL)?;
    Ok(component)
}

/// `node --test` over `*.test.js`, with the WIT's interfaces played by the SDK's fake host.
pub(super) fn tests(folder: &Path) -> Result<Command> {
    let folder = folder.canonicalize().map_err(|error| Failure::file(folder, &error))?;
    let mut tests: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|error| Failure::file(&folder, &error))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.js"))
        .collect();
    tests.sort();
    if tests.is_empty() {
        return Err(Failure::input(format_args!(
            "{}: no test, a file *.test.js, is there",
            folder.display()
        )));
    }
    let mut node = programs::tool("node");
    node.arg("--import").arg(folder.join("sdk/js/fake/register.mjs")).arg("--test").args(tests);
    node.current_dir(&folder);
    Ok(node)
}
