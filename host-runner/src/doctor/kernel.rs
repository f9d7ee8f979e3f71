//! The kernel: how fast, and which confinements it offers to a process that is not root.

use super::Finding;
use crate::{
    config::Config,
    confine::{self, Confinement},
};

pub(super) fn examine(config: &Config, say: &mut impl FnMut(Finding)) {
    let uname = rustix::system::uname();
    say(speed(&uname.release().to_string_lossy()));
    say(confinement(confine::look(), config.runner.confinement));
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let refused = [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];
    let refusing =
        refused.into_iter().find(|(path, value)| read(path).is_some_and(|text| text.trim() == *value));
    say(user_namespaces(refusing.map(|(path, _)| path)));
}

fn speed(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 7) {
        Finding::good("kernel", format!("{release}: dirty pages of a sandbox can be found quickly"))
    } else {
        Finding::warning(
            "kernel",
            format!("{release}: steps end more slowly"),
            "Linux 6.7 or newer makes it faster",
        )
    }
}

fn confinement(found: Result<String, &'static str>, wanted: Confinement) -> Finding {
    const WHAT: &str = "confinement";
    match (found, wanted) {
        (Ok(found), _) => Finding::good(WHAT, found),
        (Err(lacking), Confinement::Required) => Finding::bad(
            WHAT,
            lacking,
            "use a kernel that has it, or write `confinement = \"where-possible\"` into [runner]",
        ),
        (Err(lacking), Confinement::WherePossible) => {
            Finding::warning(WHAT, lacking, "the owner does without: `confinement` in [runner]")
        }
    }
}

/// `refusing` is the setting that switches user namespaces off. Workers do without them: nothing is wrong then.
fn user_namespaces(refusing: Option<&str>) -> Finding {
    const WHAT: &str = "user namespaces";
    match refusing {
        None => Finding::good(WHAT, "on: workers leave the host's network and users behind"),
        Some(setting) => Finding::good(
            WHAT,
            format!(
                "switched off by {setting}: workers are barred by landlock and seccomp alone, which suffices"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn what_the_kernel_lacks_is_named() {
        fn check(finding: Finding, good: bool, part: &str) {
            assert_eq!(finding.severity == Severity::Good, good, "{finding:?}");
            assert_eq!(finding.remedy.is_empty(), good, "{finding:?}");
            assert!(finding.found.contains(part), "{finding:?}");
        }
        check(speed("6.18.44-x"), true, "quickly");
        check(speed("5.10.0-28-amd64"), false, "slowly");
        check(speed("odd"), false, "slowly");
        check(confinement(Ok("landlock V6 and seccomp".to_owned()), Confinement::Required), true, "V6");
        let lacking = Err("landlock is missing");
        check(confinement(lacking.clone(), Confinement::Required), false, "missing");
        check(confinement(lacking, Confinement::WherePossible), false, "missing");
        check(user_namespaces(None), true, "on");
        check(user_namespaces(Some("/proc/sys/x")), true, "/proc/sys/x");
    }
}
