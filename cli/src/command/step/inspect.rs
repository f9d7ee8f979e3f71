//! `remit step inspect`: what the bytes show, what the manifest claims, and who signed.

use std::path::PathBuf;

use clap::Args;
use remit_protocol::{
    Digest,
    capability::{
        Requests,
        imports::{ImportClass, check_imports, classify, is_inert},
        secrets::SecretUse,
    },
    manifest::Manifest,
};
use serde::Serialize;

use crate::{
    command::note,
    failure::{Code, Failure, Result},
    output::{Output, harmless},
    package::Package,
};

#[derive(Args)]
pub(crate) struct Inspect {
    /// The package, or the crate that it was built in.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Whose signatures count; absent: nothing is called verified.
    #[arg(long, value_name = "TRUST.TOML")]
    trust: Option<PathBuf>,
}

/// Schema 1 of `--output json`.
#[derive(Serialize)]
struct Inspection {
    schema: u32,
    /// Computed from the bytes at hand.
    digest: Digest,
    bytes: usize,
    imports: Vec<Import>,
    /// Read from the manifest: a claim unless `verified` says otherwise.
    claimed: Manifest,
    verified: Option<Verified>,
    /// Why it is not verified.
    refusal: Option<String>,
    /// An import that no request accounts for.
    unaccounted: Option<String>,
    /// Ways of using a secret that work and should not be needed.
    discouraged: Vec<String>,
}

#[derive(Serialize)]
struct Import {
    interface: String,
    class: &'static str,
}

#[derive(Serialize)]
struct Verified {
    note: Digest,
    signers: Vec<String>,
}

fn class(interface: &str) -> &'static str {
    match classify(interface) {
        ImportClass::Baseline => "baseline",
        ImportClass::Unknown => "unknown",
        ImportClass::Http
        | ImportClass::Exec
        | ImportClass::Ssh
        | ImportClass::Scratch
        | ImportClass::NamedFiles
        | ImportClass::Reveal => "effectful",
    }
}

impl Inspect {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let package = Package::find(&self.folder)?;
        let wasm = package.wasm()?;
        let interfaces = remit_signing::wasm::interfaces(&wasm).map_err(Failure::input)?;
        let claimed = package.manifest()?;
        let names = interfaces.import_names();
        let unaccounted =
            check_imports(names.iter().map(String::as_str), &claimed.requests, claimed.profile).err();
        let inert = |name: &str| is_inert(name, &claimed.requests, claimed.profile);
        let class = |name: &str| if inert(name) { "inert" } else { class(name) };
        let imports =
            names.iter().map(|name| Import { interface: name.clone(), class: class(name) }).collect();
        let (mut verified, mut refusal) = (None, None);
        if let Some(trust) = &self.trust {
            let policy = note::trust(trust)?;
            match package.note()? {
                None => refusal = Some("it is not signed".to_owned()),
                Some(bytes) => {
                    let manifest = package.manifest_bytes()?;
                    match remit_signing::verify::component(
                        &bytes,
                        &manifest,
                        wasm.clone(),
                        &policy,
                        note::now(),
                    ) {
                        Ok(component) => {
                            let signers = component.release().signers().iter();
                            let signers =
                                signers.map(|signer| format!("{} ({})", signer.holder, signer.key)).collect();
                            verified = Some(Verified { note: component.release().identity(), signers });
                        }
                        Err(found) => refusal = Some(found.to_string()),
                    }
                }
            }
        }
        let discouraged = discouraged(&claimed.requests);
        let failed = refusal.clone().or_else(|| unaccounted.as_ref().map(ToString::to_string));
        let inspection = Inspection {
            schema: 1,
            digest: Digest::of(&wasm),
            bytes: wasm.len(),
            imports,
            claimed,
            verified,
            refusal,
            unaccounted: unaccounted.map(|import| import.interface),
            discouraged,
        };
        output.print(&inspection, text);
        failed.map_or(Ok(()), |why| Err(Failure::new(Code::Refused, harmless(&why), "")))
    }
}

/// The ways of using a secret that work and should not be needed.
fn discouraged(requests: &Requests) -> Vec<String> {
    let http = requests.http.iter().filter_map(|rule| rule.secret.as_ref());
    let http = http.map(|secret| (&secret.name, secret.placement.kind()));
    let all = http.chain(requests.reveal.iter().map(|secret| (&secret.name, SecretUse::Reveal)));
    all.filter_map(|(name, usage)| {
        Some(format!("the secret {name} as {}: {}", usage.as_str(), usage.discouraged()?))
    })
    .collect()
}

fn text(inspection: &Inspection) -> String {
    let mut lines = vec![
        "computed from the bytes".to_owned(),
        format!("  digest   {}", inspection.digest),
        format!("  size     {} bytes", inspection.bytes),
    ];
    lines.extend(
        inspection
            .imports
            .iter()
            .map(|import| format!("  imports  {:<9} {}", import.class, harmless(&import.interface))),
    );
    let manifest = &inspection.claimed;
    match &inspection.verified {
        Some(verified) => {
            lines.push("verified by the trust policy".to_owned());
            lines.push(format!("  note     {}", verified.note));
            lines.extend(verified.signers.iter().map(|signer| format!("  signer   {}", harmless(signer))));
        }
        None => lines.push("claimed by the manifest, not verified".to_owned()),
    }
    lines.push(format!("  name     {}@{}", manifest.name, manifest.version));
    lines.push(format!("  about    {}", harmless(&manifest.description)));
    if let Some(profile) = manifest.profile {
        let what = "the runner links its inert imports with nothing behind them";
        lines.push(format!("  profile  {}: {what}", profile.as_str()));
    }
    let requests = serde_json::to_value(&manifest.requests).unwrap_or_default();
    for (capability, rules) in requests.as_object().into_iter().flatten() {
        for rule in rules.as_array().into_iter().flatten() {
            let open = ["host", "program", "path", "target"].iter().any(|key| {
                rule.get(key)
                    .and_then(serde_json::Value::as_str)
                    .is_some_and(|value| value == "granted" || value == "node")
            });
            lines.push(format!(
                "  asks for {capability:<7} {}{}",
                harmless(&rule.to_string()),
                if open { "  OPEN" } else { "" }
            ));
        }
    }
    lines.extend(inspection.discouraged.iter().map(|why| format!("  WARNING  {}", harmless(why))));
    let limits = &manifest.limits;
    lines.push(format!(
        "  limits   memory {}, wall {}, cpu {}, log {}",
        limits.memory, limits.wall, limits.cpu, limits.log
    ));
    lines.join("\n")
}
