//! Output of containers as the daemon sends it: frames of eight bytes of header – which stream, and how many bytes – and those
//! bytes.

use remit_sdk::Fail;

/// Bytes of a header.
const HEADER: usize = 8;
/// Longest time before a piece, with the blank that follows: `2026-11-21T17:35:09.123456789Z `, or with a zone's offset.
const MAX_TIME: usize = 40;

/// Which stream a piece is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Takes frames apart, however they are cut. Nothing is held but a header and a time.
#[derive(Debug)]
pub struct Demux {
    timed: bool,
    /// A header, or the time before a piece, as far as it has come.
    begun: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Header,
    Time(Source, usize),
    Piece(Source, usize),
    /// Bytes that are not wanted.
    Unwanted(usize),
}

impl Demux {
    /// Of a stream without times.
    pub fn new() -> Self {
        Self { timed: false, begun: Vec::new(), state: State::Header }
    }

    /// Of a log that was asked for with `timestamps`: before each frame's bytes stands its time.
    pub fn with_times() -> Self {
        Self { timed: true, ..Self::new() }
    }

    /// Takes the next bytes; `time` hears of each frame's, and says whether the frame is wanted, `piece` has what is.
    ///
    /// # Errors
    /// They are no such frames.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        mut time: impl FnMut(Source, &str) -> bool,
        mut piece: impl FnMut(Source, &[u8]),
    ) -> Result<(), Fail> {
        while let Some((first, rest)) = bytes.split_first() {
            match self.state {
                State::Header => {
                    self.begun.push(*first);
                    bytes = rest;
                    if self.begun.len() == HEADER {
                        self.header()?;
                    }
                }
                State::Time(source, left) => {
                    bytes = rest;
                    if *first == b' ' {
                        let text = String::from_utf8_lossy(&self.begun).into_owned();
                        self.begun.clear();
                        self.state = match (left - 1, time(source, &text)) {
                            (0, _) => State::Header,
                            (left, true) => State::Piece(source, left),
                            (left, false) => State::Unwanted(left),
                        };
                    } else if left == 1 || self.begun.len() == MAX_TIME {
                        return Err(Fail::new("the daemon sent a line of its log without a time"));
                    } else {
                        self.begun.push(*first);
                        self.state = State::Time(source, left - 1);
                    }
                }
                State::Piece(source, left) => {
                    let (own, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    piece(source, own);
                    self.state = match left - own.len() {
                        0 => State::Header,
                        left => State::Piece(source, left),
                    };
                }
                State::Unwanted(left) => {
                    let (own, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    self.state = match left - own.len() {
                        0 => State::Header,
                        left => State::Unwanted(left),
                    };
                }
            }
        }
        Ok(())
    }

    /// True between two frames.
    pub fn is_whole(&self) -> bool {
        matches!(self.state, State::Header) && self.begun.is_empty()
    }

    fn header(&mut self) -> Result<(), Fail> {
        let odd = || {
            Fail::new(
                "the daemon sent no frames of output: a container with a terminal has one stream, without frames",
            )
        };
        let [stream, 0, 0, 0, length @ ..] = self.begun.as_slice() else { return Err(odd()) };
        let source = match stream {
            0 | 1 => Source::Output,
            2 => Source::Error,
            _ => return Err(odd()),
        };
        let length = length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        self.begun.clear();
        self.state = match (length, self.timed) {
            (0, _) => State::Header,
            (_, true) => State::Time(source, length),
            (_, false) => State::Piece(source, length),
        };
        Ok(())
    }
}

impl Default for Demux {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0][..], &length, text.as_bytes()].concat()
    }

    type Heard = Result<(String, String, Vec<String>), String>;

    fn read(bytes: &[u8], cut: usize, timed: bool) -> Heard {
        let mut demux = if timed { Demux::with_times() } else { Demux::new() };
        let (mut output, mut errors, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for part in bytes.chunks(cut) {
            let told = demux.push(
                part,
                |_, time| {
                    times.push(time.to_owned());
                    time != "skip"
                },
                |source, bytes| match source {
                    Source::Output => output.extend_from_slice(bytes),
                    Source::Error => errors.extend_from_slice(bytes),
                },
            );
            told.map_err(|fail| fail.to_string())?;
        }
        assert!(demux.is_whole());
        Ok((String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap(), times))
    }

    #[test]
    fn frames_are_taken_apart_however_they_are_cut() {
        let bytes =
            [frame(1, "out\n"), frame(2, "err\n"), frame(1, ""), frame(0, "more"), frame(2, "x")].concat();
        for cut in 1..=bytes.len() {
            let expect = ("out\nmore".to_owned(), "err\nx".to_owned(), Vec::new());
            assert_eq!(read(&bytes, cut, false), Ok(expect), "{cut}");
        }
    }

    #[test]
    fn times_stand_before_pieces_and_what_is_not_wanted_is_left_out() {
        let bytes =
            [frame(1, "t1 one two\n"), frame(2, "skip not this\n"), frame(1, "t3 "), frame(1, "t4 x")]
                .concat();
        for cut in 1..=bytes.len() {
            let times = ["t1", "skip", "t3", "t4"].map(str::to_owned).to_vec();
            assert_eq!(read(&bytes, cut, true), Ok(("one two\nx".to_owned(), String::new(), times)), "{cut}");
        }
    }

    #[test]
    fn what_are_no_frames_is_said() {
        fn check(bytes: &[u8], timed: bool, expect: &str) {
            assert!(read(bytes, 3, timed).unwrap_err().contains(expect), "{bytes:?}");
        }
        check(b"plain text", false, "no frames of output");
        check(&[3, 0, 0, 0, 0, 0, 0, 1, b'x'], false, "no frames of output");
        check(&frame(1, "withoutatime"), true, "without a time");
        check(&frame(1, &"x".repeat(100)), true, "without a time");
    }
}
