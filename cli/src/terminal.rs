//! The terminal of the person who runs this, for what is not to be shown while it is typed.

use std::{
    fs::File,
    io::{self, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Fewest bytes of a line that may have been cut: a terminal keeps 4,095 of a line and drops the rest without a word.
pub(crate) const CUT: usize = 4095;
/// What Ctrl-C types where it is no signal.
const INTERRUPT: u8 = 0x03;

/// Why nothing was typed.
#[derive(Debug)]
pub(crate) enum NotTyped {
    /// There is no terminal.
    NoTerminal,
    /// The person gave up, or the terminal is gone.
    Nothing,
    /// The line has [`CUT`] bytes or more.
    Cut,
    /// The terminal cannot be used.
    Failed(io::Error),
}

impl From<io::Error> for NotTyped {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Asks for a line and does not show it. It comes without its end.
pub(crate) fn ask_hidden(prompt: &str) -> Result<Zeroizing<Vec<u8>>, NotTyped> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let terminal = terminal.map_err(|_| NotTyped::NoTerminal)?;
    let _hidden = Hidden::begin(&terminal)?;
    let mut screen = &terminal;
    write!(screen, "{prompt}: ")?;
    screen.flush()?;
    line(&terminal)
}

/// One line. Its place in memory is taken once, so that no copy stays behind.
fn line(mut typed: impl io::Read) -> Result<Zeroizing<Vec<u8>>, NotTyped> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(CUT));
    let mut byte = Zeroizing::new([0]);
    loop {
        match (typed.read(byte.as_mut_slice())?, byte[0]) {
            (0, _) | (_, INTERRUPT) => return Err(NotTyped::Nothing),
            (_, b'\n') if bytes.len() >= CUT => return Err(NotTyped::Cut),
            (_, b'\n') => return Ok(bytes),
            (_, byte) if bytes.len() < CUT => bytes.push(byte),
            _ => {}
        }
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Hidden<'t> {
    fn begin(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        // Without the signals of the keyboard: nothing ends this program while its terminal hides what is typed.
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        hidden.local_modes |= LocalModes::ECHONL;
        // Ctrl-C ends the line in place of the program, and is seen at its end.
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_stands_before_its_end() {
        let found = |bytes: &[u8]| line(bytes).map(|line| line.to_vec());
        assert_eq!(found(b"correct horse\nbattery\n").unwrap(), b"correct horse");
        assert!(matches!(found(b"correct horse"), Err(NotTyped::Nothing)));
        assert!(matches!(found(b"correct\x03"), Err(NotTyped::Nothing)));
        let long = |length: usize| [vec![b'x'; length], b"\n".to_vec()].concat();
        assert_eq!(found(&long(CUT - 1)).unwrap().len(), CUT - 1);
        assert!(matches!(found(&long(CUT)), Err(NotTyped::Cut)));
        assert!(matches!(found(&long(100_000)), Err(NotTyped::Cut)));
    }
}
