//! `[[provider]]`: where secrets come from, each at a mount of its own.

use std::collections::BTreeSet;

use remit_protocol::nearest::nearest;
use toml::{Spanned, de::DeTable};

use super::{Reader, Value, value};
use crate::secrets::ProviderConfig;

impl Reader<'_> {
    pub(super) fn providers(&mut self, top: &DeTable<'_>) -> Vec<ProviderConfig> {
        let Some(found) = value(top, "provider") else { return Vec::new() };
        let Some(array) = found.get_ref().as_array() else {
            self.fault(&found.span(), "provider", "this is one table", "write it as [[provider]]");
            return Vec::new();
        };
        let mut providers = Vec::new();
        let mut mounts = BTreeSet::new();
        for (index, entry) in array.iter().enumerate() {
            let place = format!("provider[{index}]");
            let Some(provider) = self.provider(entry, &place) else { continue };
            if !mounts.insert(provider.mount().as_str().to_owned()) {
                let message = format!("{:?} is mounted twice", provider.mount().as_str());
                self.fault(&entry.span(), &place, &message, "give each provider a mount of its own");
            }
            providers.push(provider);
        }
        providers
    }

    fn provider(&mut self, entry: &Value<'_>, place: &str) -> Option<ProviderConfig> {
        const KINDS: [&str; 6] = ["store", "directory", "environment", "vault", "program", "sealed"];
        let supported = KINDS.join(", ");
        let table = self.section(entry, place)?;
        let kind = value(table, "kind").and_then(|kind| Some((kind.get_ref().as_str()?, kind.span())));
        let known: &[&str] = match kind {
            Some(("store", _)) => &["kind", "mount", "key_file", "credential"],
            Some(("directory", _)) => &["kind", "mount", "path"],
            Some(("environment", _)) => &["kind", "mount", "variables"],
            Some(("vault", _)) => &[
                "kind",
                "mount",
                "address",
                "namespace",
                "engine",
                "field",
                "names",
                "ca_file",
                "via",
                "auth",
                "cache",
            ],
            Some(("program", _)) => &["kind", "mount", "path", "args", "env", "timeout", "cache"],
            Some(("sealed", _)) => &["kind", "mount"],
            Some((other, span)) => {
                let meant = nearest(other, KINDS);
                let remedy = meant.map_or(format!("supported are: {supported}"), |meant| {
                    format!("did you mean {meant:?}?")
                });
                self.fault(
                    &span,
                    &format!("{place}.kind"),
                    &format!("there is no provider of kind {other:?}"),
                    &remedy,
                );
                return None;
            }
            None => {
                self.fault(
                    &entry.span(),
                    place,
                    "`kind` is missing",
                    &format!("add kind = …; supported are: {supported}"),
                );
                return None;
            }
        };
        if !self.known(table, place, known) {
            return None;
        }
        let mut provider: ProviderConfig = self.read(entry, place, "correct this entry")?;
        if let Some((name, most)) = provider.too_long() {
            let span = value(table, name).map_or(entry.span(), Spanned::span);
            let place = format!("{place}.{name}");
            self.fault(&span, &place, "this is longer than it may be", &format!("write at most {most}"));
        }
        provider.anchor(self.directory);
        Some(provider)
    }
}
