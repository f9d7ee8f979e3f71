//! `remit login`.

use clap::Args;
use remit_protocol::operator::{TokenView, path};

use crate::{
    connection::{Connection, Profile, Target},
    failure::Result,
    output::Output,
};

#[derive(Args)]
pub(crate) struct Login {
    /// Read the token from standard input, so that it stands in no shell history.
    #[arg(long)]
    token_stdin: bool,
}

impl Login {
    /// Checks that the orchestrator takes the token before it keeps anything.
    pub(crate) async fn run(self, target: &Target, output: Output) -> Result<()> {
        let mut target = target.clone();
        if self.token_stdin {
            let mut token = String::new();
            std::io::stdin().read_line(&mut token).map_err(crate::failure::Failure::input)?;
            target.token = Some(token.trim().to_owned());
        }
        if let Some(ca) = &target.ca {
            target.ca = Some(ca.canonicalize().map_err(|error| crate::failure::Failure::file(ca, &error))?);
        }
        let connection = Connection::open(&target)?;
        let own: TokenView = connection.get(path::WHOAMI).await?;
        let old = Profile::read()?;
        let profile = Profile {
            url: Some(connection.url().to_owned()),
            token: target.token.or(old.token),
            ca: target.ca.or(old.ca),
            project: target.project.or(old.project),
        };
        let kept = profile.write()?;
        output.print(&own, |own| {
            format!("{} knows this token as {}\nkept in {}", connection.url(), own.name, kept.display())
        });
        Ok(())
    }
}
