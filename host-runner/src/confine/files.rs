//! Files, ports and neighbours: landlock.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use super::{Ports, Reach};

/// What the first kernels with landlock know; without it there is no confinement to speak of.
const LEAST: ABI = ABI::V1;
/// What is asked for beyond that, as far as the kernel knows it.
const WANTED: ABI = ABI::V6;

/// Confines this thread, and those that it starts, to `reach`. A path that is not there gives nothing.
pub(super) fn confine(reach: &Reach) -> Result<(), String> {
    let ruleset = ruleset(reach).map_err(|error| error.to_string())?;
    let status = ruleset.restrict_self().map_err(|error| error.to_string())?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err("it is not enforced".to_owned());
    }
    Ok(())
}

fn ruleset(reach: &Reach) -> Result<RulesetCreated, landlock::RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(match reach.ports {
            Ports::All => AccessNet::BindTcp.into(),
            Ports::None => AccessNet::BindTcp | AccessNet::ConnectTcp,
        })?
        .scope(Scope::from_all(WANTED))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // A link would be a way out for whoever follows it from elsewhere.
    let never = AccessFs::Execute
        | AccessFs::MakeSym
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeSock
        | AccessFs::MakeFifo;
    let write = AccessFs::from_all(WANTED) & !never;
    for (paths, access) in [(&reach.read, read), (&reach.write, write)] {
        for path in paths {
            let Ok(found) = PathFd::new(path) else { continue };
            let file = !std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
            let access = if file { access & AccessFs::from_file(WANTED) } else { access };
            ruleset = ruleset.add_rule(PathBeneath::new(found, access))?;
        }
    }
    Ok(ruleset)
}

/// The newest version of landlock that this kernel and this program know; none if the kernel has none.
pub(super) fn available() -> Option<ABI> {
    let known = |abi: &ABI| {
        let made = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(*abi))
            .and_then(|ruleset| match AccessNet::from_all(*abi) {
                ports if ports.is_empty() => Ok(ruleset),
                ports => ruleset.handle_access(ports),
            })
            .and_then(|ruleset| match Scope::from_all(*abi) {
                scopes if scopes.is_empty() => Ok(ruleset),
                scopes => ruleset.scope(scopes),
            })
            .and_then(Ruleset::create);
        made.is_ok()
    };
    [WANTED, ABI::V5, ABI::V4, ABI::V3, ABI::V2, LEAST].into_iter().find(known)
}
