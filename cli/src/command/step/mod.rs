//! `remit step`: the author's way from an empty folder to a published component.

mod bill;
mod build;
mod diff;
mod inspect;
mod new;
mod publish;
mod rebuild;
mod run;
mod sign;
mod toolchain;
mod verdict;

use clap::Subcommand;

pub(crate) use self::publish::publish as publish_package;

use crate::{
    connection::{Connection, Target},
    failure::Result,
    output::Output,
};

#[derive(Subcommand)]
pub(crate) enum Step {
    /// Write a new step, with the SDK and the WIT beside it: it builds anywhere.
    New(new::New),
    /// Build the component and its manifest.
    Build(build::Build),
    /// Run the step's unit tests on this machine, against the SDK's fake host.
    Test(build::Test),
    /// Run the component here, in the runner's own sandbox, within the remit that is given.
    Run(run::Run),
    /// Run the component here, and print the least step.toml that this run would have needed.
    Record(run::Run),
    /// Sign the built component.
    Sign(sign::Sign),
    /// Publish the signed component to the registry.
    Publish(publish::Publish),
    /// Show what a component is, asks for and imports, and who stands for it.
    Inspect(inspect::Inspect),
    /// Stand for, or against, a built component as its reviewer.
    Verdict(verdict::Verdict),
    /// Build the source twice, in two places, and compare with the published bytes.
    Rebuild(rebuild::Rebuild),
    /// Compare what two versions of a component ask for: WIDER, NARROWER, SAME or OPAQUE.
    Diff(diff::Diff),
}

impl Step {
    pub(crate) async fn run(self, target: &Target, output: Output) -> Result<()> {
        match self {
            Self::New(new) => new.run(output),
            Self::Build(build) => build.run(output),
            Self::Test(test) => test.run(),
            Self::Run(run) => run.run(),
            Self::Record(run) => run.record(output),
            Self::Sign(sign) => sign.run(output),
            Self::Publish(publish) => publish.run(&Connection::open(target)?, output).await,
            Self::Inspect(inspect) => inspect.run(output),
            Self::Verdict(verdict) => verdict.run(target, output).await,
            Self::Rebuild(rebuild) => rebuild.run(output),
            Self::Diff(diff) => diff.run(output),
        }
    }
}
