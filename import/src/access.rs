//! ACL policies: from rules about everything to roles in projects.
//!
//! A role here is about a whole project. A subject gets the highest role of which its rules allow *everything*: what is
//! allowed for some jobs only, or denied anywhere, gives none. So nobody may do more after the move than before.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{ProjectName, operator::ProjectRole};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    file::{InvalidFile, MAX_FILE},
    job::{Kind, Notice},
    yaml::{self, text},
};

/// Most documents in a file of policies.
const MAX_POLICIES: usize = 10_000;

/// Who a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Everybody of a group.
    Group(String),
    /// One person.
    User(String),
    /// A machine's name in a URN.
    Urn(String),
}

/// A role that somebody is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Who.
    pub subject: Subject,
    /// In which project: its name, or the pattern of names that the policy had.
    pub project: String,
    /// As what.
    pub role: ProjectRole,
    /// The command that makes a token of it, where the project is one name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// Roles, and what has no counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The roles, by subject.
    pub roles: Vec<Role>,
    /// What is not kept.
    pub notices: Vec<Notice>,
}

/// What somebody may do with everything of a kind, and what is denied to them.
#[derive(Default)]
struct Allowed {
    allow: BTreeSet<(String, String)>,
    deny: BTreeSet<(String, String)>,
}

/// What each role does, as kinds with actions; each includes those before it.
const ROLES: &[(ProjectRole, &[(&str, &str)])] = &[
    (ProjectRole::Viewer, &[("job", "read"), ("node", "read")]),
    (ProjectRole::Operator, &[("job", "run"), ("job", "kill"), ("node", "run")]),
    (
        ProjectRole::Editor,
        &[
            ("job", "create"),
            ("job", "update"),
            ("job", "delete"),
            ("resource:job", "create"),
            ("resource:job", "delete"),
        ],
    ),
    (
        ProjectRole::Admin,
        &[("resource:node", "create"), ("resource:node", "update"), ("resource:acl", "create")],
    ),
];

/// Reads a file of policies. `within` is the project that a file belongs to, if it belongs to one: its policies need not
/// say so, and are about no other.
pub fn access(source: &str, within: Option<&str>) -> Result<Access, InvalidFile> {
    if source.len() > MAX_FILE {
        return Err(InvalidFile::at(1, 1, format!("{} bytes, at most {MAX_FILE} are read", source.len())));
    }
    let mut reader = Reader { within, subjects: BTreeMap::new(), notices: Vec::new() };
    let documents = yaml::documents(source, MAX_POLICIES)?;
    for (at, document) in documents.iter().enumerate() {
        match document {
            Value::Null => {}
            Value::Object(policy) => reader.policy(&format!("policy {}", at + 1), policy),
            _ => return Err(InvalidFile::at(1, 1, format!("document {} is not a policy", at + 1))),
        }
    }
    Ok(reader.done())
}

struct Reader<'a> {
    within: Option<&'a str>,
    subjects: BTreeMap<(Subject, String), Allowed>,
    notices: Vec<Notice>,
}

impl Reader<'_> {
    fn add(&mut self, kind: Kind, place: &str, message: impl Into<String>) {
        self.notices.push(Notice { kind, place: place.to_owned(), message: message.into() });
    }

    fn policy(&mut self, place: &str, policy: &Map<String, Value>) {
        let empty = Map::new();
        let part = |key: &str| policy.get(key).and_then(Value::as_object).unwrap_or(&empty);
        if policy.contains_key("notBy") {
            return self.add(
                Kind::Lost,
                place,
                "`notBy`: who is meant is everybody else, which cannot be said",
            );
        }
        let subjects = subjects(part("by"));
        if subjects.is_empty() {
            return self.add(Kind::Lost, place, "the policy names nobody in `by`");
        }
        let context = part("context");
        let Some(project) = self.within.map(str::to_owned).or(context.get("project").map(text)) else {
            let message = "rules about the whole installation: an `admin` token of the instance is made by hand, \
                           and secrets are in the hands of each runner's owner";
            return self.add(Kind::Lost, place, message);
        };
        for (kind, rules) in part("for") {
            let rules = match rules {
                Value::Array(rules) => rules.as_slice(),
                other => std::slice::from_ref(other),
            };
            for (at, rule) in rules.iter().enumerate() {
                let place = format!("{place}, {kind} rule {}", at + 1);
                match rule.as_object() {
                    Some(rule) => self.rule(&place, kind, rule, &subjects, &project),
                    None => self.add(Kind::Lost, &place, "this is not a rule"),
                }
            }
        }
    }

    fn rule(
        &mut self,
        place: &str,
        kind: &str,
        rule: &Map<String, Value>,
        subjects: &[Subject],
        project: &str,
    ) {
        if kind == "adhoc" || kind == "storage" {
            let message = "commands that are not in a job, and secrets, are not given by roles";
            return self.add(Kind::Lost, place, message);
        }
        let (whole, kind) = match rule.get("equals").and_then(Value::as_object) {
            // `equals: {kind: job}` is how all jobs are called.
            Some(equals) if equals.len() == 1 && equals.contains_key("kind") => {
                let of = equals.get("kind").map(text).unwrap_or_default();
                (
                    !["match", "contains", "subset"].iter().any(|key| rule.contains_key(*key)),
                    format!("{kind}:{of}"),
                )
            }
            _ => (whole(rule), kind.to_owned()),
        };
        let actions = |key: &str| -> BTreeSet<String> {
            match rule.get(key) {
                None | Some(Value::Null) => BTreeSet::new(),
                Some(Value::Array(actions)) => actions.iter().map(text).collect(),
                Some(one) => BTreeSet::from([text(one)]),
            }
        };
        let (allow, deny) = (actions("allow"), actions("deny"));
        if !whole && !allow.is_empty() {
            let list: Vec<_> = allow.iter().map(String::as_str).collect();
            let message = format!(
                "allows {} for some only: a role is about a whole project, so this gives none; put those jobs into a project of their own",
                list.join(", ")
            );
            self.add(Kind::Lost, place, message);
        }
        if !deny.is_empty() {
            let message = "what is denied for some is given by no role: those who are denied get a lower one";
            self.add(Kind::Differs, place, message);
        }
        for subject in subjects {
            let allowed = self.subjects.entry((subject.clone(), project.to_owned())).or_default();
            if whole {
                allowed.allow.extend(allow.iter().map(|action| (kind.clone(), action.clone())));
            }
            allowed.deny.extend(deny.iter().map(|action| (kind.clone(), action.clone())));
        }
    }

    fn done(mut self) -> Access {
        let mut roles = Vec::new();
        for ((subject, project), allowed) in std::mem::take(&mut self.subjects) {
            let place = format!("{subject} in {project}");
            match allowed.role() {
                Some(role) => roles.push(Role::new(subject, project, role)),
                None => {
                    self.add(
                        Kind::Lost,
                        &place,
                        "no role: not everything that the least one does is allowed",
                    );
                }
            }
        }
        Access { roles, notices: self.notices }
    }
}

/// True if a rule is about everything of its kind.
fn whole(rule: &Map<String, Value>) -> bool {
    let all = |value: &Value| match value {
        Value::String(pattern) => matches!(pattern.as_str(), ".*" | ".+"),
        _ => false,
    };
    let matches_all = match rule.get("match") {
        None => true,
        Some(Value::Object(keys)) => keys.values().all(all),
        Some(_) => false,
    };
    matches_all && !["equals", "contains", "subset"].iter().any(|key| rule.contains_key(*key))
}

fn subjects(by: &Map<String, Value>) -> Vec<Subject> {
    let mut found = Vec::new();
    for (key, make) in [
        ("group", Subject::Group as fn(String) -> Subject),
        ("username", Subject::User),
        ("urn", Subject::Urn),
    ] {
        match by.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Array(names)) => found.extend(names.iter().map(|name| make(text(name)))),
            Some(name) => found.push(make(text(name))),
        }
    }
    found
}

impl Allowed {
    fn has(&self, kind: &str, action: &str) -> bool {
        let named = |set: &BTreeSet<(String, String)>| {
            let of = kind.strip_prefix("resource:").map(|_| "resource").unwrap_or(kind);
            set.iter().any(|(own, does)| (own == kind || own == of) && (does == action || does == "*"))
        };
        named(&self.allow) && !named(&self.deny)
    }

    fn role(&self) -> Option<ProjectRole> {
        let whole = |(_, rights): &&(ProjectRole, &[(&str, &str)])| {
            // Changing jobs is said in either of two ways.
            rights.iter().all(|(kind, action)| match (*kind, *action) {
                ("job", "create") | ("resource:job", "create") => self.has("resource:job", "create"),
                ("resource:job", "delete") => self.has("resource:job", "delete") || self.has("job", "delete"),
                (kind, action) => self.has(kind, action),
            })
        };
        ROLES.iter().take_while(whole).map(|(role, _)| *role).last()
    }
}

impl Role {
    fn new(subject: Subject, project: String, role: ProjectRole) -> Self {
        let word = match role {
            ProjectRole::Viewer => "viewer",
            ProjectRole::Operator => "operator",
            ProjectRole::Editor => "editor",
            ProjectRole::Admin => "admin",
        };
        let (Subject::Group(who) | Subject::User(who) | Subject::Urn(who)) = &subject;
        let name: String = who
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(40)
            .collect();
        let command = ProjectName::new(project.as_str())
            .ok()
            .map(|project| format!("remit token create {name} --project {project} --role {word}"));
        Self { subject, project, role, command }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(name) => write!(f, "group {name}"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Urn(name) => write!(f, "urn {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(rules: &str) -> Option<ProjectRole> {
        let text = format!("context: {{project: demo}}\nfor: {rules}\nby: {{group: ops}}\n");
        let found = access(&text, None).unwrap();
        assert!(found.roles.len() <= 1);
        found.roles.first().map(|role| role.role)
    }

    #[test]
    fn nobody_gets_more_than_before() {
        fn check(rules: &str, expect: Option<ProjectRole>) {
            assert_eq!(roles(rules), expect, "{rules}");
        }
        check("{job: [{allow: [read]}], node: [{allow: read}]}", Some(ProjectRole::Viewer));
        check(
            "{job: [{allow: [read, run, kill]}], node: [{allow: [read, run]}]}",
            Some(ProjectRole::Operator),
        );
        check("{job: [{allow: '*'}], node: [{allow: '*'}]}", Some(ProjectRole::Operator));
        check(
            "{job: [{allow: '*'}], node: [{allow: '*'}], resource: [{equals: {kind: job}, allow: [create, delete]}]}",
            Some(ProjectRole::Editor),
        );
        check(
            "{job: [{allow: '*'}], node: [{allow: '*'}], resource: [{allow: '*'}]}",
            Some(ProjectRole::Admin),
        );
        // Rules about some jobs, and anything that is denied.
        check(
            "{job: [{match: {group: 'ops/.*'}, allow: [read, run, kill]}], node: [{allow: [read, run]}]}",
            None,
        );
        check(
            "{job: [{match: {name: '.*'}, allow: [read]}], node: [{allow: [read]}]}",
            Some(ProjectRole::Viewer),
        );
        check(
            "{job: [{allow: '*'}, {match: {name: prod}, deny: run}], node: [{allow: '*'}]}",
            Some(ProjectRole::Viewer),
        );
        check("{job: [{allow: [read]}], node: [{contains: {tags: x}, allow: [read]}]}", None);
        check("{job: [{allow: [run]}], node: [{allow: '*'}]}", None);
        check("{}", None);
    }

    #[test]
    fn what_has_no_counterpart_is_listed() {
        let text = "context: {application: rundeck}\nfor: {storage: [{match: {path: 'keys/.*'}, allow: read}]}\nby: {group: ops}\n---\n\
                    context: {project: 'prod-.*'}\nfor: {job: [{allow: read}], node: [{allow: read}], adhoc: [{allow: run}]}\nby: {username: [ann, bob]}\n---\n\
                    context: {project: x}\nfor: {job: [{allow: read}]}\nnotBy: {group: guests}\n";
        let found = access(text, None).unwrap();
        let places: Vec<_> = found.notices.iter().map(|notice| notice.place.as_str()).collect();
        assert_eq!(places, ["policy 1", "policy 2, adhoc rule 1", "policy 3"]);
        assert_eq!(found.roles.len(), 2);
        assert_eq!(found.roles[0].command, None, "the project is a pattern");
        assert!(access("- a", None).is_err());
        assert!(access("a: !!javax.script.ScriptEngineManager []", None).is_err());
        let literal = access("context: {project: demo}\nfor: {job: [{allow: read}], node: [{allow: read}]}\nby: {group: Ops Team}", None).unwrap();
        let command = literal.roles[0].command.as_deref();
        assert_eq!(command, Some("remit token create ops-team --project demo --role viewer"));
    }
}
