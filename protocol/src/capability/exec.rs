//! `exec`: which programs a step may start, with which arguments. Never a shell string.
//!
//! An argument pattern is a literal or one typed place: `{int}`, `{text}`, `{enum a b}`, `{path under DIR}`; the last
//! pattern may be `{text}*`, any number of texts. A typed place never matches a leading `-`, a `..` segment, a control
//! character or an empty argument. `{data}` and, last, `{data}*` match any text at all: only for a place that the program
//! takes as data whatever it says, such as the script after `sh -c`.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    http::InvalidRule,
    secrets::{BoundSecret, SecretUse},
};
use crate::SecretName;

/// One argument, as a rule allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArgPattern {
    /// Exactly this text; the only way to allow a leading `-`.
    Literal(String),
    /// A decimal integer without sign or leading zero.
    Int,
    /// Any text.
    Text,
    /// Any number of texts; only as the last pattern.
    Texts,
    /// One of these words.
    Enum(Vec<String>),
    /// A relative path below a directory.
    PathUnder(String),
    /// Any text at all: empty, of several lines, with a leading `-`.
    Data,
    /// Any number of them; only as the last pattern.
    AllData,
}

fn plain(argument: &str) -> bool {
    !argument.is_empty()
        && argument.len() <= 32 << 10
        && !argument.starts_with('-')
        && !argument.chars().any(char::is_control)
        && !argument.split('/').any(|segment| segment == "..")
}

fn below(directory: &str, argument: &str) -> bool {
    plain(argument)
        && argument.strip_prefix(directory).is_some_and(|rest| {
            rest.strip_prefix('/').is_some_and(|path| {
                !path.is_empty() && path.split('/').all(|segment| !segment.is_empty() && segment != ".")
            })
        })
}

fn decimal(argument: &str) -> bool {
    argument.len() <= 19
        && !argument.is_empty()
        && argument.bytes().all(|b| b.is_ascii_digit())
        && (argument == "0" || !argument.starts_with('0'))
}

impl ArgPattern {
    /// True if `argument` fits.
    pub fn matches(&self, argument: &str) -> bool {
        match self {
            Self::Literal(text) => argument == text,
            Self::Int => decimal(argument),
            Self::Text | Self::Texts => plain(argument),
            Self::Enum(words) => words.iter().any(|word| word == argument),
            Self::PathUnder(directory) => below(directory, argument),
            Self::Data | Self::AllData => !argument.contains('\0'),
        }
    }

    /// True if it stands for any number of arguments.
    fn many(&self) -> bool {
        matches!(self, Self::Texts | Self::AllData)
    }

    /// True if every argument that `inner` matches, this matches too. `Texts` stands for one of its texts here.
    fn covers(&self, inner: &Self) -> bool {
        match (self, inner) {
            (_, Self::Literal(text)) => self.matches(text),
            (_, Self::Enum(words)) => words.iter().all(|word| self.matches(word)),
            (Self::Data | Self::AllData, _) => true,
            (_, Self::Data | Self::AllData) => false,
            (Self::Text | Self::Texts, _) => true,
            (Self::Int, Self::Int) => true,
            (Self::PathUnder(outer), Self::PathUnder(inner)) => outer == inner || below(outer, inner),
            _ => false,
        }
    }
}

/// True if the vector `arguments` fits `patterns`, one by one.
pub fn matches_all(patterns: &[ArgPattern], arguments: &[String]) -> bool {
    let (fixed, rest) = match patterns.split_last() {
        Some((last, fixed)) if last.many() => (fixed, Some(last)),
        _ => (patterns, None),
    };
    let enough = if rest.is_some() { arguments.len() >= fixed.len() } else { arguments.len() == fixed.len() };
    enough
        && fixed.iter().zip(arguments).all(|(pattern, argument)| pattern.matches(argument))
        && rest.is_none_or(|rest| arguments.iter().skip(fixed.len()).all(|argument| rest.matches(argument)))
}

/// True if every vector that fits `inner` fits `outer`.
pub fn covers_all(outer: &[ArgPattern], inner: &[ArgPattern]) -> bool {
    let many = |patterns: &[ArgPattern]| patterns.last().is_some_and(ArgPattern::many);
    let fixed = |patterns: &[ArgPattern]| patterns.len() - usize::from(many(patterns));
    let lengths =
        if many(outer) { fixed(inner) >= fixed(outer) } else { !many(inner) && inner.len() == outer.len() };
    // What `inner` lets follow in any number, `outer` has to let follow too.
    let rest =
        !many(inner) || outer.last().zip(inner.last()).is_some_and(|(outer, inner)| outer.covers(inner));
    lengths
        && rest
        && inner[..fixed(inner)].iter().enumerate().all(|(at, own)| {
            outer.get(at.min(outer.len().saturating_sub(1))).is_some_and(|other| other.covers(own))
        })
}

impl fmt::Display for ArgPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Int => f.write_str("{int}"),
            Self::Text => f.write_str("{text}"),
            Self::Texts => f.write_str("{text}*"),
            Self::Enum(words) => write!(f, "{{enum {}}}", words.join(" ")),
            Self::PathUnder(directory) => write!(f, "{{path under {directory}}}"),
            Self::Data => f.write_str("{data}"),
            Self::AllData => f.write_str("{data}*"),
        }
    }
}

impl FromStr for ArgPattern {
    type Err = InvalidRule;
    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = || {
            InvalidRule(format!(
                "{text:?} is not an argument pattern: a literal, or {{int}}, {{text}}, {{text}}*, {{enum a b}}, {{path under DIR}}, {{data}}, {{data}}*"
            ))
        };
        if text.len() > 4096 || text.chars().any(char::is_control) {
            return Err(invalid());
        }
        if text == "{text}*" {
            return Ok(Self::Texts);
        }
        if text == "{data}*" {
            return Ok(Self::AllData);
        }
        let Some(inside) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            return if text.contains(['{', '}']) {
                Err(invalid())
            } else {
                Ok(Self::Literal(text.to_owned()))
            };
        };
        match inside.split_once(' ') {
            None if inside == "int" => Ok(Self::Int),
            None if inside == "text" => Ok(Self::Text),
            None if inside == "data" => Ok(Self::Data),
            Some(("enum", words)) => {
                let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
                if words.is_empty() { Err(invalid()) } else { Ok(Self::Enum(words)) }
            }
            Some(("path", rest)) => {
                let directory = rest.strip_prefix("under ").map(str::trim).ok_or_else(invalid)?;
                let directory = directory.trim_end_matches('/');
                let absolute = directory.strip_prefix('/').unwrap_or(directory);
                let clean = absolute.split('/').all(|s| !s.is_empty() && s != "." && s != "..");
                if clean && plain(directory) {
                    Ok(Self::PathUnder(directory.to_owned()))
                } else {
                    Err(invalid())
                }
            }
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for ArgPattern {
    type Error = InvalidRule;
    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<ArgPattern> for String {
    fn from(pattern: ArgPattern) -> Self {
        pattern.to_string()
    }
}

fn check_args(args: Option<&[ArgPattern]>) -> Result<(), InvalidRule> {
    let args = args.unwrap_or_default();
    match args.iter().rev().skip(1).find(|pattern| pattern.many()) {
        Some(early) => Err(InvalidRule(format!("{early} can only be the last argument pattern"))),
        None => Ok(()),
    }
}

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
    use proptest::prelude::*;

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<ArgPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn argument_vectors_fit_their_patterns() {
        fn check(allowed: &[&str], arguments: &[&str], expect: bool) {
            let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
            assert_eq!(matches_all(&patterns(allowed), &arguments), expect, "{allowed:?} {arguments:?}");
        }
        check(&[], &[], true);
        check(&[], &["-a"], false);
        check(&["-i", "{enum prod staging}"], &["-i", "prod"], true);
        check(&["-i", "{enum prod staging}"], &["-i", "test"], false);
        check(&["-i", "{enum prod staging}"], &["-i"], false);
        check(&["{text}"], &["--exec=sh"], false);
        check(&["{text}"], &["a\nb"], false);
        check(&["{text}"], &[""], false);
        check(&["{text}"], &["a/../b"], false);
        check(&["{int}"], &["12"], true);
        check(&["{int}"], &["-12"], false);
        check(&["{int}"], &["012"], false);
        check(&["{path under playbooks}"], &["playbooks/site.yml"], true);
        check(&["{path under playbooks}"], &["playbooks/../x"], false);
        check(&["{path under playbooks}"], &["playbooks"], false);
        check(&["{path under playbooks}"], &["playbooksx/a"], false);
        check(&["a", "{text}*"], &["a"], true);
        check(&["a", "{text}*"], &["a", "b", "c"], true);
        check(&["a", "{text}*"], &["a", "b", "-c"], false);
        check(&["-c", "{data}"], &["-c", "rm -rf \"$1\"\n../x\t"], true);
        check(&["-c", "{data}"], &["-c", ""], true);
        check(&["-c", "{data}"], &["-c", "a\0b"], false);
        check(&["-c", "{data}", "{data}*"], &["-c", "x", "-y", "", "a\nb"], true);
        check(&["-c", "{data}"], &["-c", "x", "y"], false);
    }

    #[test]
    fn bad_patterns_are_refused() {
        for bad in [
            "{",
            "{any}",
            "{data",
            "{data x}",
            "{data}**",
            "{enum}",
            "{enum }",
            "{path under }",
            "{path under ../x}",
            "a{text}",
            "{text}**",
        ] {
            assert!(bad.parse::<ArgPattern>().is_err(), "{bad:?}");
        }
    }

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

    fn pattern() -> impl Strategy<Value = ArgPattern> {
        prop_oneof![
            Just("a"),
            Just("1"),
            Just("-x"),
            Just("d/e"),
            Just("{int}"),
            Just("{text}"),
            Just("{enum a b}"),
            Just("{enum 1 2}"),
            Just("{path under d}"),
            Just("{path under d/e}"),
            Just("{data}")
        ]
        .prop_map(|text| text.parse().unwrap())
    }

    fn list() -> impl Strategy<Value = Vec<ArgPattern>> {
        let last = prop_oneof![Just(None), Just(Some(ArgPattern::Texts)), Just(Some(ArgPattern::AllData))];
        (prop::collection::vec(pattern(), 0..4), last).prop_map(|(mut list, many)| {
            list.extend(many);
            list
        })
    }

    proptest! {
        #[test]
        fn what_covers_matches_no_less(
            outer in list(),
            inner in list(),
            arguments in prop::collection::vec(
                prop_oneof![Just("a"), Just("b"), Just("1"), Just("-x"), Just("d/e"), Just("d/e/f"), Just("z")], 0..5),
        ) {
            let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
            if covers_all(&outer, &inner) && matches_all(&inner, &arguments) {
                prop_assert!(matches_all(&outer, &arguments));
            }
        }
    }
}
