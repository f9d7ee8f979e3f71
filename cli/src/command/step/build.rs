//! `remit step build` and `remit step test`.

use std::path::{Path, PathBuf};

use clap::Args;
use remit_protocol::{
    capability::imports::check_imports,
    endpoint::Fault,
    manifest::{Kind, Manifest, StepFile},
    position::position,
};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Code, Failure, Result},
    files,
    output::Output,
    package::Package,
    programs,
};

use super::{
    bill,
    toolchain::{Toolchain, cargo},
};

#[derive(Args)]
pub(crate) struct Build {
    /// The folder of the step.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// A component that was built already, by any toolchain; absent: the toolchain of its `profile` builds it, or cargo.
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
    /// With `--wasm`: put the list of packages that the crate in the folder is made of into the component.
    #[arg(long, requires = "wasm")]
    dependencies: bool,
    /// Where the package goes; default: `dist` in that folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Built {
    component: String,
    version: String,
    digest: String,
    bytes: usize,
    imports: Vec<String>,
    package: PathBuf,
}

/// What `remit-runner step describe` prints.
#[derive(Deserialize)]
struct Description {
    input: serde_json::Value,
    output: serde_json::Value,
}

impl Build {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let step_file = read_step_file(&self.folder.join("step.toml"))?;
        let own = Toolchain::of(&step_file) == Toolchain::Cargo;
        let wasm_path = match &self.wasm {
            Some(path) => path.clone(),
            None => Toolchain::of(&step_file).build(&self.folder, &step_file)?,
        };
        let mut wasm = files::read(&wasm_path, remit_protocol::limits::MAX_COMPONENT)?;
        if own && (self.wasm.is_none() || self.dependencies) {
            wasm = bill::embed(&wasm, cargo::packages(&self.folder)?);
        }
        let interfaces = remit_signing::wasm::interfaces(&wasm).map_err(|error| {
            Failure::input(format_args!("{}: {error}", wasm_path.display()))
                .with_remedy("build for the target wasm32-wasip2")
        })?;
        let imports = interfaces.import_names();
        let package = Package::at(self.out.unwrap_or_else(|| self.folder.join("dist")));
        let mut manifest = describe(step_file, imports, &wasm_path)?;
        if own && self.wasm.is_none() {
            manifest.toolchain = Some(cargo::toolchain()?);
        }
        check_imports(manifest.imports.iter().map(String::as_str), &manifest.requests, manifest.profile)
            .map_err(|error| Failure::new(Code::Refused, error.to_string(), ""))?;
        files::write(&package.wasm_path(), &wasm, false)?;
        files::write(&package.manifest_path(), &manifest.to_vec(), false)?;
        let built = Built {
            component: manifest.name.to_string(),
            version: manifest.version.to_string(),
            digest: remit_protocol::Digest::of(&wasm).to_string(),
            bytes: wasm.len(),
            imports: manifest.imports,
            package: package.folder().to_owned(),
        };
        output.print(&built, |built| {
            format!(
                "{}@{}  {}\n{} bytes in {}\nnext: remit step run {} --input '{{…}}', then remit step sign",
                built.component,
                built.version,
                built.digest,
                built.bytes,
                built.package.display(),
                self.folder.display(),
            )
        });
        Ok(())
    }
}

/// Reads `step.toml`; a mistake names its line.
pub(crate) fn read_step_file(path: &Path) -> Result<StepFile> {
    let text = files::read_text(path)?;
    toml::from_str(&text).map_err(|error| {
        let (line, column) = position(&text, error.span().map_or(0, |span| span.start));
        Failure::input(format_args!("{}: the step file is not acceptable", path.display())).with_faults(vec![
            Fault {
                line: Some(line),
                column: Some(column),
                place: String::new(),
                message: error.message().to_owned(),
                remedy: String::new(),
            },
        ])
    })
}

/// The manifest of `step_file`, completed by what the component says of itself in the runner's sandbox.
pub(super) fn describe(step_file: StepFile, imports: Vec<String>, wasm: &Path) -> Result<Manifest> {
    let kind = match step_file.kind {
        Kind::Step => "step",
        Kind::NodeSource => "node-source",
    };
    let mut command = programs::sister("remit-runner")?;
    command.args(["step", "describe", "--kind", kind, "--component"]).arg(wasm);
    if let Some(profile) = step_file.profile {
        command.args(["--profile", profile.as_str()]);
    }
    let printed = command.output().map_err(|error| Failure::new(Code::Unreachable, error.to_string(), ""))?;
    if !printed.status.success() {
        let said = String::from_utf8_lossy(&printed.stderr);
        return Err(Failure::input(format_args!("the component does not describe itself: {}", said.trim())));
    }
    let description: Description = serde_json::from_slice(&printed.stdout).map_err(|error| {
        Failure::input(format_args!("the component's description is not acceptable: {error}"))
    })?;
    Ok(step_file.into_manifest(imports, description.input, description.output))
}

#[derive(Args)]
pub(crate) struct Test {
    /// The folder of the step.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Test {
    /// Runs the step's native unit tests against the SDK's fake host.
    pub(crate) fn run(self) -> Result<()> {
        let step_file = read_step_file(&self.folder.join("step.toml"))?;
        let mut tests = Toolchain::of(&step_file).tests(&self.folder)?;
        let status = tests.status().map_err(|error| {
            let program = tests.get_program().to_string_lossy();
            Failure::new(Code::Unreachable, format!("{program} cannot be started: {error}"), "")
        })?;
        if status.success() { Ok(()) } else { Err(Failure::new(Code::Failed, "the step's tests fail", "")) }
    }
}
