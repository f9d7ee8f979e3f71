//! A line of a log's file.

use std::io::{self, Write as _};

use remit_protocol::{AttemptId, report::LogEntry};

use super::LogError;
use crate::execution::log::Cut;

/// Longest line in a file: an entry of the protocol's largest text, with its fields.
pub(super) const MAX_LINE: u64 = 1 << 20;

/// How a cut is marked, before the JSON of what stands for it.
const CUTS: [(&str, Cut); 2] = [("cut-log ", Cut::Log), ("cut-node ", Cut::Node)];

/// `crc32c attempt number json\n`: readable with a pager, and a torn line is known for what it is.
pub(super) fn write_line(
    lines: &mut Vec<u8>,
    attempt: AttemptId,
    number: u64,
    cut: Option<Cut>,
    entry: &LogEntry,
) -> Result<(), LogError> {
    let mark = CUTS.iter().find(|(_, known)| Some(*known) == cut).map_or("", |(mark, _)| mark);
    let mut body = format!("{attempt} {number} {mark}").into_bytes();
    serde_json::to_writer(&mut body, entry).map_err(io::Error::other)?;
    write!(lines, "{:08x} ", crc32c::crc32c(&body))?;
    lines.extend_from_slice(&body);
    lines.push(b'\n');
    Ok(())
}

/// A line of a file.
pub(super) struct Parsed<'a> {
    pub(super) attempt: AttemptId,
    /// Which entry of the attempt it is.
    pub(super) number: u64,
    pub(super) cut: Option<Cut>,
    /// The entry.
    pub(super) json: &'a str,
}

pub(super) fn parse_line(line: &[u8]) -> Option<Parsed<'_>> {
    let body = line.strip_suffix(b"\n")?.get(9..)?;
    let sum = std::str::from_utf8(line.get(..8)?).ok()?;
    if u32::from_str_radix(sum, 16).ok()? != crc32c::crc32c(body) {
        return None;
    }
    let mut parts = std::str::from_utf8(body).ok()?.splitn(3, ' ');
    let (attempt, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let entry = parts.next()?;
    let cut = CUTS.iter().find_map(|(mark, cut)| Some((*cut, entry.strip_prefix(mark)?)));
    let (cut, json) = cut.map_or((None, entry), |(cut, json)| (Some(cut), json));
    Some(Parsed { attempt, number, cut, json })
}
