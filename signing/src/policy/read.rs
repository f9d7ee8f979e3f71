//! From the text of `trust.toml` to a [`TrustPolicy`], or to all that is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use remit_protocol::{
    ComponentName, ComponentVersion, Digest, Namespace, ProjectName, Timestamp, nearest::nearest,
};
use toml::de::DeTable;

use super::{
    Approver, Holder, LogPolicy, PolicyFault, Quorum, Revoked, TrustPolicy, TrustedKey, review,
    table::{At, Faults, Table},
};
use crate::key::{InvalidKey, KeyKind, KeyName, Vkey};

/// Largest policy file.
const MAX_POLICY: usize = 1 << 20;

pub(super) fn policy(text: &str) -> Result<TrustPolicy, Vec<PolicyFault>> {
    let mut faults = Faults::of(text);
    if text.len() > MAX_POLICY {
        faults.add(&(0..0), "the policy is larger than 1 MiB", "keep only the keys that are needed here");
        return faults.into_result().map(|()| TrustPolicy::nobody());
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the reader could save of a broken file is not judged: its faults would be about the breakage.
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            faults.add(&at, format_args!("not TOML: {}", error.message()), "correct the syntax");
        }
        return faults.into_result().map(|()| TrustPolicy::nobody());
    }
    let mut root = Table::new(&root, "the policy");
    let version = root.needed_number(&mut faults, "version", "1").map_or(0, |at| at.value);
    let keys = keys(&mut root, &mut faults);
    let publishers = publishers(&mut root, &mut faults, &keys);
    let none = nobody();
    let authors = of_projects(&mut root, &mut faults, ("author", "[[author]]"), &none, |table, faults| {
        quorum(table, faults, &keys, KeyKind::Job)
    });
    let initiators =
        of_projects(&mut root, &mut faults, ("initiator", "[[initiator]]"), &none, |table, faults| {
            quorum(table, faults, &keys, KeyKind::Run)
        });
    let none = Approver { quorum: none, another: true };
    let approvers =
        of_projects(&mut root, &mut faults, ("approver", "[[approver]]"), &none, |table, faults| {
            approver(table, faults, &keys)
        });
    let reviews = review::reviews(&mut root, &mut faults, &keys);
    let policy = TrustPolicy {
        version,
        publishers,
        authors,
        initiators,
        approvers,
        peers: peers(&mut root, &mut faults, &keys),
        exemptions: review::exemptions(&mut root, &mut faults, &reviews),
        reviews,
        log: log(&mut root, &mut faults, &keys),
        revoked: revoked(&mut root, &mut faults),
        minimum: minimum(&mut root, &mut faults),
        keys: keys.known,
    };
    root.finish(&mut faults);
    faults.into_result().map(|()| policy)
}

/// The keys of the file, and the names of those that were there but wrong: they are not reported a second time.
pub(super) struct Keys {
    known: BTreeMap<KeyName, TrustedKey>,
    broken: BTreeSet<String>,
}

fn vkey(faults: &mut Faults<'_>, at: &At<&str>) -> Option<Vkey> {
    at.value
        .parse()
        .map_err(|error: InvalidKey| {
            let remedy = match error {
                InvalidKey::Weak => "ask its holder for a key made by `remit key new`",
                _ => "copy the whole line that `remit key new` printed",
            };
            faults.add(&at.span, error, remedy);
        })
        .ok()
}

fn keys(root: &mut Table<'_, '_>, faults: &mut Faults<'_>) -> Keys {
    let mut keys = Keys { known: BTreeMap::new(), broken: BTreeSet::new() };
    for mut table in root.tables(faults, "key", "[[key]]") {
        let at = table.needed_text(faults, "vkey", "\"name+id+key\"");
        let parsed = at.as_ref().and_then(|at| vkey(faults, at));
        let holder = table.needed_text(faults, "holder", "\"alice\"").and_then(|at| {
            let holder = Holder::new(at.value);
            if holder.is_none() {
                faults.add(&at.span, "not the name of a holder", "write 1 to 64 printable ASCII characters");
            }
            holder
        });
        let kinds = kinds(&mut table, faults);
        let not_before = day(&mut table, faults, "not_before", "T00:00:00Z");
        let not_after = day(&mut table, faults, "not_after", "T23:59:59Z");
        table.finish(faults);
        let Some(at) = at else { continue };
        let name = at.value.split('+').next().unwrap_or_default().to_owned();
        let (Some(vkey), Some(holder), Some(kinds)) = (parsed, holder, kinds) else {
            keys.broken.insert(name);
            continue;
        };
        if keys.known.contains_key(vkey.name()) {
            faults.add(
                &at.span,
                format_args!("a key named {name:?} is there already"),
                "give each key a name of its own",
            );
            continue;
        }
        if let Some(other) = keys.known.values().find(|other| other.vkey.public() == vkey.public()) {
            let what =
                format!("the same key is there already under the name {:?}", other.vkey.name().as_str());
            faults.add(&at.span, what, "remove one of the two: a key counts once");
            keys.broken.insert(name);
            continue;
        }
        keys.known.insert(vkey.name().clone(), TrustedKey { vkey, holder, kinds, not_before, not_after });
    }
    keys
}

fn kinds(table: &mut Table<'_, '_>, faults: &mut Faults<'_>) -> Option<BTreeSet<KeyKind>> {
    let Some(list) = table.texts(faults, "kinds") else {
        table.missing(faults, "kinds", "[\"component\"]");
        return None;
    };
    let mut kinds = BTreeSet::new();
    for item in &list.value {
        match KeyKind::ALL.into_iter().find(|kind| kind.as_str() == item.value) {
            Some(kind) => {
                kinds.insert(kind);
            }
            None => {
                let remedy = match nearest(item.value, KeyKind::ALL.map(KeyKind::as_str)) {
                    Some(name) => format!("did you mean {name:?}?"),
                    None => "write one of: component, job, run, verdict, approve".to_owned(),
                };
                faults.add(&item.span, format_args!("{:?} is no kind of key", clip(item.value)), remedy);
            }
        }
    }
    if list.value.is_empty() {
        faults.add(
            &list.span,
            "a key without a kind can sign nothing",
            "write kinds = [\"component\"], or remove the key",
        );
    }
    if kinds.contains(&KeyKind::Component) && kinds.len() > 1 {
        faults.add(
            &list.span,
            "a key that signs components signs nothing else",
            "let publisher and author use different keys",
        );
    }
    Some(kinds)
}

pub(super) fn day(
    table: &mut Table<'_, '_>,
    faults: &mut Faults<'_>,
    name: &'static str,
    time: &str,
) -> Option<Timestamp> {
    let at = table.text(faults, name)?;
    let parsed =
        if at.value.len() == 10 { format!("{}{time}", at.value) } else { at.value.to_owned() }.parse();
    if parsed.is_err() {
        faults.add(
            &at.span,
            format_args!("`{name}` is not a day"),
            "write a day such as \"2027-11-20\" or a time such as \"2027-11-20T00:00:00Z\", in UTC",
        );
    }
    parsed.ok()
}

fn clip(text: &str) -> String {
    crate::note::clip(text)
}

pub(super) fn quorum(
    table: &mut Table<'_, '_>,
    faults: &mut Faults<'_>,
    keys: &Keys,
    kind: KeyKind,
) -> Option<Quorum> {
    let list = table.texts(faults, "keys");
    if list.is_none() {
        table.missing(faults, "keys", "[\"name of a key\"]");
    }
    let threshold = table.needed_number(faults, "threshold", "1");
    let list = list?;
    let mut names = BTreeSet::new();
    let mut unsure = false;
    for item in &list.value {
        let known = KeyName::new(item.value).ok().and_then(|name| keys.known.get(&name));
        let Some(key) = known else {
            unsure = true;
            if !keys.broken.contains(item.value) {
                let remedy = match nearest(item.value, keys.known.keys().map(KeyName::as_str)) {
                    Some(name) => format!("did you mean {name:?}?"),
                    None => "add a [[key]] with this name".to_owned(),
                };
                faults.add(&item.span, format_args!("no [[key]] is named {:?}", clip(item.value)), remedy);
            }
            continue;
        };
        if !key.kinds.contains(&kind) {
            faults.add(
                &item.span,
                format_args!("the key {:?} is not of kind {kind:?}", item.value, kind = kind.as_str()),
                format_args!("add \"{kind}\" to its kinds, or list another key"),
            );
        }
        if !names.insert(key.vkey.name().clone()) {
            faults.add(&item.span, "this key stands twice in the list", "remove one of the two");
        }
    }
    if list.value.is_empty() {
        faults.add(&list.span, "nobody could sign: the list of keys is empty", "list at least one key");
        unsure = true;
    }
    let threshold = threshold?;
    let holders: BTreeSet<_> =
        names.iter().filter_map(|name| keys.known.get(name)).map(|key| &key.holder).collect();
    let needed = u32::try_from(threshold.value).ok().and_then(NonZeroU32::new);
    if threshold.value == 0 {
        faults.add(
            &threshold.span,
            "a threshold of 0 accepts what nobody signed",
            "write a threshold of 1 or more",
        );
    } else if !unsure && threshold.value > holders.len() as u64 {
        faults.add(
            &threshold.span,
            format_args!(
                "the threshold is {}, but the keys have {} distinct holders",
                threshold.value,
                holders.len()
            ),
            "lower the threshold, or list keys of more holders",
        );
    }
    Some(Quorum { keys: names, threshold: needed? })
}

fn publishers(root: &mut Table<'_, '_>, faults: &mut Faults<'_>, keys: &Keys) -> BTreeMap<Namespace, Quorum> {
    let mut publishers = BTreeMap::new();
    for mut table in root.tables(faults, "publisher", "[[publisher]]") {
        let namespace = table.needed_text(faults, "namespace", "\"acme\"");
        let quorum = quorum(&mut table, faults, keys, KeyKind::Component);
        table.finish(faults);
        let Some(at) = namespace else { continue };
        match Namespace::new(at.value) {
            Ok(namespace) if publishers.contains_key(&namespace) => faults.add(
                &at.span,
                format_args!(
                    "the namespace {namespace:?} has a publisher already",
                    namespace = namespace.as_str()
                ),
                "list all of its keys in one [[publisher]]",
            ),
            Ok(namespace) => {
                // A quorum that was refused is a fault already; the place is taken so that a double is found too.
                let quorum = quorum.unwrap_or(nobody());
                publishers.insert(namespace, quorum);
            }
            Err(error) => {
                faults.add(&at.span, error, "write the part before the slash of the components' names");
            }
        }
    }
    publishers
}

/// Tables that say something about projects, each project in one of them. A table of which something was refused is a
/// fault already; `broken` takes its place, so that a double is found too.
fn of_projects<T: Clone>(
    root: &mut Table<'_, '_>,
    faults: &mut Faults<'_>,
    (name, shown): (&'static str, &'static str),
    broken: &T,
    mut read: impl FnMut(&mut Table<'_, '_>, &mut Faults<'_>) -> Option<T>,
) -> BTreeMap<ProjectName, T> {
    let mut found = BTreeMap::new();
    for mut table in root.tables(faults, name, shown) {
        let projects = table.texts(faults, "projects");
        if projects.is_none() {
            table.missing(faults, "projects", "[\"ops\"]");
        }
        let value = read(&mut table, faults).unwrap_or_else(|| broken.clone());
        table.finish(faults);
        let Some(projects) = projects else { continue };
        if projects.value.is_empty() {
            let what = format!("an {name} without a project can sign nothing");
            faults.add(&projects.span, what, "list a project, or remove it");
        }
        for at in &projects.value {
            match ProjectName::new(at.value) {
                Ok(project) if found.contains_key(&project) => faults.add(
                    &at.span,
                    format_args!("the project {project:?} has an {name} already", project = project.as_str()),
                    format_args!("list all of its keys in one {shown}"),
                ),
                Ok(project) => {
                    found.insert(project, value.clone());
                }
                Err(error) => faults.add(&at.span, error, "write the project's name"),
            }
        }
    }
    found
}

/// A quorum that nobody reaches.
pub(super) fn nobody() -> Quorum {
    Quorum { keys: BTreeSet::new(), threshold: NonZeroU32::MAX }
}

fn approver(table: &mut Table<'_, '_>, faults: &mut Faults<'_>, keys: &Keys) -> Option<Approver> {
    let another = match table.text(faults, "by") {
        None | Some(At { value: "another", .. }) => true,
        Some(At { value: "anyone", .. }) => false,
        Some(At { value, span }) => {
            let what = format!("{:?} is neither \"another\" nor \"anyone\"", clip(value));
            faults.add(&span, what, "write by = \"another\": not the one who began the run");
            true
        }
    };
    Some(Approver { quorum: quorum(table, faults, keys, KeyKind::Approve)?, another })
}

/// Other runners whose results count.
fn peers(root: &mut Table<'_, '_>, faults: &mut Faults<'_>, keys: &Keys) -> Vec<Vkey> {
    let mut peers: Vec<Vkey> = Vec::new();
    for mut table in root.tables(faults, "peer", "[[peer]]") {
        let at = table.needed_text(faults, "vkey", "\"runner+id+key\"");
        table.finish(faults);
        let Some(at) = at else { continue };
        let Some(key) = vkey(faults, &at) else { continue };
        let signs = keys.known.values().any(|other| other.vkey.public() == key.public());
        if signs || peers.iter().any(|other| other.public() == key.public()) {
            faults.add(&at.span, "this key is used already", "a runner has a key of its own");
        }
        peers.push(key);
    }
    peers
}

fn log(root: &mut Table<'_, '_>, faults: &mut Faults<'_>, keys: &Keys) -> LogPolicy {
    let Some(mut table) = root.table(faults, "log", "[log]") else { return LogPolicy::default() };
    let require = table.needed_text(faults, "require", "\"off\"");
    let list = table.texts(faults, "keys");
    let mut log = LogPolicy::default();
    for at in list.iter().flat_map(|list| &list.value) {
        let Some(key) = vkey(faults, at) else { continue };
        let signs = keys.known.values().any(|other| other.vkey.public() == key.public());
        if signs || log.keys.iter().any(|other| other.public() == key.public() || other.name() == key.name())
        {
            faults.add(
                &at.span,
                "this key or its name is used already",
                "a log has a key and a name of its own",
            );
        }
        log.keys.push(key);
    }
    match &require {
        Some(At { value: "required", span }) => {
            log.required = true;
            if list.is_none_or(|list| list.value.is_empty()) {
                faults.add(
                    span,
                    "a proof is required, but no log is named",
                    "add the log's verification key to `keys`",
                );
            }
        }
        Some(At { value: "off", .. }) | None => {}
        Some(At { value, span }) => {
            faults.add(
                span,
                format_args!("{:?} is neither \"off\" nor \"required\"", clip(value)),
                "write one of the two",
            );
        }
    }
    table.finish(faults);
    log
}

fn revoked(root: &mut Table<'_, '_>, faults: &mut Faults<'_>) -> Revoked {
    let Some(mut table) = root.table(faults, "revoked", "[revoked]") else { return Revoked::default() };
    let mut revoked = Revoked::default();
    for at in table.texts(faults, "keys").into_iter().flat_map(|list| list.value) {
        match revoked_key(at.value) {
            Some(bytes) => {
                revoked.keys.insert(bytes);
            }
            None => faults.add(
                &at.span,
                "not a key",
                "write the whole verification key, or the 64 hexadecimal digits of its bytes",
            ),
        }
    }
    for (name, into) in [("components", &mut revoked.components), ("notes", &mut revoked.notes)] {
        for at in table.texts(faults, name).into_iter().flat_map(|list| list.value) {
            match at.value.parse::<Digest>() {
                Ok(digest) => {
                    into.insert(digest);
                }
                Err(error) => faults.add(&at.span, error, "copy it from `remit step inspect`"),
            }
        }
    }
    table.finish(faults);
    revoked
}

/// The bytes of a key that is to be revoked, as a verification key or as hexadecimal digits. Unlike a key that is to
/// be trusted, it may be weak.
fn revoked_key(text: &str) -> Option<[u8; 32]> {
    if let Ok(digest) = format!("sha256:{text}").parse::<Digest>() {
        return Some(*digest.as_bytes());
    }
    // Base64 may hold a plus sign itself: only the first two separate.
    let (_, rest) = text.split_once('+')?;
    let (_, key) = rest.split_once('+')?;
    let bytes = crate::key::strict_base64(key)?;
    bytes.strip_prefix(&[1]).and_then(|key| key.try_into().ok())
}

fn minimum(root: &mut Table<'_, '_>, faults: &mut Faults<'_>) -> BTreeMap<ComponentName, ComponentVersion> {
    let Some(table) = root.table(faults, "minimum", "[minimum]") else { return BTreeMap::new() };
    let mut minimum = BTreeMap::new();
    for (name, version) in table.entries(faults) {
        let parsed_name = ComponentName::new(name.value).map_err(|error| {
            faults.add(&name.span, error, "write it in quotes: \"namespace/name\" = \"1.4.0\"");
        });
        let parsed = ComponentVersion::new(version.value)
            .map_err(|error| faults.add(&version.span, error, "write a version such as \"1.4.0\""));
        if let (Ok(name), Ok(version)) = (parsed_name, parsed) {
            minimum.insert(name, version);
        }
    }
    minimum
}
