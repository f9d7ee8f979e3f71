//! Scripts as arguments of their interpreters, with values beside them and never inside: shared by the built-in script steps.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::Fail;

/// The arguments around a script: `before SCRIPT after ARGS`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invoke {
    /// Arguments before the script.
    pub before: Vec<String>,
    /// Arguments between the script and its own arguments.
    #[serde(default)]
    pub after: Vec<String>,
}

/// Largest script: it travels as one argument, of which a Linux kernel takes 128 KiB.
const MAX_SCRIPT: usize = 96 << 10;

/// What stands before and after the script, by the interpreter's name without its version. A shell's first argument after
/// the script is its own name.
const KNOWN: [(&str, &[&str], &[&str]); 11] = [
    ("sh", &["-c"], &["script"]),
    ("bash", &["-c"], &["script"]),
    ("dash", &["-c"], &["script"]),
    ("ash", &["-c"], &["script"]),
    ("ksh", &["-c"], &["script"]),
    ("zsh", &["-c"], &["script"]),
    ("python", &["-c"], &[]),
    ("perl", &["-e"], &["--"]),
    ("ruby", &["-e"], &["--"]),
    ("node", &["-e"], &["--"]),
    ("php", &["-r"], &["--"]),
];

/// What `serde(default = "remit_sdk::interpreter::sh")` gives.
pub fn sh() -> String {
    "sh".to_owned()
}

/// The command line that runs a script on another machine with environment variables, by `env`, which every POSIX system has.
///
/// # Errors
/// As [`words`]; a variable's name that is none.
pub fn command(
    interpreter: &str,
    env: BTreeMap<String, String>,
    words: Vec<String>,
) -> Result<Vec<String>, Fail> {
    let mut argv = Vec::with_capacity(words.len() + env.len() + 2);
    if !env.is_empty() {
        argv.push("env".to_owned());
    }
    for (name, value) in env {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(good) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Fail::new(format!("{name:?} in `env` is no name of a variable")));
        }
        argv.push(format!("{name}={value}"));
    }
    argv.push(interpreter.to_owned());
    argv.extend(words);
    Ok(argv)
}

/// The arguments with which `interpreter` runs `script` with `args`; without `invoke`, as the usual interpreters want it.
///
/// # Errors
/// A script that is empty or too long, an interpreter that is not known.
pub fn words(
    interpreter: &str,
    script: String,
    args: Vec<String>,
    invoke: Option<&Invoke>,
) -> Result<Vec<String>, Fail> {
    if script.trim().is_empty() {
        return Err(Fail::new("`script` is empty"));
    }
    if script.len() > MAX_SCRIPT {
        return Err(Fail::new(format!(
            "the script has {} bytes, at most {MAX_SCRIPT} can be handed over as an argument: install a longer one where it runs, and start it as a program",
            script.len()
        )));
    }
    let (before, after) = match invoke {
        Some(invoke) => (invoke.before.clone(), invoke.after.clone()),
        None => known(interpreter)?,
    };
    Ok(before.into_iter().chain([script]).chain(after).chain(args).collect())
}

fn known(interpreter: &str) -> Result<(Vec<String>, Vec<String>), Fail> {
    // `/usr/bin/python3.11` is a python.
    let name = interpreter.rsplit('/').next().unwrap_or(interpreter);
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let known = KNOWN.iter().find(|(own, _, _)| *own == plain);
    let (_, before, after) = known.ok_or_else(|| {
        Fail::new(format!(
            "how {interpreter:?} runs a script that is an argument is not known: write it in `invoke`, such as {{ before: [-c], after: [] }}"
        ))
    })?;
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Ok((owned(before), owned(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interpreter_is_told_in_its_own_way() {
        fn check(interpreter: &str, expect: &[&str]) {
            let found = words(interpreter, "S".to_owned(), vec!["a".to_owned()], None).unwrap();
            assert_eq!(found, expect, "{interpreter}");
        }
        check("sh", &["-c", "S", "script", "a"]);
        check("/usr/bin/python3.11", &["-c", "S", "a"]);
        check("perl", &["-e", "S", "--", "a"]);
        check("node", &["-e", "S", "--", "a"]);
        let invoke = Invoke { before: vec!["-Command".to_owned()], after: Vec::new() };
        assert_eq!(words("pwsh", "S".to_owned(), Vec::new(), Some(&invoke)).unwrap(), ["-Command", "S"]);
    }

    #[test]
    fn variables_stand_before_the_interpreter() {
        fn check(env: &[(&str, &str)], expect: Result<&[&str], &str>) {
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found = command("sh", env, vec!["-c".to_owned()]).map_err(|fail| fail.message().to_owned());
            let expect = expect.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
            assert_eq!(found, expect.map_err(str::to_owned));
        }
        check(&[], Ok(&["sh", "-c"]));
        check(&[("A", "x y\n"), ("B_1", "")], Ok(&["env", "A=x y\n", "B_1=", "sh", "-c"]));
        check(&[("-u", "x")], Err("\"-u\" in `env` is no name of a variable"));
        check(&[("1A", "x")], Err("\"1A\" in `env` is no name of a variable"));
    }

    #[test]
    fn what_cannot_run_is_said() {
        fn check(interpreter: &str, script: &str, expect: &str) {
            let found = words(interpreter, script.to_owned(), Vec::new(), None).unwrap_err();
            assert!(found.message().contains(expect), "{found}");
        }
        check("sh", " \n", "`script` is empty");
        check("tcc", "x", "write it in `invoke`");
        check("sh", &"x".repeat(100_000), "at most 98304");
    }
}
