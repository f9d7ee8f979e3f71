//! A small world to sign in: three keys, one policy, one component that is as small as a component can be.

use remit_protocol::{Timestamp, digest::Sized, manifest::Manifest};
use remit_signing::{KeyName, SigningKey, TrustPolicy, component::ComponentNote, note};
use serde_json::json;

/// The time in these tests.
pub(crate) fn now() -> Timestamp {
    at("2026-11-21T00:00:00Z")
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A key that has its name for seed.
pub(crate) fn key(name: &str) -> SigningKey {
    let seed = remit_protocol::Digest::of(name.as_bytes());
    SigningKey::from_seed(KeyName::new(name).unwrap(), seed.as_bytes())
}

/// alice and bob publish `acme` together, carol holds a second key of bob, dave writes jobs for `ops`.
pub(crate) fn policy_text() -> String {
    let mut text = String::from("version = 7\n");
    for (name, holder, kind) in [
        ("acme/alice", "alice", "component"),
        ("acme/bob", "bob", "component"),
        ("acme/bob-2", "bob", "component"),
        ("other/erin", "erin", "component"),
        ("ops/dave", "dave", "job"),
    ] {
        text.push_str(&format!(
            "[[key]]\nvkey = \"{}\"\nholder = \"{holder}\"\nkinds = [\"{kind}\"]\n",
            key(name).vkey()
        ));
    }
    text.push_str(
        "[[publisher]]\nnamespace = \"acme\"\nkeys = [\"acme/alice\", \"acme/bob\", \"acme/bob-2\"]\nthreshold = 2\n\
         [[publisher]]\nnamespace = \"other\"\nkeys = [\"other/erin\"]\nthreshold = 1\n\
         [[author]]\nprojects = [\"ops\"]\nkeys = [\"ops/dave\"]\nthreshold = 1\n",
    );
    text
}

pub(crate) fn policy() -> TrustPolicy {
    TrustPolicy::from_toml(&policy_text()).unwrap()
}

/// The policy with more lines at its end.
pub(crate) fn policy_and(lines: &str) -> TrustPolicy {
    TrustPolicy::from_toml(&format!("{}{lines}\n", policy_text())).unwrap()
}

fn named(id: u8, items: &[(&str, &[u8])]) -> Vec<u8> {
    let mut section = vec![u8::try_from(items.len()).unwrap()];
    for (name, rest) in items {
        section.push(0);
        section.push(u8::try_from(name.len()).unwrap());
        section.extend_from_slice(name.as_bytes());
        section.extend_from_slice(rest);
    }
    let mut bytes = vec![id];
    bytes.push(u8::try_from(section.len()).unwrap());
    bytes.extend(section);
    bytes
}

/// What the component's header looks like.
pub(crate) const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
const INSTANCE: &[u8] = &[5, 0];
const FUNC: &[u8] = &[1, 0];
const EXPORTED_INSTANCE: &[u8] = &[5, 0, 0];
const EQUAL_TYPE: &[u8] = &[3, 0, 0];

/// A component that imports interfaces and a type's name, and exports interfaces. Nothing is behind the names: what is
/// read here is structure.
pub(crate) fn wasm(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let mut bytes = HEADER.to_vec();
    let mut items: Vec<(&str, &[u8])> = imports.iter().map(|name| (*name, INSTANCE)).collect();
    items.push(("end", EQUAL_TYPE));
    bytes.extend(named(10, &items));
    let items: Vec<(&str, &[u8])> = exports.iter().map(|name| (*name, EXPORTED_INSTANCE)).collect();
    bytes.extend(named(11, &items));
    bytes
}

/// A wasm whose import `name` carries the attribute that it implements another interface.
pub(crate) fn wasm_with_attribute(name: &str, implements: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let section = [&[1, 2][..], &text(name), &[1, 0], &text(implements), INSTANCE].concat();
    let mut bytes = [HEADER, &[10, u8::try_from(section.len()).unwrap()], &section].concat();
    bytes.extend(named(11, &[(MAIN, EXPORTED_INSTANCE)]));
    bytes
}

/// A wasm that imports functions instead of interfaces.
pub(crate) fn wasm_importing_function(name: &str) -> Vec<u8> {
    let mut bytes = HEADER.to_vec();
    bytes.extend(named(10, &[(name, FUNC)]));
    bytes.extend(named(11, &[(MAIN, EXPORTED_INSTANCE)]));
    bytes
}

pub(crate) const MAIN: &str = "remit:step/main@0.1.0";
pub(crate) const SOURCE: &str = "remit:step/source@0.1.0";
pub(crate) const LOG: &str = "remit:step/log@0.1.0";

pub(crate) fn manifest(imports: &[&str]) -> serde_json::Value {
    let limits = remit_protocol::Limits::default();
    json!({
        "v": 1, "name": "acme/hello", "version": "1.4.2", "kind": "step", "description": "Says hello.",
        "effect": "pure", "imports": imports, "requests": {}, "limits": limits, "input": {}, "output": {}
    })
}

/// A component with its manifest and note, each part open to change before it is signed.
#[derive(Clone)]
pub(crate) struct Release {
    pub(crate) note: ComponentNote,
    pub(crate) manifest: Vec<u8>,
    pub(crate) wasm: Vec<u8>,
}

impl Release {
    pub(crate) fn new() -> Self {
        Self::of(manifest(&[LOG]), wasm(&[LOG], &[MAIN]))
    }

    pub(crate) fn of(manifest: serde_json::Value, wasm: Vec<u8>) -> Self {
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let note = ComponentNote {
            name: "acme/hello".parse().unwrap(),
            version: "1.4.2".parse().unwrap(),
            component: Sized::of(&wasm),
            manifest: Sized::of(&manifest),
            source: None,
            not_before: at("2026-11-20T00:00:00Z"),
            expires: at("2027-11-20T00:00:00Z"),
        };
        Self { note, manifest, wasm }
    }

    /// The note's bytes, signed by the keys of these names.
    pub(crate) fn signed(&self, names: &[&str]) -> Vec<u8> {
        let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
        note::sign(&self.note.to_text(), &keys.iter().collect::<Vec<_>>()).unwrap()
    }

    /// The note's bytes, signed by alice and bob.
    pub(crate) fn good(&self) -> Vec<u8> {
        self.signed(&["acme/alice", "acme/bob"])
    }

    pub(crate) fn verify(&self, note: &[u8], policy: &TrustPolicy) -> Result<Manifest, String> {
        remit_signing::verify::component(note, &self.manifest, self.wasm.clone(), policy, now())
            .map(|component| component.manifest().clone())
            .map_err(|refusal| refusal.code.to_string())
    }
}
