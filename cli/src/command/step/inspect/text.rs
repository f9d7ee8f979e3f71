//! The inspection for people: four blocks, and nothing in one that belongs into another. What came with the component is
//! printed on one line each, without what a terminal would act on.

use remit_protocol::weigh::Answer;

use super::{Inspection, Refused, Signer, Verified};
use crate::output::one_line;

pub(super) fn of(inspection: &Inspection) -> String {
    let mut lines = computed(inspection);
    match (&inspection.verified, &inspection.refused) {
        (Some(found), _) => lines.extend(verified(found)),
        (None, Some(found)) => lines.extend(refused(found)),
        (None, None) => lines.push("not verified: name whose signatures count with --trust".to_owned()),
    }
    lines.extend(ceiling(inspection));
    lines.extend(claimed(inspection));
    lines.join("\n")
}

fn computed(inspection: &Inspection) -> Vec<String> {
    let computed = &inspection.computed;
    let mut lines = vec![
        "computed from the bytes".to_owned(),
        format!("  digest   {}", computed.digest),
        format!("  size     {} bytes", computed.bytes),
    ];
    let imports = computed.imports.iter();
    lines.extend(
        imports.map(|import| format!("  imports  {:<9} {}", import.class, one_line(&import.interface))),
    );
    lines.extend(computed.exports.iter().map(|name| format!("  exports  {}", one_line(name))));
    let without = computed.imports_without_request.iter();
    lines.extend(without.map(|name| format!("  WITHOUT A REQUEST: the import {}", one_line(name))));
    let without = computed.requests_without_import.iter();
    lines.extend(without.map(|name| format!("  without an import: the request for {name} cannot be used")));
    lines
}

fn signers(signers: &[Signer], title: &str) -> Vec<String> {
    signers
        .iter()
        .map(|signer| format!("  {title} {} ({})", one_line(&signer.holder), one_line(&signer.key)))
        .collect()
}

fn verified(found: &Verified) -> Vec<String> {
    let mut lines = vec![
        format!("verified by the trust policy, version {}, at {}", found.policy, found.at.to_seconds_text()),
        format!("  note     {}", found.note),
    ];
    lines.extend(signers(&found.signers, "signer  "));
    lines.push(format!("  quorum   {} of {} holders have to sign", found.quorum.needed, found.quorum.of));
    lines.push(format!("  until    {}", found.valid_until.to_seconds_text()));
    if let Some(logged) = &found.logged {
        lines.push(format!(
            "  logged   leaf {} of {} in {}",
            logged.index,
            logged.size,
            one_line(&logged.origin)
        ));
    }
    lines.extend(found.verdicts.iter().map(|note| format!("  verdict  note {note}")));
    lines.extend(found.exemptions.iter().map(|exemption| {
        let until = exemption.until.to_seconds_text();
        format!(
            "  EXEMPT   from {} until {until}: {}",
            one_line(&exemption.criteria),
            one_line(&exemption.reason)
        )
    }));
    lines
}

fn refused(found: &Refused) -> Vec<String> {
    let mut lines =
        vec!["REFUSED by the trust policy".to_owned(), format!("  why      {}", one_line(&found.message))];
    lines.extend(signers(&found.known_signers, "known   "));
    lines
}

fn ceiling(inspection: &Inspection) -> Vec<String> {
    let Some(scales) = &inspection.ceiling else { return Vec::new() };
    let mut lines = vec!["by the runner's ceiling".to_owned()];
    for weighed in &scales.requests {
        let answer = match weighed.answer {
            Answer::Granted => "granted",
            Answer::Refused => "REFUSED",
            Answer::Open => "open",
        };
        lines.push(format!("  {answer:<8} {:<6} {}", weighed.capability, one_line(&weighed.rule)));
        lines.extend(weighed.remedy.lines().map(|line| format!("             {}", one_line(line))));
    }
    lines.extend(scales.unused.iter().map(|rule| format!("  unused   {}", one_line(rule))));
    lines
}

fn claimed(inspection: &Inspection) -> Vec<String> {
    let claimed = &inspection.claimed;
    let manifest = &claimed.manifest;
    let whose = if inspection.verified.is_some() { "its signers" } else { "the manifest, not verified" };
    let mut lines = vec![
        format!("claimed by {whose}"),
        format!("  name     {}@{}", manifest.name, manifest.version),
        format!("  about    {}", one_line(&manifest.description)),
    ];
    if let Some(profile) = manifest.profile {
        let what = "the runner links its inert imports with nothing behind them";
        lines.push(format!("  profile  {}: {what}", profile.as_str()));
    }
    let requests = serde_json::to_value(&manifest.requests).unwrap_or_default();
    for (capability, rules) in requests.as_object().into_iter().flatten() {
        for rule in rules.as_array().into_iter().flatten() {
            let open = ["host", "program", "path", "target"].iter().any(|key| {
                let value = rule.get(key).and_then(serde_json::Value::as_str);
                value.is_some_and(|value| value == "granted" || value == "node")
            });
            let open = if open { "  OPEN" } else { "" };
            lines.push(format!("  asks for {capability:<7} {}{open}", one_line(&rule.to_string())));
        }
    }
    lines.extend(claimed.discouraged.iter().map(|why| format!("  WARNING  {}", one_line(why))));
    let limits = &manifest.limits;
    lines.push(format!("  limits   {}", limits.words()));
    if inspection.verified.is_none() {
        let signed = claimed.signature_lines.iter();
        lines.extend(signed.map(|name| format!("  signed   a line says by {}", one_line(name))));
    }
    if let Some(toolchain) = &manifest.toolchain {
        lines.push(format!("  built    with {}", one_line(toolchain)));
    }
    let tools = claimed.produced_by.iter();
    lines
        .extend(tools.map(|tool| format!("  made by  {} {}", one_line(&tool.name), one_line(&tool.version))));
    if let Some(count) = claimed.packages {
        lines.push(format!("  made of  {count} packages (--sbom lists them)"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use remit_protocol::{Limits, weigh::Scales};
    use serde_json::json;

    use super::*;
    use crate::command::step::inspect::{Claimed, Computed, Import, Tool};

    fn hostile(text: &str) -> Inspection {
        let wasm = b"wasm";
        let manifest = json!({
            "v": 1, "name": "acme/x", "version": "1.0.0", "kind": "step", "description": text, "effect": "pure",
            "imports": [], "requests": {}, "limits": Limits::default(), "input": {}, "output": {}, "toolchain": text,
        });
        Inspection {
            schema: 2,
            computed: Computed {
                digest: remit_protocol::Digest::of(wasm),
                bytes: wasm.len(),
                imports: vec![Import { interface: text.to_owned(), class: "unknown" }],
                exports: vec![text.to_owned()],
                imports_without_request: vec![text.to_owned()],
                requests_without_import: vec!["http"],
            },
            verified: None,
            refused: Some(Refused { code: None, message: text.to_owned(), known_signers: Vec::new() }),
            ceiling: Some(Scales { requests: Vec::new(), unused: vec![text.to_owned()] }),
            claimed: Claimed {
                manifest: serde_json::from_value(manifest).unwrap(),
                discouraged: Vec::new(),
                signature_lines: vec![text.to_owned()],
                produced_by: vec![Tool {
                    field: text.to_owned(),
                    name: text.to_owned(),
                    version: text.to_owned(),
                }],
                packages: Some(3),
            },
        }
    }

    #[test]
    fn nothing_that_came_with_it_plays_with_the_terminal_or_begins_a_line() {
        for text in [
            "\u{1b}[2J\u{1b}]0;title\u{7}",
            "a\u{9b}31m",
            "\u{202e}reversed\u{2066}",
            "x\nverified by the trust policy, version 1\n  signer   root (root)",
            "x\r  signer   root",
            "\u{2028}y\u{85}z\u{200b}",
            &"long".repeat(250_000),
        ] {
            let shown = of(&hostile(text));
            let calm = of(&hostile("calm"));
            assert_eq!(shown.lines().count(), calm.lines().count(), "{shown}");
            let bad = |c: char| {
                c != '\n'
                    && (c.is_control()
                        || ('\u{200b}'..='\u{200f}').contains(&c)
                        || ('\u{2028}'..='\u{202e}').contains(&c)
                        || ('\u{2066}'..='\u{2069}').contains(&c))
            };
            assert!(!shown.contains(bad), "{shown:?}");
            assert!(!shown.contains("\nverified") && shown.len() < 20_000);
        }
    }

    #[test]
    fn what_is_refused_is_not_called_verified() {
        let shown = of(&hostile("calm"));
        assert!(shown.contains("REFUSED by the trust policy\n  why      calm"), "{shown}");
        assert!(shown.contains("claimed by the manifest, not verified"), "{shown}");
        assert!(!shown.contains("verified by"), "{shown}");
    }
}
