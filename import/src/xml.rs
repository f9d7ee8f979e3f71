//! XML as elements: no DOCTYPE, so no entities of the file's own and none of other files; bounded in depth and number.

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

use crate::file::InvalidFile;

/// Most elements in one file.
const MAX_ELEMENTS: usize = 2_000_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 50;
/// Most attributes of one element.
const MAX_ATTRIBUTES: usize = 200;

/// An element with what is in it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Element {
    /// Its name.
    pub(crate) name: String,
    /// Its attributes, in their order.
    pub(crate) attributes: Vec<(String, String)>,
    /// The elements in it.
    pub(crate) children: Vec<Self>,
    /// The text in it, without that of its children.
    pub(crate) text: String,
}

impl Element {
    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// An attribute, or the text of a child: Rundeck reads one as the other.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let attribute = self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        attribute.or_else(|| self.child(name).map(|child| child.text.as_str()))
    }
}

/// Reads a document to its one root element.
pub(crate) fn parse(text: &str) -> Result<Element, InvalidFile> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut tree = Tree::default();
    loop {
        let event = reader.read_event();
        let failed = |why: String| {
            let position = reader.error_position().max(reader.buffer_position());
            let before = &text.as_bytes()[..usize::try_from(position).unwrap_or(0).min(text.len())];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
            InvalidFile::at(line, column, why)
        };
        let event = event.map_err(|error| failed(format!("this is not XML: {error}")))?;
        if matches!(event, Event::Eof) {
            return match (tree.open.is_empty(), tree.root) {
                (true, Some(root)) => Ok(root),
                (true, None) => Err(failed("there is no element".to_owned())),
                (false, _) => Err(failed("the text ends inside of an element".to_owned())),
            };
        }
        tree.take(event).map_err(failed)?;
    }
}

#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    root: Option<Element>,
    count: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::DocType(_) => {
                Err("a DOCTYPE is refused: it could name other files, or blow up; remove it".to_owned())
            }
            Event::Start(start) => self.start(&start),
            Event::End(_) => {
                let Some(done) = self.open.pop() else { return Ok(()) };
                match self.open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => self.root = Some(done),
                }
                Ok(())
            }
            Event::Text(text) => self.text(&text),
            Event::CData(text) => self.text(&text),
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|error| error.to_string())?;
                match (character, &*reference) {
                    (Some(character), _) => self.text(character.encode_utf8(&mut [0; 4])),
                    (None, "lt") => self.text("<"),
                    (None, "gt") => self.text(">"),
                    (None, "amp") => self.text("&"),
                    (None, "quot") => self.text("\""),
                    (None, "apos") => self.text("'"),
                    (None, other) => Err(format!("the entity &{other}; is not known")),
                }
            }
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        self.count += 1;
        if self.count > MAX_ELEMENTS {
            return Err(format!("more than {MAX_ELEMENTS} elements"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err("there is a second root element".to_owned());
        }
        let mut element = Element { name: start.name().as_ref().to_owned(), ..Element::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            if element.attributes.len() >= MAX_ATTRIBUTES {
                return Err(format!("an element has more than {MAX_ATTRIBUTES} attributes"));
            }
            let value =
                attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
            element.attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        self.open.push(element);
        Ok(())
    }

    /// Text outside of the root element is blank, or quick-xml has refused it.
    fn text(&mut self, text: &str) -> Result<(), String> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim_start_matches('\u{feff}').trim().is_empty() => {}
            None => return Err("there is text outside of the root element".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_text_and_attributes() {
        let found = parse("<?xml version='1.0'?>\n<a x='1 &amp; 2'><b>t&lt;u</b><b/><![CDATA[<raw>]]>\n</a>")
            .unwrap();
        assert_eq!(found.get("x"), Some("1 & 2"));
        assert_eq!(found.get("b"), Some("t<u"));
        assert_eq!(found.all("b").count(), 2);
        assert_eq!(found.text, "<raw>\n");
    }

    #[test]
    fn hostile_files_are_refused() {
        fn check(text: &str, part: &str) {
            let error = parse(text).expect_err(part);
            assert!(error.to_string().contains(part), "{text:.80}: {error}");
        }
        check("<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", "DOCTYPE");
        check("<!DOCTYPE a [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]><a>&b;</a>", "DOCTYPE");
        check("<a>&nosuch;</a>", "not known");
        check("<a><b></a>", "line 1");
        check("<a/><b/>", "second root");
        check("<a>", "ends inside");
        check("", "no element");
        check(&format!("{}{}", "<a>".repeat(51), "</a>".repeat(51)), "deeper than 50");
        let attributes: String = (0..201).map(|n| format!(" a{n}='1'")).collect();
        check(&format!("<a{attributes}/>"), "attributes");
        check("<a x='1' x='2'/>", "duplicated");
    }
}
