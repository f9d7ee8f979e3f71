//! Options of `docker run` that change what a container is, and do not give it the host. Pure.

use remit_sdk::Fail;
use serde_json::{Value, json};

/// Those that there are, for the words of errors.
const KNOWN: &str = "--add-host, --cap-drop, --cpus, --entrypoint, --hostname, --label, --memory, --network, --pids-limit, --read-only, \
                     --security-opt=no-new-privileges, --tmpfs, --user, --workdir";

/// Writes options into what the daemon is asked to make.
pub(super) fn apply(options: &[String], wanted: &mut Value) -> Result<(), Fail> {
    for option in options {
        let Some((name, value)) = named(option) else {
            return Err(Fail::new(format!(
                "{option:?} in `options` is no long option: write --name=value, in one piece"
            )));
        };
        one(name, value, wanted).map_err(|why| Fail::new(format!("{option:?} in `options` {why}")))?;
    }
    Ok(())
}

fn named(option: &str) -> Option<(&str, Option<&str>)> {
    let rest = option.strip_prefix("--").filter(|rest| !rest.is_empty())?;
    Some(rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value))))
}

fn one(name: &str, value: Option<&str>, wanted: &mut Value) -> Result<(), String> {
    if name == "read-only" {
        return match value {
            None | Some("true") => {
                wanted["HostConfig"]["ReadonlyRootfs"] = true.into();
                Ok(())
            }
            Some(_) => Err("is on or off: write --read-only, or leave it out".to_owned()),
        };
    }
    let value = || {
        value.filter(|value| !value.is_empty()).ok_or_else(|| format!("has no value: write --{name}=VALUE"))
    };
    match name {
        "user" => wanted["User"] = value()?.into(),
        "workdir" => wanted["WorkingDir"] = value()?.into(),
        "hostname" => wanted["Hostname"] = value()?.into(),
        "entrypoint" => wanted["Entrypoint"] = json!([value()?]),
        "label" => {
            let (label, text) = value()?.split_once('=').unwrap_or((value()?, ""));
            wanted["Labels"][label] = text.into();
        }
        "network" => wanted["HostConfig"]["NetworkMode"] = network(value()?)?.into(),
        "memory" => wanted["HostConfig"]["Memory"] = bytes(value()?)?.into(),
        "cpus" => wanted["HostConfig"]["NanoCpus"] = billionths(value()?)?.into(),
        "pids-limit" => {
            let count = value()?.parse::<u32>().map_err(|_| "is no whole number".to_owned())?;
            wanted["HostConfig"]["PidsLimit"] = count.into();
        }
        "cap-drop" => add(&mut wanted["HostConfig"]["CapDrop"], value()?),
        "add-host" => add(&mut wanted["HostConfig"]["ExtraHosts"], value()?),
        "security-opt" => match value()? {
            option @ ("no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true") => {
                add(&mut wanted["HostConfig"]["SecurityOpt"], option);
            }
            _ => return Err("would take a bar away: only no-new-privileges is taken".to_owned()),
        },
        "tmpfs" => {
            let (path, how) = value()?.split_once(':').unwrap_or((value()?, ""));
            wanted["HostConfig"]["Tmpfs"][path] = how.into();
        }
        _ => {
            return Err(format!(
                "is not known here. This step has no words for what would give a container the host: directories and devices of it, \
                 its namespaces, privileges. It knows {KNOWN}"
            ));
        }
    }
    Ok(())
}

/// A network of the daemon's: not the host's own, and not another container's.
fn network(name: &str) -> Result<&str, String> {
    if name == "host" || name.contains(':') {
        return Err(
            "is a network that is not the container's own: name a network of the daemon, bridge or none"
                .to_owned(),
        );
    }
    Ok(name)
}

/// `512m` in bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let odd = || "is no size: write it as 512m".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..).unwrap_or_default() {
        "" | "b" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(odd()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(odd)
}

/// `1.5` in billionths.
fn billionths(text: &str) -> Result<u64, String> {
    let odd = || "is no number of processors: write it as 1.5".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(odd());
    }
    let whole: u64 = whole.parse().map_err(|_| odd())?;
    let part: u64 = format!("{part:0<9}").parse().map_err(|_| odd())?;
    whole.checked_mul(1_000_000_000).map(|all| all + part).filter(|all| *all > 0).ok_or_else(odd)
}

fn add(list: &mut Value, value: &str) {
    match list.as_array_mut() {
        Some(list) => list.push(value.into()),
        None => *list = json!([value]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_has_its_place() {
        fn check(options: &[&str], expect: Value) {
            let mut wanted = json!({});
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            apply(&options, &mut wanted).unwrap();
            assert_eq!(wanted, expect, "{options:?}");
        }
        check(&[], json!({}));
        check(
            &["--network=none", "--read-only"],
            json!({"HostConfig": {"NetworkMode": "none", "ReadonlyRootfs": true}}),
        );
        check(
            &["--user=app", "--workdir=/srv", "--hostname=a"],
            json!({"User": "app", "WorkingDir": "/srv", "Hostname": "a"}),
        );
        check(&["--entrypoint=/bin/sh"], json!({"Entrypoint": ["/bin/sh"]}));
        check(&["--label=a=b=c", "--label=d"], json!({"Labels": {"a": "b=c", "d": ""}}));
        check(&["--memory=512m"], json!({"HostConfig": {"Memory": 536_870_912}}));
        check(
            &["--cpus=1.5", "--pids-limit=20"],
            json!({"HostConfig": {"NanoCpus": 1_500_000_000, "PidsLimit": 20}}),
        );
        check(
            &["--cap-drop=ALL", "--cap-drop=NET_RAW"],
            json!({"HostConfig": {"CapDrop": ["ALL", "NET_RAW"]}}),
        );
        check(
            &["--security-opt=no-new-privileges"],
            json!({"HostConfig": {"SecurityOpt": ["no-new-privileges"]}}),
        );
        check(
            &["--tmpfs=/tmp:size=1m", "--tmpfs=/run"],
            json!({"HostConfig": {"Tmpfs": {"/tmp": "size=1m", "/run": ""}}}),
        );
        check(&["--add-host=a:10.0.0.1"], json!({"HostConfig": {"ExtraHosts": ["a:10.0.0.1"]}}));
    }

    #[test]
    fn what_would_give_the_host_away_has_no_words() {
        fn check(option: &str, expect: &str) {
            let found = apply(&[option.to_owned()], &mut json!({})).unwrap_err();
            assert!(found.message().contains(expect), "{found}");
        }
        for option in [
            "--privileged",
            "--volume=/:/host",
            "--mount=type=bind,src=/,dst=/host",
            "--device=/dev/sda",
            "--cap-add=SYS_ADMIN",
            "--pid=host",
            "--ipc=host",
            "--userns=host",
            "--cgroup-parent=/",
            "--runtime=other",
            "--volumes-from=web",
        ] {
            check(option, "no words for what would give a container the host");
        }
        check("--network=host", "not the container's own");
        check("--network=container:web", "not the container's own");
        check("--security-opt=seccomp=unconfined", "would take a bar away");
        check("-v/:/host", "is no long option");
        check("none", "is no long option");
        check("--", "is no long option");
        check("--user", "has no value");
        check("--user=", "has no value");
        check("--memory=lots", "is no size");
        check("--memory=0", "is no size");
        check("--cpus=many", "no number of processors");
        check("--cpus=0", "no number of processors");
        check("--read-only=no", "is on or off");
    }
}
