//! `exec`: which programs a step may start, with which arguments. Never a shell string.

mod argument;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use self::argument::check_args;
pub use self::argument::{ArgPattern, covers_all, matches_all};
use super::{
    http::InvalidRule,
    secrets::{BoundSecret, SecretUse},
};
use crate::SecretName;

fn check_program(name: &str) -> Result<(), InvalidRule> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) || name.starts_with('-') {
        return Err(InvalidRule(format!(
            "{name:?} is not a program name: letters, digits, '.', '_', '-', '+'; the path stands in the runner's ceiling"
        )));
    }
    Ok(())
}

/// True if a program may be handed something in a variable of this name by anybody but its owner.
pub fn variable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("LD_")
        && !matches!(name, "PATH" | "IFS" | "ENV" | "BASH_ENV" | "HOME" | "SHELL")
}

/// Environment variables that a step may set for a program: one name, or all that begin with a word and `_`, written
/// `WORD_*`. The values are the step's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Variables(String);

impl Variables {
    /// True if a step may set `name`.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => variable(name) && name.len() > prefix.len() && name.starts_with(prefix),
            None => self.0 == name,
        }
    }
}

impl TryFrom<String> for Variables {
    type Error = InvalidRule;
    fn try_from(text: String) -> Result<Self, InvalidRule> {
        let good = match text.strip_suffix("_*") {
            Some(word) => variable(word) && word != "LD",
            None => variable(&text),
        };
        if good {
            return Ok(Self(text));
        }
        Err(InvalidRule(format!(
            "{text:?} is not a variable that a step may set: write one name such as RELEASE, or REMIT_* for all that begin so"
        )))
    }
}

impl From<Variables> for String {
    fn from(variables: Variables) -> Self {
        variables.0
    }
}

/// How a program is given a secret; either way a variable of its environment leads to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Given {
    /// The variable holds the value.
    Env(String),
    /// The variable holds the path of a file with the value, which only that program has.
    File(String),
}

impl Given {
    /// The variable.
    pub fn variable(&self) -> &str {
        match self {
            Self::Env(name) | Self::File(name) => name,
        }
    }

    /// The use of the secret, as a ceiling names it.
    pub fn usage(&self) -> SecretUse {
        match self {
            Self::Env(_) => SecretUse::Env,
            Self::File(_) => SecretUse::File,
        }
    }
}

/// A secret that a program gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawExecSecret", into = "RawExecSecret")]
pub struct ExecSecret {
    /// The name that the job binds to a path.
    pub name: SecretName,
    /// How the program gets it.
    pub given: Given,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExecSecret {
    name: SecretName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl TryFrom<RawExecSecret> for ExecSecret {
    type Error = InvalidRule;
    fn try_from(raw: RawExecSecret) -> Result<Self, InvalidRule> {
        let given = match (raw.env, raw.file) {
            (Some(name), None) => Given::Env(name),
            (None, Some(name)) => Given::File(name),
            _ => {
                let why = format!(
                    "the secret {} of a program wants `env` or `file`: the variable with its value, or with the path of a file",
                    raw.name
                );
                return Err(InvalidRule(why));
            }
        };
        if !variable(given.variable()) {
            let why = format!("{:?} is not a variable that can carry a secret", given.variable());
            return Err(InvalidRule(why));
        }
        Ok(Self { name: raw.name, given })
    }
}

impl From<ExecSecret> for RawExecSecret {
    fn from(secret: ExecSecret) -> Self {
        let (env, file) = match secret.given {
            Given::Env(name) => (Some(name), None),
            Given::File(name) => (None, Some(name)),
        };
        Self { name: secret.name, env, file }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExec {
    program: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Vec<ArgPattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<ExecSecret>,
}

impl RawExec {
    fn check(&self) -> Result<(), InvalidRule> {
        check_args(self.args.as_deref())
    }
}

/// A component's wish to start a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawExec", into = "RawExec")]
pub struct ExecRequest {
    /// The program's name in the ceiling; `None` is `program = "granted"`, an open request.
    pub program: Option<String>,
    /// Argument patterns; absent: whatever the other sides allow.
    pub args: Option<Vec<ArgPattern>>,
    /// A secret that the program gets.
    pub secret: Option<ExecSecret>,
}

impl ExecRequest {
    /// True if what this asks for includes all of `grant`.
    pub fn covers(&self, grant: &ExecGrant) -> bool {
        let open = self.program.is_none();
        let program = self.program.as_ref().is_none_or(|name| *name == grant.program);
        let args = match (&self.args, &grant.args) {
            (None, _) => true,
            (Some(own), Some(given)) => covers_all(own, given),
            (Some(_), None) => false,
        };
        let secret = match (&self.secret, &grant.secret) {
            (_, None) => true,
            (Some(own), Some(given)) => own == given,
            (None, Some(_)) => open,
        };
        program && args && secret
    }
}

impl TryFrom<RawExec> for ExecRequest {
    type Error = InvalidRule;
    fn try_from(raw: RawExec) -> Result<Self, InvalidRule> {
        raw.check()?;
        let program = (raw.program != "granted").then_some(raw.program);
        if let Some(name) = &program {
            check_program(name)?;
        }
        Ok(Self { program, args: raw.args, secret: raw.secret })
    }
}

impl From<ExecRequest> for RawExec {
    fn from(request: ExecRequest) -> Self {
        let program = request.program.unwrap_or_else(|| "granted".to_owned());
        Self { program, args: request.args, secret: request.secret }
    }
}

/// A program that a job lets one step start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawExec", into = "RawExec")]
pub struct ExecGrant {
    /// The program's name in the ceiling.
    pub program: String,
    /// Argument patterns; absent: whatever the ceiling permits.
    pub args: Option<Vec<ArgPattern>>,
    /// A secret that the program gets.
    pub secret: Option<ExecSecret>,
}

impl TryFrom<RawExec> for ExecGrant {
    type Error = InvalidRule;
    fn try_from(raw: RawExec) -> Result<Self, InvalidRule> {
        raw.check()?;
        if raw.program == "granted" {
            return Err(InvalidRule("a grant names its program".to_owned()));
        }
        check_program(&raw.program)?;
        Ok(Self { program: raw.program, args: raw.args, secret: raw.secret })
    }
}

impl From<ExecGrant> for RawExec {
    fn from(grant: ExecGrant) -> Self {
        Self { program: grant.program, args: grant.args, secret: grant.secret }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExecCeiling {
    program: String,
    path: PathBuf,
    #[serde(default)]
    args: Vec<ArgPattern>,
    cwd: Option<PathBuf>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    variables: Vec<Variables>,
}

/// A program that the owner lets steps start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawExecCeiling")]
pub struct ExecCeiling {
    /// The name by which requests and grants call it; several entries may share it.
    pub program: String,
    /// The file that is started: absolute.
    pub path: PathBuf,
    /// The arguments that fit; empty: no argument at all.
    pub args: Vec<ArgPattern>,
    /// Working directory; absent: an empty directory of the step's own.
    pub cwd: Option<PathBuf>,
    /// The whole environment, but for bound secrets and `variables`.
    pub env: BTreeMap<String, String>,
    /// What the step itself may add to the environment; empty: nothing. It never replaces what stands in `env`.
    pub variables: Vec<Variables>,
}

impl TryFrom<RawExecCeiling> for ExecCeiling {
    type Error = InvalidRule;
    fn try_from(raw: RawExecCeiling) -> Result<Self, InvalidRule> {
        check_program(&raw.program)?;
        check_args(Some(&raw.args))?;
        if !raw.path.is_absolute() {
            return Err(InvalidRule(format!("{}: the program's path is not absolute", raw.program)));
        }
        let RawExecCeiling { program, path, args, cwd, env, variables } = raw;
        Ok(Self { program, path, args, cwd, env, variables })
    }
}

/// One rule of a remit: a program, and all pattern lists that an argument vector has to fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecPermit {
    /// The name by which the component calls it.
    pub program: String,
    /// The file that is started.
    pub path: PathBuf,
    /// Patterns of the ceiling, then of the grant where it names some.
    pub args: Vec<Vec<ArgPattern>>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// What the step itself may add to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variables>,
    /// A secret, and how the program gets it.
    pub secret: Option<(Given, BoundSecret)>,
}

impl ExecPermit {
    /// True if this permits starting `program` with `arguments`.
    pub fn matches(&self, program: &str, arguments: &[String]) -> bool {
        self.program == program && self.args.iter().all(|patterns| matches_all(patterns, arguments))
    }

    /// True if the step may set the variable `name`: the owner says so, and has not set it.
    pub fn takes_variable(&self, name: &str) -> bool {
        let secret = self.secret.as_ref().is_some_and(|(given, _)| given.variable() == name);
        !secret
            && !self.env.contains_key(name)
            && self.variables.iter().any(|variables| variables.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_by_the_owner() {
        fn check(rule: &str, name: &str, expect: Option<bool>) {
            let found = Variables::try_from(rule.to_owned()).ok().map(|rule| rule.matches(name));
            assert_eq!(found, expect, "{rule} {name}");
        }
        check("RELEASE", "RELEASE", Some(true));
        check("RELEASE", "RELEASES", Some(false));
        check("REMIT_*", "REMIT_X", Some(true));
        check("REMIT_*", "REMIT_", Some(false));
        check("REMIT_*", "REMITX", Some(false));
        check("REMIT_*", "REMIT_x", Some(false));
        for bad in ["*", "_*", "LD_*", "LD_PRELOAD", "PATH", "a", "A*", "A_**", "", "BASH_ENV", "1A"] {
            check(bad, "", None);
        }
    }
}
