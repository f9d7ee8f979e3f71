//! What is tried: each attack with its twin. Numbers are those of the list of threats in `SECURITY.md`.
//!
//! Here is the table as such; its rows lie in the files beside it: [`http`](super::http), [`tcp`](super::tcp),
//! [`endpoint`](super::endpoint), [`sandbox`](super::sandbox) and [`house`](super::house).

use std::net::IpAddr;

use anyhow::Result;

use super::{World, bench::Setup, deed::Deed};

/// An attack and its twin.
pub(super) struct Case {
    pub(super) threat: u8,
    pub(super) name: String,
    pub(super) attack: Try,
    pub(super) twin: Try,
}

/// One thing that a guest does, and how it has to end.
#[derive(Clone)]
pub(super) struct Try {
    pub(super) setup: Setup,
    pub(super) act: String,
    pub(super) outcome: &'static str,
    /// What message, output, log or denial say.
    pub(super) says: String,
    /// How many connections the services see; none: any number.
    pub(super) connections: Option<u32>,
    pub(super) cancelled: bool,
    /// What is done instead of running a guest.
    pub(super) deed: Option<Deed>,
    pub(super) times: u32,
}

impl Try {
    pub(super) fn new(setup: Setup, act: &str, outcome: &'static str, says: &str) -> Self {
        let (act, says) = (act.to_owned(), says.to_owned());
        Self { setup, act, outcome, says, connections: None, cancelled: false, deed: None, times: 1 }
    }

    /// Something that is done to the runner itself.
    pub(super) fn done(deed: Deed, outcome: &'static str, says: &str) -> Self {
        let act = format!("{deed:?}").to_lowercase();
        Self { deed: Some(deed), ..Self::new(Setup::default(), &act, outcome, says) }
    }

    /// The services see so many connections.
    pub(super) fn on(mut self, connections: u32) -> Self {
        self.connections = Some(connections);
        self
    }

    pub(super) fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }

    pub(super) fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}

/// The whole table.
pub(super) fn cases(world: &World) -> Result<Vec<Case>> {
    let mut table = Table { world, cases: Vec::new() };
    table.reach()?;
    table.addresses()?;
    table.tcp()?;
    table.endpoints()?;
    table.spelling()?;
    table.connection()?;
    table.credentials()?;
    table.patterns()?;
    table.computing();
    table.floods()?;
    table.files();
    table.tampering();
    table.words();
    table.programs();
    table.house()?;
    Ok(table.cases)
}

pub(super) struct Table<'w> {
    pub(super) world: &'w World,
    cases: Vec<Case>,
}

pub(super) fn names(
    list: &[(&str, &[&[&str]])],
) -> Result<std::collections::HashMap<String, Vec<Vec<IpAddr>>>> {
    let parsed = |answer: &&[&str]| answer.iter().map(|text| Ok(text.parse()?)).collect::<Result<Vec<_>>>();
    list.iter()
        .map(|(name, answers)| Ok(((*name).to_owned(), answers.iter().map(parsed).collect::<Result<_>>()?)))
        .collect()
}

pub(super) const LOOPBACK: &[(&str, &[&[&str]])] =
    &[("a.example", &[&["127.0.0.1"]]), ("b.example", &[&["127.0.0.1"]])];

impl Table<'_> {
    pub(super) fn add(&mut self, threat: u8, name: &str, attack: Try, twin: Try) {
        self.cases.push(Case { threat, name: name.to_owned(), attack, twin });
    }

    pub(super) fn plain(&self) -> u16 {
        self.world.plain.port()
    }
}
