//! Notifications: who is told becomes a channel, which somebody who may makes once.
//!
//! An address of a webhook may be a secret in itself, so only its host is told.

use std::collections::{BTreeMap, BTreeSet};

use remit_job::notify::Over;
use remit_protocol::Digest;
use serde_json::{Map, Value};

use crate::{
    job::{Kind, Report, member},
    write::Tree,
    yaml::truthy,
};

const PLACE: &str = "notification";

/// `notify` of a job, or nothing.
pub(crate) fn import(job: &Map<String, Value>, report: &mut Report) -> Option<Tree> {
    let notification = job.get("notification").and_then(Value::as_object)?;
    let mut told: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for (trigger, entries) in notification {
        let occasion = match trigger.as_str() {
            "onstart" => "start",
            "onsuccess" => "success",
            "onfailure" => "failure",
            "onavgduration" => "slow",
            other => {
                report.add(Kind::Lost, PLACE, format!("what happens {other}: there is no such occasion"));
                continue;
            }
        };
        let entries = match entries {
            Value::Array(entries) => entries.as_slice(),
            one => std::slice::from_ref(one),
        };
        for entry in entries.iter().filter_map(Value::as_object) {
            for channel in channels(entry, report) {
                told.entry(channel).or_default().insert(occasion);
            }
        }
    }
    let over = told.values().any(|when| when.contains("slow")).then(|| over(job, report)).flatten();
    let entry = |(channel, when): (String, BTreeSet<&'static str>)| {
        let mut members =
            vec![("when".to_owned(), when.iter().map(|occasion| Tree::from(*occasion)).collect())];
        if when.contains("slow") {
            members.extend(over.clone().map(|over| ("over".to_owned(), over.into())));
        }
        members.push(("channel".to_owned(), channel.into()));
        Tree::Map(members)
    };
    let entries: Vec<Tree> = told.into_iter().map(entry).collect();
    (!entries.is_empty()).then_some(Tree::List(entries))
}

/// The channels that an entry speaks of.
fn channels(entry: &Map<String, Value>, report: &mut Report) -> Vec<String> {
    let mut found = Vec::new();
    let mail = entry.get("email").and_then(Value::as_object).unwrap_or(entry);
    let recipients = member(mail, "recipients");
    if recipients.contains("${") {
        report.add(Kind::Lost, PLACE, "mail to addresses that are computed");
    } else if !recipients.trim().is_empty() {
        let addresses: Vec<&str> =
            recipients.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        let name = channel("mail", addresses.first().copied().unwrap_or_default(), &recipients);
        let arguments: Vec<String> = addresses.iter().map(|address| format!("--email {address}")).collect();
        let message = format!("goes over a channel: remit channel create {name} {}", arguments.join(" "));
        report.add(Kind::Differs, PLACE, message);
        if mail.get("attachLog").is_some_and(truthy) || !member(mail, "subject").is_empty() {
            report.add(Kind::Lost, PLACE, "the subject of a mail, and the log in it");
        }
        found.push(name);
    }
    for url in member(entry, "urls").split(',').map(str::trim).filter(|url| !url.is_empty()) {
        if url.contains("${") {
            report.add(Kind::Lost, PLACE, "a webhook whose address is computed");
            continue;
        }
        let host = url.split("://").nth(1).unwrap_or(url).split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let name = channel("hook", host, url);
        let message = format!(
            "goes over a channel, with another body: remit channel create {name} --webhook URL, with the address \
             at {host} that Rundeck has"
        );
        report.add(Kind::Differs, PLACE, message);
        found.push(name);
    }
    let plugins = match entry.get("plugin") {
        Some(Value::Array(plugins)) => plugins.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    for plugin in plugins.iter().filter_map(Value::as_object) {
        let kind = member(plugin, "type");
        report.add(
            Kind::Lost,
            PLACE,
            format!("the plugin {kind:?}: write a job that tells, and `notify: [{{ job: ... }}]`"),
        );
    }
    found
}

/// A name for a channel: the same for the same addresses, whichever job speaks of them.
fn channel(kind: &str, shown: &str, whole: &str) -> String {
    let slug: String = shown
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(40)
        .collect();
    let digest = Digest::of(whole.as_bytes()).to_hex();
    let mut name = format!("{kind}-{}-{}", slug.trim_matches('-'), &digest[..6]);
    while name.contains("--") {
        name = name.replace("--", "-");
    }
    name
}

/// From when on an execution is slow; `50%` more than the average is 150% of it.
fn over(job: &Map<String, Value>, report: &mut Report) -> Option<String> {
    let written = member(job, "notifyAvgDurationThreshold");
    if written.is_empty() {
        return None;
    }
    let over = match written.strip_suffix('%') {
        Some(percent) => percent
            .trim_start_matches('+')
            .parse::<u32>()
            .ok()
            .map(|more| format!("{}%", more.saturating_add(100))),
        None => Some(written.clone()),
    };
    let over = over.filter(|over| over.parse::<Over>().is_ok());
    if over.is_none() {
        let message = format!(
            "when an execution is slow, {written:?}, has no counterpart: it is at 150% of the average"
        );
        report.add(Kind::Lost, "notifyAvgDurationThreshold", message);
    }
    over
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_told_is_a_channel() {
        let mut report = Report::default();
        let job = json!({
            "notifyAvgDurationThreshold": "50%",
            "notification": {
                "onfailure": [{"email": {"recipients": "Ops@x.org, b@x.org", "subject": "s"}}, {"urls": "https://hooks.example/T0/secret?a"}],
                "onavgduration": {"email": {"recipients": "Ops@x.org, b@x.org"}},
                "onstart": {"plugin": [{"type": "slack", "configuration": {"url": "https://s/T1"}}]},
                "onretryablefailure": {"recipients": "c@x.org"},
                "onsuccess": {"recipients": "${job.user.email}"},
            },
        });
        let made = crate::write::text(&import(job.as_object().unwrap(), &mut report).unwrap());
        for part in [
            "- \"failure\"",
            "- \"slow\"",
            "over: \"150%\"",
            "channel: \"hook-hooks-example-",
            "channel: \"mail-ops-x-org-",
        ] {
            assert!(made.contains(part), "{part}: {made}");
        }
        let notices = report.into_notices();
        let told: Vec<_> = notices.iter().map(|notice| notice.message.as_str()).collect();
        for part in [
            "--email Ops@x.org --email b@x.org",
            "--webhook URL",
            "slack",
            "onretryablefailure",
            "computed",
            "subject",
        ] {
            assert!(told.iter().any(|message| message.contains(part)), "{part}: {told:?}");
        }
        assert!(!format!("{told:?}{made}").contains("secret"), "{told:?}");
    }

    #[test]
    fn channels_have_names_that_are_taken() {
        for shown in ["a@b.c", "--", "äöü", &"x".repeat(100)] {
            let name = channel("mail", shown, shown);
            assert!(remit_protocol::ChannelName::new(name.as_str()).is_ok(), "{name}");
        }
    }
}
