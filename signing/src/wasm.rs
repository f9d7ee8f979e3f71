//! What a component's outermost level imports and exports, read from its bytes without compiling or trusting them.
//!
//! Sections are read one after another, nested components and modules only counted, function bodies passed over. What
//! is not a component, is cut off, nests deep or names too much is an error, never a partial answer.

use remit_protocol::limits::MAX_COMPONENT;
use wasmparser::{ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, TypeBounds};

/// The first eight bytes of a component.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// The first eight bytes of a core module.
const MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";
/// Deepest nesting of components and modules.
pub(crate) const MAX_NESTING: usize = 16;
/// Most imports, and most exports.
const MAX_NAMES: usize = 1000;
/// Longest name of an import or export.
const MAX_NAME: usize = 512;

/// What an imported or exported thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// An interface.
    Instance,
    /// A function.
    Func,
    /// A core module, a component, a value or a resource type.
    Other,
}

/// One import or export.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// Its name, such as `wasi:io/streams@0.2.6`.
    pub name: String,
    /// What it is.
    pub kind: ItemKind,
}

/// What a component imports and exports, sorted by name. Imported types that are only names are left out: they give
/// no power.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Imports.
    pub imports: Vec<Item>,
    /// Exports.
    pub exports: Vec<Item>,
}

impl Interfaces {
    /// The names of the imports, as a manifest lists them.
    pub fn import_names(&self) -> Vec<String> {
        self.imports.iter().map(|item| item.name.clone()).collect()
    }

    /// True if the interface `name` is exported in a version that begins with `version`.
    pub fn exports_interface(&self, name: &str, version: &str) -> bool {
        let fits = |item: &Item| {
            let rest = item.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('@'));
            item.kind == ItemKind::Instance && rest.is_some_and(|found| found.starts_with(version))
        };
        self.exports.iter().any(fits)
    }
}

/// Why bytes are not a component that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWasm {
    /// Too large.
    #[error("{0} bytes; a component has at most {MAX_COMPONENT}")]
    TooLarge(u64),
    /// A core module.
    #[error("a WebAssembly core module, not a component")]
    Module,
    /// Something else altogether.
    #[error("not WebAssembly: a component begins with 00 61 73 6d 0d 00 01 00")]
    NotWasm,
    /// Damaged, or a feature that is not read here.
    #[error("not a readable component, at byte {offset}: {message}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What the reader says.
        message: String,
    },
    /// Too deep or too many names.
    #[error("{0}")]
    Excessive(&'static str),
    /// A name with an attribute that changes what it means.
    #[error("the name {0:?} carries an attribute that is not accepted here")]
    Attribute(String),
}

/// Reads what the component `bytes` imports and exports.
pub fn interfaces(bytes: &[u8]) -> Result<Interfaces, InvalidWasm> {
    if bytes.len() as u64 > MAX_COMPONENT {
        return Err(InvalidWasm::TooLarge(bytes.len() as u64));
    }
    check_head(bytes)?;
    let mut found = Interfaces::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding, .. } if depth == 0 && encoding != Encoding::Component => {
                return Err(InvalidWasm::Module);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Err(InvalidWasm::Excessive("components are nested deeper than 16"));
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(malformed)?;
                    if !matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                        add(&mut found.imports, &import.name, import.ty.kind())?;
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    add(&mut found.exports, &export.name, export.kind)?;
                }
            }
            _ => {}
        }
    }
    found.imports.sort();
    found.exports.sort();
    Ok(found)
}

/// Refuses what does not begin as a component.
pub(crate) fn check_head(bytes: &[u8]) -> Result<(), InvalidWasm> {
    if bytes.starts_with(&COMPONENT) {
        return Ok(());
    }
    let module = bytes.starts_with(&MODULE);
    Err(if module { InvalidWasm::Module } else { InvalidWasm::NotWasm })
}

fn add(
    items: &mut Vec<Item>,
    name: &wasmparser::ComponentExternName<'_>,
    kind: ComponentExternalKind,
) -> Result<(), InvalidWasm> {
    if name.implements.is_some() || name.version_suffix.is_some() || name.external_id.is_some() {
        return Err(InvalidWasm::Attribute(name.name.chars().take(80).collect()));
    }
    if items.len() >= MAX_NAMES || name.name.len() > MAX_NAME {
        return Err(InvalidWasm::Excessive("more than 1000 imports or exports, or a name above 512 bytes"));
    }
    let kind = match kind {
        ComponentExternalKind::Instance => ItemKind::Instance,
        ComponentExternalKind::Func => ItemKind::Func,
        ComponentExternalKind::Module
        | ComponentExternalKind::Value
        | ComponentExternalKind::Type
        | ComponentExternalKind::Component => ItemKind::Other,
    };
    items.push(Item { name: name.name.to_owned(), kind });
    Ok(())
}

pub(crate) fn malformed(error: wasmparser::BinaryReaderError) -> InvalidWasm {
    let message = error.message().chars().take(200).collect();
    InvalidWasm::Malformed { offset: error.offset(), message }
}
