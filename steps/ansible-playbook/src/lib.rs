#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{Context, Fail, JsonSchema, exec, output::Exit, step};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A playbook and what it gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The playbook, as the program finds it in its directory.
    #[schemars(length(min = 1))]
    pub playbook: String,
    /// Inventories, one after the other.
    #[serde(default)]
    pub inventory: Vec<String>,
    /// Only these hosts: a pattern of Ansible.
    pub limit: Option<String>,
    /// Only tasks with these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// No tasks with these tags.
    #[serde(default)]
    pub skip_tags: Vec<String>,
    /// Variables of any type, over all others.
    #[serde(default)]
    pub extra_vars: Map<String, Value>,
    /// Nothing is changed; what would be is shown.
    #[serde(default)]
    pub check: bool,
    /// Differences of files are shown.
    #[serde(default)]
    pub diff: bool,
    /// How many hosts are worked on at once.
    pub forks: Option<u16>,
    /// The name that the runner's owner gave to the program.
    #[serde(default = "program")]
    pub program: String,
    /// Whether a host that failed or could not be reached fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
}

/// What came of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The exit code of the program.
    pub exit_code: i32,
    /// What was done on each host, from the play's recap.
    pub hosts: BTreeMap<String, Counts>,
    /// Whether anything was changed anywhere.
    pub changed: bool,
}

/// How many tasks ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "Ansible's own words")]
pub struct Counts {
    pub ok: u32,
    pub changed: u32,
    pub unreachable: u32,
    pub failed: u32,
    pub skipped: u32,
    pub rescued: u32,
    pub ignored: u32,
}

fn program() -> String {
    "ansible-playbook".to_owned()
}

/// Bytes of the end of its output in which the recap is looked for: ten thousand hosts.
const RECAP: usize = 2 << 20;

/// Runs the playbook.
#[step]
pub fn ansible_playbook(input: Input, _: &Context) -> Result<Output, Fail> {
    let fail_on_exit = input.fail_on_exit;
    let playbook = input.playbook.clone();
    if playbook.is_empty() || playbook.starts_with('-') {
        return Err(Fail::new(format!("`playbook` is {playbook:?}, which names no file")));
    }
    let ended = exec::command(&input.program).args(arguments(input)?).follow(RECAP);
    let ended = ended.map_err(|refusal| Fail::from(refusal).while_doing(&playbook))?;
    let hosts = recap(&ended.stdout.text());
    let Exit::Code(exit_code) = ended.exit else {
        return Err(ended.success().err().unwrap_or_else(|| Fail::new("it was ended")).while_doing(playbook));
    };
    if exit_code != 0 && fail_on_exit {
        return Err(failure(exit_code, &hosts).while_doing(playbook));
    }
    let changed = hosts.values().any(|counts| counts.changed > 0);
    Ok(Output { exit_code, hosts, changed })
}

fn arguments(input: Input) -> Result<Vec<String>, Fail> {
    let mut args = Vec::new();
    for inventory in input.inventory {
        args.extend(["-i".to_owned(), inventory]);
    }
    if let Some(limit) = input.limit {
        args.extend(["--limit".to_owned(), limit]);
    }
    for (option, tags) in [("--tags", input.tags), ("--skip-tags", input.skip_tags)] {
        if !tags.is_empty() {
            args.extend([option.to_owned(), tags.join(",")]);
        }
    }
    if !input.extra_vars.is_empty() {
        // JSON: the only form in which values keep their types and nothing of them is read as another variable.
        args.extend(["--extra-vars".to_owned(), serde_json::to_string(&input.extra_vars)?]);
    }
    if input.check {
        args.push("--check".to_owned());
    }
    if input.diff {
        args.push("--diff".to_owned());
    }
    if let Some(forks) = input.forks {
        args.extend(["--forks".to_owned(), forks.to_string()]);
    }
    args.push(input.playbook);
    Ok(args)
}

/// The counts after `PLAY RECAP`: `web1 : ok=2 changed=1 unreachable=0 …`, with or without colours.
fn recap(text: &str) -> BTreeMap<String, Counts> {
    let mut hosts = BTreeMap::new();
    for line in text.lines().rev() {
        let line = plain(line);
        if line.starts_with("PLAY RECAP") {
            return hosts;
        }
        let Some((host, counts)) = line.split_once(" : ").or_else(|| line.split_once(": ")) else { continue };
        let mut found = Counts::default();
        let mut any = false;
        for (name, number) in counts.split_whitespace().filter_map(|word| word.split_once('=')) {
            let Ok(number) = number.parse() else { continue };
            any = true;
            match name {
                "ok" => found.ok = number,
                "changed" => found.changed = number,
                "unreachable" => found.unreachable = number,
                "failed" => found.failed = number,
                "skipped" => found.skipped = number,
                "rescued" => found.rescued = number,
                "ignored" => found.ignored = number,
                _ => {}
            }
        }
        if any {
            hosts.entry(host.trim().to_owned()).or_insert(found);
        }
    }
    BTreeMap::new()
}

/// A line without the escape sequences that set colours.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

fn failure(exit_code: i32, hosts: &BTreeMap<String, Counts>) -> Fail {
    let named = |which: fn(&Counts) -> u32| {
        let names: Vec<_> =
            hosts.iter().filter(|(_, counts)| which(counts) > 0).map(|(name, _)| name.as_str()).collect();
        if names.len() > 10 {
            format!("{} and {} more", names[..10].join(", "), names.len() - 10)
        } else {
            names.join(", ")
        }
    };
    // The codes of ansible-playbook 2.14.
    let why = match exit_code {
        1 => "an error",
        2 => "a host failed",
        3 | 4 => "a host could not be reached, or the playbook cannot be read",
        5 => "the options are wrong",
        99 => "it was interrupted",
        250 => "an error that Ansible did not expect",
        _ => "it failed",
    };
    let fail = Fail::new(format!("ended with exit code {exit_code}: {why}")).with("exit_code", exit_code);
    let fail = match named(|counts| counts.failed) {
        names if names.is_empty() => fail,
        names => fail.with("failed", names),
    };
    match named(|counts| counts.unreachable) {
        names if names.is_empty() => fail,
        names => fail.with("unreachable", names),
    }
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Fake, Program};
    use serde_json::json;

    use super::*;

    const RECAP: &str = "\nTASK [copy] ****\nok: [web1]\n\nPLAY RECAP *********\n\
        web1                       : ok=2    changed=1    unreachable=0    failed=0    skipped=3    rescued=0    ignored=0   \n\
        \u{1b}[0;31mweb2\u{1b}[0m : \u{1b}[0;32mok=0   \u{1b}[0m changed=0 \u{1b}[1;31munreachable=1   \u{1b}[0m failed=0\n\n";

    #[test]
    fn the_program_gets_what_the_input_says() {
        fn check(more: Value, words: &[&str]) {
            let mut input = json!({"playbook": "playbooks/web.yml"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let run = Fake::new().exec(words, Program::new().stdout(RECAP)).call(ansible_playbook, &input);
            assert_eq!(run.result.unwrap()["changed"], true);
        }
        check(json!({}), &["ansible-playbook", "playbooks/web.yml"]);
        check(
            json!({
                "inventory": ["prod", "more"], "limit": "web1", "tags": ["a", "b"], "skip_tags": ["c"],
                "extra_vars": {"version": "1.2 x=y\n", "n": 2}, "check": true, "diff": true, "forks": 20, "program": "site",
            }),
            &[
                "site",
                "-i",
                "prod",
                "-i",
                "more",
                "--limit",
                "web1",
                "--tags",
                "a,b",
                "--skip-tags",
                "c",
                "--extra-vars",
                r#"{"n":2,"version":"1.2 x=y\n"}"#,
                "--check",
                "--diff",
                "--forks",
                "20",
                "playbooks/web.yml",
            ],
        );
    }

    #[test]
    fn the_recap_is_counted() {
        let hosts = recap(RECAP);
        assert_eq!(hosts["web1"], Counts { ok: 2, changed: 1, skipped: 3, ..Counts::default() });
        assert_eq!(hosts["web2"], Counts { unreachable: 1, ..Counts::default() });
        assert_eq!(recap("web1 : ok=2\n"), BTreeMap::new());
        assert_eq!(recap("PLAY RECAP\nx: y\n"), BTreeMap::new());
    }

    #[test]
    fn a_host_that_failed_fails_the_step() {
        let run = |more: Value, program: Program| {
            let mut input = json!({"playbook": "p.yml"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Fake::new().exec(&["ansible-playbook", "p.yml"], program).call(ansible_playbook, &input).result
        };
        let failed = || Program::new().stdout(RECAP).code(4);
        let found = run(json!({}), failed()).unwrap_err().to_string();
        assert_eq!(
            found,
            "p.yml: ended with exit code 4: a host could not be reached, or the playbook cannot be read (exit_code = 4, unreachable = web2)"
        );
        assert_eq!(run(json!({"fail_on_exit": false}), failed()).unwrap()["exit_code"], 4);
        assert!(run(json!({}), Program::new().signal("KILL")).unwrap_err().message().contains("signal KILL"));
        let found = Fake::new().call(ansible_playbook, &json!({"playbook": "--version"})).result.unwrap_err();
        assert!(found.message().contains("names no file"), "{found}");
    }
}
