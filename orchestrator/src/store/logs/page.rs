//! Pages of a log, found by the marks of its index.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use super::{
    LogFilter, LogLine, LogPage, index_of,
    line::{MAX_LINE, Parsed, parse_line},
};

/// Bytes that one page looks through at most.
const MAX_SCAN: u64 = 16 << 20;

/// The last mark of the index at or before entry `from`: its number, and where it stands in the file.
pub(super) fn find_mark(path: &Path, from: u64) -> io::Result<(u64, u64)> {
    let mut marks = Vec::new();
    match File::open(index_of(path)) {
        Ok(mut index) => index.read_to_end(&mut marks)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let marks: Vec<(u64, u64)> = marks
        .chunks_exact(16)
        .map(|mark| {
            let (number, offset) = mark.split_at(8);
            let read = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
            (read(number), read(offset))
        })
        // What does not grow was torn.
        .scan((0, None), |last: &mut (u64, Option<u64>), mark| {
            let grows = mark.0 > last.0 && last.1.is_none_or(|offset| mark.1 > offset);
            *last = (mark.0, Some(mark.1));
            grows.then_some(mark)
        })
        .collect();
    let before = marks.partition_point(|(number, _)| *number <= from);
    Ok(before.checked_sub(1).map_or((1, 0), |place| marks[place]))
}

pub(super) fn read_page(path: &Path, from: u64, limit: usize, filter: LogFilter) -> io::Result<LogPage> {
    let mut page = LogPage { next: from, end: true, ..LogPage::default() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(page),
        Err(error) => return Err(error),
    };
    let (mut number, offset) = find_mark(path, from)?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    let mut seen = 0;
    loop {
        line.clear();
        reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        // A line that is being written is not there yet.
        let Some(Parsed { attempt, cut, json, .. }) = parse_line(&line) else { break };
        if number >= from {
            if page.entries.len() >= limit || seen > MAX_SCAN {
                page.end = false;
                break;
            }
            page.next = number + 1;
            let line = LogLine { number, attempt, cut, entry: serde_json::from_str(json)? };
            if filter.wants(&line) {
                page.entries.push(line);
            }
            seen += json.len() as u64;
        }
        number += 1;
    }
    Ok(page)
}
