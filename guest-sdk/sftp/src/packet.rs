//! Packets of SFTP version 3, after draft-ietf-secsh-filexfer-02: a length, a kind, and fields.

/// A packet that is being written.
#[derive(Debug, Default)]
pub(crate) struct Packet(Vec<u8>);

impl Packet {
    pub(crate) fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub(crate) fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut longer = self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        longer.0.extend(bytes);
        longer
    }

    /// With its length before it.
    pub(crate) fn finish(self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes(), self.0.as_slice()].concat()
    }
}

/// The fields of a packet that came.
#[derive(Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn kind(&mut self) -> Option<u8> {
        self.take::<1>().map(|[kind]| kind)
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let packet = Packet::new(3).number(7).bytes(b"/a").long(1 << 40).finish();
        assert_eq!(packet.get(..5), Some([0, 0, 0, 19, 3].as_slice()));
        let mut fields = Fields::new(&packet[4..]);
        assert_eq!(
            (fields.kind(), fields.number(), fields.bytes()),
            (Some(3), Some(7), Some(b"/a".as_slice()))
        );
        assert_eq!((fields.long(), fields.kind()), (Some(1 << 40), None));
    }

    #[test]
    fn a_field_that_is_longer_than_its_packet_is_none() {
        let mut fields = Fields::new(&[0, 0, 0, 9, 1, 2]);
        assert_eq!(fields.bytes(), None);
    }
}
