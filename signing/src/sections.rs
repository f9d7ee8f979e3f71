//! The sections of a component as they lie in its bytes, nested ones included: to compare two builds, and to read what
//! toolchains left behind. What stands in them is a claim of whoever wrote the bytes; nothing here is believed by a runner.

use std::collections::BTreeSet;

use remit_protocol::{Digest, limits::MAX_COMPONENT};
use wasmparser::{KnownCustom, Parser, Payload};

use crate::wasm::{InvalidWasm, MAX_NESTING, check_head, malformed};

/// Most sections of a component, those of what is nested in it included.
const MAX_SECTIONS: usize = 10_000;
/// Most tools that are read out of the sections `producers`.
const MAX_PRODUCERS: usize = 200;
/// Longest text that is read out of them.
const MAX_TEXT: usize = 200;

/// One section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// Where: the numbers of the nested components and modules from the outside in, from 1; empty for the outermost.
    pub place: Vec<u32>,
    /// Its kind, such as `code`; of a custom section its name.
    pub name: String,
    /// It is a custom section: without it the component does the same.
    pub custom: bool,
    /// Its content.
    pub bytes: &'a [u8],
}

impl Section<'_> {
    /// Its place and name for people, such as `1/2 code`.
    pub fn title(&self) -> String {
        let place: Vec<String> = self.place.iter().map(ToString::to_string).collect();
        let place = if place.is_empty() { "outermost".to_owned() } else { place.join("/") };
        let custom = if self.custom { "custom " } else { "" };
        format!("{place} {custom}{}", self.name)
    }

    /// The digest of its content.
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes)
    }
}

/// Reads the sections of the component `bytes` in their order.
///
/// # Errors
/// [`InvalidWasm`].
pub fn sections(bytes: &[u8]) -> Result<Vec<Section<'_>>, InvalidWasm> {
    let mut found = Vec::new();
    walk(bytes, |place, payload| {
        let section = match payload {
            Payload::CustomSection(custom) => Section {
                place: place.to_vec(),
                name: clip(custom.name()),
                custom: true,
                bytes: custom.data(),
            },
            payload => match (kind(payload), payload.as_section()) {
                (Some(name), Some((_, range))) => Section {
                    place: place.to_vec(),
                    name: name.to_owned(),
                    custom: false,
                    bytes: part(bytes, &range),
                },
                _ => return Ok(()),
            },
        };
        if found.len() >= MAX_SECTIONS {
            return Err(InvalidWasm::Excessive("more than 10000 sections"));
        }
        found.push(section);
        Ok(())
    })?;
    Ok(found)
}

/// A part of the bytes; nothing if they do not have it.
fn part<'a>(bytes: &'a [u8], range: &std::ops::Range<u64>) -> &'a [u8] {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    bytes.get(place(range.start)..place(range.end)).unwrap_or_default()
}

/// A tool that took part in making a component, by what the sections `producers` say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub field: String,
    /// The tool.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
}

/// The tools that say they took part, each once. A section that cannot be read says nothing.
///
/// # Errors
/// [`InvalidWasm`].
pub fn producers(bytes: &[u8]) -> Result<BTreeSet<Producer>, InvalidWasm> {
    let mut found = BTreeSet::new();
    walk(bytes, |_, payload| {
        if let Payload::CustomSection(custom) = payload
            && let KnownCustom::Producers(fields) = custom.as_known()
        {
            for field in fields.into_iter().flatten() {
                for value in field.values.into_iter().flatten() {
                    if found.len() < MAX_PRODUCERS {
                        let (name, version) = (clip(value.name), clip(value.version));
                        found.insert(Producer { field: clip(field.name), name, version });
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// The component with a custom section behind its last one: it does the same, under another digest.
pub fn with_custom(bytes: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    let mut section = leb(name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    [bytes, &[0], &leb(section.len()), &section].concat()
}

/// An unsigned number in LEB128.
fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn clip(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Gives each payload to `see`, with the place of the component or module that it is in.
fn walk<'a>(
    bytes: &'a [u8],
    mut see: impl FnMut(&[u32], &Payload<'a>) -> Result<(), InvalidWasm>,
) -> Result<(), InvalidWasm> {
    if bytes.len() as u64 > MAX_COMPONENT {
        return Err(InvalidWasm::TooLarge(bytes.len() as u64));
    }
    check_head(bytes)?;
    // The last number counts what is nested where the walk is; those before it are the place.
    let mut place = vec![0_u32];
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(malformed)?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                if let Some(last) = place.last_mut() {
                    *last += 1;
                }
                place.push(0);
                if place.len() > MAX_NESTING {
                    return Err(InvalidWasm::Excessive("components are nested deeper than 16"));
                }
            }
            Payload::End(_) => drop(place.pop()),
            payload => see(place.split_last().map(|(_, outer)| outer).unwrap_or_default(), payload)?,
        }
    }
    Ok(())
}

/// What a section that is not custom is called.
fn kind(payload: &Payload<'_>) -> Option<&'static str> {
    Some(match payload {
        Payload::TypeSection(_) | Payload::ComponentTypeSection(_) | Payload::CoreTypeSection(_) => "type",
        Payload::ImportSection(_) | Payload::ComponentImportSection(_) => "import",
        Payload::ExportSection(_) | Payload::ComponentExportSection(_) => "export",
        Payload::StartSection { .. } | Payload::ComponentStartSection { .. } => "start",
        Payload::InstanceSection(_) | Payload::ComponentInstanceSection(_) => "instance",
        Payload::FunctionSection(_) => "function",
        Payload::TableSection(_) => "table",
        Payload::MemorySection(_) => "memory",
        Payload::TagSection(_) => "tag",
        Payload::GlobalSection(_) => "global",
        Payload::ElementSection(_) => "element",
        Payload::DataCountSection { .. } => "data count",
        Payload::DataSection(_) => "data",
        Payload::CodeSectionStart { .. } => "code",
        Payload::ComponentAliasSection(_) => "alias",
        Payload::ComponentCanonicalSection(_) => "canonical",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that holds a core module with a section `producers` and one of another name.
    fn nested() -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module = with_custom(&module, "producers", b"\x01\x0cprocessed-by\x01\x05rustc\x061.95.0");
        module = with_custom(&module, "other", b"xyz");
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        component.push(1);
        component.extend(leb(module.len()));
        component.extend(module);
        with_custom(&component, "outer", &[7; 300])
    }

    #[test]
    fn sections_are_found_where_they_are() {
        let bytes = nested();
        let found = sections(&bytes).unwrap();
        let titles: Vec<String> = found.iter().map(Section::title).collect();
        assert_eq!(titles, ["1 custom producers", "1 custom other", "outermost custom outer"]);
        assert_eq!((found[1].bytes, found[2].bytes.len()), (&b"xyz"[..], 300));
        assert_eq!(found[1].digest(), Digest::of(b"xyz"));
        for bad in [&b"\0asm\x01\0\0\0"[..], b"", &bytes[..bytes.len() - 1]] {
            assert!(sections(bad).is_err());
        }
    }

    #[test]
    fn tools_are_read_out_of_nested_modules() {
        let found: Vec<_> = producers(&nested()).unwrap().into_iter().collect();
        let rustc = Producer { field: "processed-by".into(), name: "rustc".into(), version: "1.95.0".into() };
        assert_eq!(found, [rustc]);
        let damaged = with_custom(b"\0asm\x0d\0\x01\0", "producers", b"\xff\xff");
        assert!(producers(&damaged).unwrap().is_empty());
    }

    #[test]
    fn what_was_added_changes_nothing_else() {
        let before = nested();
        let after = with_custom(&before, "more", b"content");
        assert_eq!(&after[..before.len()], before);
        let (old, new) = (sections(&before).unwrap(), sections(&after).unwrap());
        assert_eq!(old[..], new[..old.len()]);
        assert_eq!((new.len(), new.last().unwrap().bytes), (old.len() + 1, &b"content"[..]));
    }
}
