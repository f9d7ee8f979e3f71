//! Server-sent events, as the HTML standard frames them.

use futures_util::StreamExt as _;

/// One event.
pub(crate) struct Event {
    /// Where to go on after it.
    pub(crate) id: Option<String>,
    /// Its text.
    pub(crate) data: String,
}

/// The events of one answer, until it ends or is cut.
pub(crate) struct Events {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>>>>,
    buffer: Vec<u8>,
}

/// Longest event that is kept.
const LONGEST: usize = 8 << 20;

impl Events {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { body: Box::pin(response.bytes_stream()), buffer: Vec::new() }
    }

    /// The next event; `None` when the stream ends or breaks.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(&String::from_utf8_lossy(&block)) {
                    return Some(event);
                }
                continue;
            }
            if self.buffer.len() > LONGEST {
                return None;
            }
            let chunk = self.body.next().await?.ok()?;
            self.buffer.extend(chunk.iter().filter(|byte| **byte != b'\r'));
        }
    }
}

/// An event from its lines; `None` for comments.
fn parse(block: &str) -> Option<Event> {
    let mut id = None;
    let mut data = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => id = Some(value.to_owned()),
            "data" => data.push(value),
            _ => {}
        }
    }
    (!data.is_empty()).then(|| Event { id, data: data.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_framed_by_empty_lines() {
        let event = parse("id: 3-4\nevent: x\ndata: {\"a\":\ndata: 1}\n\n").unwrap();
        assert_eq!((event.id.as_deref(), event.data.as_str()), (Some("3-4"), "{\"a\":\n1}"));
        assert!(parse(": comment\n\n").is_none());
    }
}
