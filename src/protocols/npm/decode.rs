//! Decoders that are fed in pieces: base64 and gzip.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::write::GzDecoder;

use crate::core::error::{Error, Result};

/// Strict base64, fed in pieces: no white space, padding where it belongs.
#[derive(Default)]
pub(crate) struct Base64 {
    carry: Vec<u8>,
    padded: bool,
}

impl Base64 {
    /// Takes the next characters; what they stand for is added to `decoded`.
    pub(crate) fn push(&mut self, mut data: &[u8], decoded: &mut Vec<u8>) -> Result<()> {
        if self.padded && !data.is_empty() {
            return Err(not_base64());
        }
        if !self.carry.is_empty() {
            let (front, rest) = data.split_at(data.len().min(4 - self.carry.len()));
            self.carry.extend_from_slice(front);
            data = rest;
            if self.carry.len() < 4 {
                return Ok(());
            }
            let quad = std::mem::take(&mut self.carry);
            self.whole(&quad, decoded)?;
            if self.padded && !data.is_empty() {
                return Err(not_base64());
            }
        }
        let (whole, rest) = data.split_at(data.len() / 4 * 4);
        self.whole(whole, decoded)?;
        if self.padded && !rest.is_empty() {
            return Err(not_base64());
        }
        self.carry.extend_from_slice(rest);
        Ok(())
    }

    fn whole(&mut self, quads: &[u8], decoded: &mut Vec<u8>) -> Result<()> {
        self.padded |= quads.last() == Some(&b'=');
        STANDARD.decode_vec(quads, decoded).map_err(|_| not_base64())
    }

    /// The text is over.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.carry.is_empty() { Ok(()) } else { Err(not_base64()) }
    }
}

/// 400 for what is no base64.
pub(crate) fn not_base64() -> Error {
    Error::invalid(
        "the attachment's data is no base64: only the standard alphabet with padding, without line breaks",
    )
}

/// Undoes `Content-Encoding: gzip` of a request, fed in pieces.
pub(crate) struct Gunzip(GzDecoder<Vec<u8>>);

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self(GzDecoder::new(Vec::new()))
    }

    /// What comes out of the next bytes. A byte gives a thousand at most, so feed small pieces.
    pub(crate) fn feed(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        self.0.write_all(data).map_err(bad_gzip)?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    /// What was still inside.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        self.0.finish().map_err(bad_gzip)
    }
}

fn bad_gzip(error: std::io::Error) -> Error {
    Error::invalid("the body says Content-Encoding: gzip and is no complete gzip").with_source(error)
}
