//! Resource models in XML: `<project>` of `<node name="…">` with attributes and `<attribute name="…" value="…"/>` in it.
//!
//! A DOCTYPE is refused whatever it says, and with it entities of the file's own and of other files.

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};
use remit_sdk::Node;

use crate::entry::split_tags;

/// Most attributes of one element.
const MAX_ATTRIBUTES: usize = 1000;

/// The nodes of a text, in its order.
pub(crate) fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut parser = Parser::default();
    loop {
        let event = reader.read_event();
        let line = || {
            let at =
                usize::try_from(reader.error_position().max(reader.buffer_position())).unwrap_or(usize::MAX);
            text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
        };
        let event = event.map_err(|error| format!("line {}: {error}", line()))?;
        match parser.take(event).map_err(|why| format!("line {}: {why}", line()))? {
            Step::On => {}
            Step::End => return Ok(parser.nodes),
        }
    }
}

enum Step {
    On,
    End,
}

#[derive(Default)]
struct Parser {
    nodes: Vec<Node>,
    open: Vec<Element>,
    any: bool,
}

/// An element that is open.
enum Element {
    Project,
    Node(Node),
    /// An attribute with its text so far; the text holds where there is no `value`.
    Attribute {
        name: String,
        value: Option<String>,
        text: String,
    },
    /// Something that we do not know, which is passed over with all that is in it.
    Other,
}

impl Parser {
    fn take(&mut self, event: Event<'_>) -> Result<Step, String> {
        match event {
            Event::DocType(_) => Err("a DOCTYPE is not accepted: it could name other files".to_owned()),
            Event::Start(start) => self.start(&start),
            Event::End(_) => {
                self.end();
                Ok(Step::On)
            }
            Event::Text(text) => {
                self.text(&text);
                Ok(Step::On)
            }
            Event::CData(text) => {
                self.text(&text);
                Ok(Step::On)
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|error| error.to_string())?;
                match (character, &*reference) {
                    (Some(character), _) => self.text(character.encode_utf8(&mut [0; 4])),
                    (None, "lt") => self.text("<"),
                    (None, "gt") => self.text(">"),
                    (None, "amp") => self.text("&"),
                    (None, "quot") => self.text("\""),
                    (None, "apos") => self.text("'"),
                    (None, other) => return Err(format!("the entity &{other}; is not known")),
                }
                Ok(Step::On)
            }
            Event::Eof if !self.open.is_empty() => Err("the text ends inside of an element".to_owned()),
            Event::Eof if !self.any => Err("it has no <project>".to_owned()),
            Event::Eof => Ok(Step::End),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => Ok(Step::On),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<Step, String> {
        if self.open.len() > 32 {
            return Err("elements stand in one another more than 32 deep".to_owned());
        }
        let name = start.name();
        let element = match (self.open.last(), name.as_ref()) {
            (None, _) if self.any => return Err("there is a second root element".to_owned()),
            (None, "project") => {
                self.any = true;
                Element::Project
            }
            (None, other) => return Err(format!("the root element is <{other}>, not <project>")),
            (Some(Element::Project), "node") => Element::Node(node(attributes(start)?)?),
            (Some(Element::Node(_)), "attribute") => attribute(attributes(start)?)?,
            (Some(_), _) => Element::Other,
        };
        self.open.push(element);
        Ok(Step::On)
    }

    fn end(&mut self) {
        match self.open.pop() {
            Some(Element::Node(node)) => self.nodes.push(node),
            Some(Element::Attribute { name, value, text }) => {
                if let Some(Element::Node(node)) = self.open.last_mut() {
                    set(node, name, value.unwrap_or_else(|| text.trim().to_owned()));
                }
            }
            Some(Element::Project | Element::Other) | None => {}
        }
    }

    fn text(&mut self, more: &str) {
        if let Some(Element::Attribute { text, .. }) = self.open.last_mut() {
            text.push_str(more);
        }
    }
}

fn attributes(start: &BytesStart<'_>) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        if found.len() == MAX_ATTRIBUTES {
            return Err(format!("an element has more than {MAX_ATTRIBUTES} attributes"));
        }
        found.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(found)
}

fn node(attributes: Vec<(String, String)>) -> Result<Node, String> {
    let name = attributes.iter().find(|(name, _)| name == "name").map(|(_, name)| name.trim().to_owned());
    let name = name.filter(|name| !name.is_empty()).ok_or("a <node> has no name")?;
    let mut node = Node::new(name);
    for (name, value) in attributes {
        set(&mut node, name, value);
    }
    Ok(node)
}

fn attribute(attributes: Vec<(String, String)>) -> Result<Element, String> {
    let (mut name, mut value) = (None, None);
    for (key, text) in attributes {
        match key.as_str() {
            "name" => name = Some(text),
            "value" => value = Some(text),
            _ => {}
        }
    }
    let name = name.filter(|name| !name.is_empty()).ok_or("an <attribute> has no name")?;
    Ok(Element::Attribute { name, value, text: String::new() })
}

fn set(node: &mut Node, name: String, value: String) {
    match name.as_str() {
        "name" => {}
        "tags" => node.tags = split_tags(&value).into_iter().collect(),
        _ => {
            node.attributes.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- the web tier -->
<project>
  <node name="web1" hostname="10.0.0.5" tags="web,linux,," osFamily="unix" rank="5" note="a &lt; b">
    <attribute name="role" value="front"/>
    <attribute name="note">text &amp; <![CDATA[<more>]]>&#33;</attribute>
    <attribute name="rank" value="6">ignored</attribute>
    <other><attribute name="x" value="y"/></other>
  </node>
  <node name="db1"/>
</project>"#;
        let web1 = Node::new("web1")
            .tag("web")
            .tag("linux")
            .attribute("hostname", "10.0.0.5")
            .attribute("osFamily", "unix")
            .attribute("rank", "6")
            .attribute("role", "front")
            .attribute("note", "text & <more>!");
        assert_eq!(nodes(text).unwrap(), [web1, Node::new("db1")]);
        assert_eq!(nodes("<project/>").unwrap(), []);
    }

    #[test]
    fn what_is_no_resource_model_is_refused() {
        fn check(text: &str, expect: &str) {
            let found = nodes(text).unwrap_err();
            assert!(found.contains(expect), "{text:?}: {found}");
        }
        check("", "it has no <project>");
        check("<nodes/>", "the root element is <nodes>, not <project>");
        check("<project>\n<node/>\n</project>", "line 2: a <node> has no name");
        check("<project>\n<node name=\"a\">", "inside of an element");
        check("<project></node>", "line 1");
        check(
            "<project><node name=\"a\"><attribute value=\"x\"/></node></project>",
            "an <attribute> has no name",
        );
        check("<project><node name=\"a\" name=\"b\"/></project>", "line 1");
        check("<project/><project/>", "second root");
        check(&format!("<project>{}", "<x>".repeat(5000)), "more than 32 deep");
    }

    #[test]
    fn entities_and_other_files_are_refused() {
        fn check(text: &str, expect: &str) {
            let found = nodes(text).unwrap_err();
            assert!(found.contains(expect), "{text:?}: {found}");
        }
        check(
            "<!DOCTYPE p [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><project><node name=\"&x;\"/></project>",
            "a DOCTYPE is not accepted",
        );
        check("<project><node name=\"&x;\"/></project>", "line 1");
        check(
            "<project><node name=\"a\"><attribute name=\"b\">&x;</attribute></node></project>",
            "the entity &x; is not known",
        );
    }
}
