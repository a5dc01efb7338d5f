//! An input taken apart: numbers and texts from its front.

/// What is left of an input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next byte; zero at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// The next eight bytes as a number.
    pub(crate) fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// The bytes up to the next line feed.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let at = self.0.iter().position(|byte| *byte == b'\n').unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(at);
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    /// The same as text; what is none becomes one.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.line()).into_owned()
    }

    /// All the rest.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// All the rest as text.
    pub(crate) fn rest_text(&mut self) -> String {
        String::from_utf8_lossy(self.rest()).into_owned()
    }
}

/// The same bytes in pieces: of one byte, of a few, of sizes that `seed` makes, and whole.
pub(crate) fn cuts(data: &[u8], seed: u8) -> [Vec<&[u8]>; 4] {
    let step = usize::from(seed) + 1;
    let mut uneven = Vec::new();
    let (mut rest, mut size) = (data, step);
    while !rest.is_empty() {
        let (front, back) = rest.split_at(size.min(rest.len()));
        uneven.push(front);
        (rest, size) = (back, size * 7 % 61 + 1);
    }
    // Byte by byte only what is short: the cost is that of the pieces.
    let small = if data.len() <= 4096 { 1 } else { 509 };
    [data.chunks(small).collect(), data.chunks(step).collect(), uneven, vec![data]]
}
