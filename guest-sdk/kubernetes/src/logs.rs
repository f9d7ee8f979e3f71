//! What a container has written.

use remit_sdk::{Fail, http, log};

use crate::{Cluster, Resource, send};

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct Lines<'a> {
    /// Of this container; none: of the pod's only one.
    pub container: Option<&'a str>,
    /// At most so many, the last ones.
    pub tail: u32,
    /// Only those of so many seconds.
    pub since: Option<u32>,
    /// Of the container that ran before the present one.
    pub previous: bool,
}

/// Longest line of the log; a longer one becomes several.
const LINE: usize = 16 << 10;

impl Cluster {
    /// Logs what a pod's container has written, a line each, and gives the last `keep` bytes of it.
    ///
    /// # Errors
    /// The server's.
    pub fn logs(&self, namespace: &str, pod: &str, lines: &Lines<'_>, keep: usize) -> Result<String, Fail> {
        let pods = Resource::known("v1", "pods", true);
        let mut url = self.address(&pods, Some(namespace), &[pod, "log"]).query("tailLines", lines.tail);
        if let Some(container) = lines.container {
            url = url.query("container", container);
        }
        if let Some(since) = lines.since {
            url = url.query("sinceSeconds", since);
        }
        if lines.previous {
            url = url.query("previous", true);
        }
        let mut answer = send(http::get(url))?;
        let (mut line, mut kept) = (Vec::new(), Vec::new());
        while let Some(bytes) = answer.chunk()? {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || line.len() >= LINE {
                    tell(pod, &mut line);
                }
            }
            kept.extend_from_slice(&bytes);
            let over = kept.len().saturating_sub(keep);
            kept.drain(..over);
        }
        tell(pod, &mut line);
        Ok(String::from_utf8_lossy(&kept).into_owned())
    }
}

fn tell(pod: &str, line: &mut Vec<u8>) {
    if !line.is_empty() {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        log::info!("{text}", pod = pod);
        line.clear();
    }
}
