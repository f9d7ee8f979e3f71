//! Reading TOML by hand, so that every mistake is found at once and each has its line, its column and a remedy.

use std::{collections::BTreeSet, fmt, ops::Range};

use remit_protocol::{nearest::nearest, position::position};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One mistake in a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFault {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}; {}", self.line, self.column, self.what, self.remedy)
    }
}

/// The mistakes found so far in one file.
pub(super) struct Faults<'t> {
    text: &'t str,
    found: Vec<PolicyFault>,
}

impl<'t> Faults<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, found: Vec::new() }
    }

    /// Notes a mistake at a byte range of the file.
    pub(super) fn add(&mut self, at: &Range<usize>, what: impl fmt::Display, remedy: impl fmt::Display) {
        let (line, column) = position(self.text, at.start);
        let (what, remedy) = (what.to_string(), remedy.to_string());
        self.found.push(PolicyFault { line, column, what, remedy });
    }

    /// The mistakes in the order of the file; none is `Ok`.
    pub(super) fn into_result(mut self) -> Result<(), Vec<PolicyFault>> {
        self.found.sort_by_key(|fault| (fault.line, fault.column));
        if self.found.is_empty() { Ok(()) } else { Err(self.found) }
    }
}

/// A value that was found, and where.
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// One table of the file, from which members are taken by name.
pub(super) struct Table<'a, 'i> {
    table: &'a DeTable<'i>,
    /// The table in words, such as `[[key]]`.
    what: &'static str,
    pub(super) span: Range<usize>,
    asked: BTreeSet<&'static str>,
}

impl<'a, 'i> Table<'a, 'i> {
    pub(super) fn new(table: &'a Spanned<DeTable<'i>>, what: &'static str) -> Self {
        Self { table: table.get_ref(), what, span: table.span(), asked: BTreeSet::new() }
    }

    fn value(&mut self, name: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.asked.insert(name);
        self.table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
    }

    fn wrong_type(&self, faults: &mut Faults<'_>, name: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        faults.add(
            &value.span(),
            format_args!("`{name}` of {} is of type {found}", self.what),
            format_args!("write {wanted}"),
        );
    }

    pub(super) fn missing(&self, faults: &mut Faults<'_>, name: &str, example: &str) {
        faults.add(
            &self.span,
            format_args!("{} has no `{name}`", self.what),
            format_args!("add {name} = {example}"),
        );
    }

    /// The text `name`, if it is there.
    pub(super) fn text(&mut self, faults: &mut Faults<'_>, name: &'static str) -> Option<At<&'a str>> {
        let value = self.value(name)?;
        match value.get_ref().as_str() {
            Some(text) => Some(At { value: text, span: value.span() }),
            None => {
                self.wrong_type(faults, name, value, "a text in quotes");
                None
            }
        }
    }

    /// The text `name`, which has to be there.
    pub(super) fn needed_text(
        &mut self,
        faults: &mut Faults<'_>,
        name: &'static str,
        example: &str,
    ) -> Option<At<&'a str>> {
        if self.value(name).is_none() {
            self.missing(faults, name, example);
        }
        self.text(faults, name)
    }

    /// The whole number `name`, which has to be there.
    pub(super) fn needed_number(
        &mut self,
        faults: &mut Faults<'_>,
        name: &'static str,
        example: &str,
    ) -> Option<At<u64>> {
        let Some(value) = self.value(name) else {
            self.missing(faults, name, example);
            return None;
        };
        let number =
            value.get_ref().as_integer().filter(|n| n.radix() == 10).map(|n| n.as_str().parse::<u64>());
        match number {
            Some(Ok(number)) => Some(At { value: number, span: value.span() }),
            _ => {
                self.wrong_type(faults, name, value, "a whole number, 0 or more");
                None
            }
        }
    }

    /// The texts in the array `name`; `None` if it is not there or not an array.
    pub(super) fn texts(
        &mut self,
        faults: &mut Faults<'_>,
        name: &'static str,
    ) -> Option<At<Vec<At<&'a str>>>> {
        let value = self.value(name)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(faults, name, value, "an array of texts, such as [\"…\"]");
            return None;
        };
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(At { value: text, span: item.span() }),
                None => self.wrong_type(faults, name, item, "texts in quotes inside the array"),
            }
        }
        Some(At { value: texts, span: value.span() })
    }

    /// The tables `[[name]]`.
    pub(super) fn tables(
        &mut self,
        faults: &mut Faults<'_>,
        name: &'static str,
        what: &'static str,
    ) -> Vec<Table<'a, 'i>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(faults, name, value, what);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Table { table, what, span: item.span(), asked: BTreeSet::new() }),
                None => self.wrong_type(faults, name, item, what),
            }
        }
        tables
    }

    /// The table `[name]`, if it is there.
    pub(super) fn table(
        &mut self,
        faults: &mut Faults<'_>,
        name: &'static str,
        what: &'static str,
    ) -> Option<Table<'a, 'i>> {
        let value = self.value(name)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(faults, name, value, what);
            return None;
        };
        Some(Table { table, what, span: value.span(), asked: BTreeSet::new() })
    }

    /// Every member, for a table whose keys are data.
    pub(super) fn entries(&self, faults: &mut Faults<'_>) -> Vec<(At<&'a str>, At<&'a str>)> {
        let mut entries = Vec::new();
        for (key, value) in self.table {
            let name: &'a str = key.get_ref();
            match value.get_ref().as_str() {
                Some(text) => entries
                    .push((At { value: name, span: key.span() }, At { value: text, span: value.span() })),
                None => self.wrong_type(faults, name, value, "a text in quotes"),
            }
        }
        entries
    }

    /// Notes each member that nobody asked for, with the nearest name that there is.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        for (key, _) in self.table {
            if !self.asked.contains(key.get_ref().as_ref()) {
                let remedy = match nearest(key.get_ref(), self.asked.iter().copied()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!(
                        "remove it; known are: {}",
                        self.asked.iter().copied().collect::<Vec<_>>().join(", ")
                    ),
                };
                let name: String = key.get_ref().chars().take(80).collect();
                faults.add(&key.span(), format_args!("{} has no member {name:?}", self.what), remedy);
            }
        }
    }
}
