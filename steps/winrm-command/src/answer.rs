//! What WinRM answers: identifiers, pieces of output, the command's end, a fault.

use base64::Engine as _;
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

/// An answer, as far as it is of use.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) shell: Option<String>,
    pub(crate) command: Option<String>,
    /// Whether it is from standard error, and the bytes.
    pub(crate) output: Vec<(bool, Vec<u8>)>,
    pub(crate) done: bool,
    pub(crate) exit_code: Option<i32>,
    pub(crate) fault: Option<Fault>,
}

/// Why something was not done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Fault {
    /// True if the question was held as long as it may be: `ERROR_WSMAN_OPERATION_TIMEDOUT`.
    pub(crate) fn is_timeout(&self) -> bool {
        self.code == "2150858793"
    }
}

/// Elements stand in one another at most so deep.
const MAX_DEPTH: usize = 64;

impl Answer {
    /// Reads an envelope.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        let mut answer = Self::default();
        let mut open: Vec<(String, bool)> = Vec::new();
        let mut inside = String::new();
        let mut envelope = false;
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(start) => {
                    let name = local(start.name().as_ref());
                    envelope |= name == "Envelope" && open.is_empty();
                    if open.len() >= MAX_DEPTH {
                        return Err("its elements stand too deep".to_owned());
                    }
                    let error = answer.begin(&name, &start)?;
                    open.push((name, error));
                    inside.clear();
                }
                Event::End(_) => {
                    if let Some((name, error)) = open.pop() {
                        answer.end(&name, error, &inside)?;
                    }
                    inside.clear();
                }
                Event::Text(piece) => inside.push_str(&piece),
                Event::CData(piece) => inside.push_str(&piece),
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().map_err(|error| error.to_string())?;
                    inside.push(match (character, &*reference) {
                        (Some(character), _) => character,
                        (None, "lt") => '<',
                        (None, "gt") => '>',
                        (None, "amp") => '&',
                        (None, "quot") => '"',
                        (None, "apos") => '\'',
                        (None, other) => return Err(format!("the entity &{other}; is not known")),
                    });
                }
                Event::DocType(_) => return Err("it holds a DOCTYPE".to_owned()),
                Event::Eof => break,
                _ => {}
            }
        }
        if envelope { Ok(answer) } else { Err("it is no SOAP envelope".to_owned()) }
    }

    /// Takes in what an element says by itself; gives whether it is a piece of standard error.
    fn begin(&mut self, name: &str, start: &BytesStart<'_>) -> Result<bool, String> {
        match name {
            "Stream" => Ok(attribute(start, "Name")?.as_deref() == Some("stderr")),
            "CommandState" => {
                self.done |=
                    attribute(start, "State")?.is_some_and(|state| state.ends_with("CommandState/Done"));
                Ok(false)
            }
            "WSManFault" => {
                let code = attribute(start, "Code")?.unwrap_or_default();
                self.fault.get_or_insert_default().code = code;
                Ok(false)
            }
            "Fault" => {
                self.fault.get_or_insert_default();
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn end(&mut self, name: &str, error: bool, text: &str) -> Result<(), String> {
        let text = text.trim();
        match name {
            "ShellId" => self.shell = Some(text.to_owned()),
            // The attribute of this name stands on other elements.
            "CommandId" => self.command = Some(text.to_owned()),
            "ExitCode" => {
                let code = text.parse::<i64>().ok();
                self.exit_code = code.map(|code| i32::try_from(code).unwrap_or(-1));
            }
            "Stream" if !text.is_empty() => {
                let compact: String = text.split_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD.decode(compact);
                self.output.push((
                    error,
                    bytes.map_err(|error| format!("a piece of output is no base64: {error}"))?,
                ));
            }
            "Text" | "Message" if !text.is_empty() => {
                if let Some(fault) = &mut self.fault {
                    // The detail's message says more than the reason before it.
                    fault.message = text.chars().take(500).collect();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn local(name: &str) -> String {
    name.rsplit_once(':').map_or(name, |(_, local)| local).to_owned()
}

fn attribute(start: &BytesStart<'_>, wanted: &str) -> Result<Option<String>, String> {
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attribute.key.as_ref() == wanted {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            return value.map(|value| Some(value.into_owned())).map_err(|error| error.to_string());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_is_refused() {
        fn check(text: &str, expect: &str) {
            let found = Answer::read(text).unwrap_err();
            assert!(found.contains(expect), "{text:?}: {found}");
        }
        check("", "it is no SOAP envelope");
        check("<html><body>login</body></html>", "it is no SOAP envelope");
        check("<!DOCTYPE x [<!ENTITY a \"b\">]><Envelope/>", "it holds a DOCTYPE");
        check("<s:Envelope>&a;</s:Envelope>", "the entity &a; is not known");
        check("<s:Envelope><Stream>!</Stream></s:Envelope>", "no base64");
        check(&format!("<s:Envelope>{}", "<a>".repeat(100)), "stand too deep");
    }
}
