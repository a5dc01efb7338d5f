//! Archives read while they stream past, with bounds on everything a hostile one could blow up. Nothing is unpacked to anywhere.
//!
//! The readers are fed ([`TarGz::feed`]) instead of reading: a slow upload then holds no thread, and a piece of work has a known size.

mod tar;

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

pub use tar::{EntryKind, Take, TarEntry, TarReader, TarVisitor};

use super::error::{Error, Result};

/// Bounds of one archive.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveLimits {
    /// Bytes it may unpack to.
    pub unpacked: u64,
    /// Entries it may have.
    pub entries: u64,
    /// How many bytes may come out for each one that went in, once more than a MiB has come out.
    pub ratio: u64,
}

impl ArchiveLimits {
    /// The bounds for an archive that may unpack to `unpacked` bytes.
    pub const fn unpacked(unpacked: u64) -> Self {
        Self { unpacked, entries: 100_000, ratio: 1000 }
    }
}

/// A gzipped tar file, fed in pieces of any size. Several gzip members in a row count as one stream, as `gzip -d` takes them.
pub struct TarGz<V: TarVisitor> {
    decoder: MultiGzDecoder<Bounded<V>>,
    begun: bool,
}

impl<V: TarVisitor> TarGz<V> {
    /// A reader that shows what it finds to `visitor`.
    pub fn new(visitor: V, limits: ArchiveLimits) -> Self {
        let inner =
            Bounded { tar: TarReader::new(visitor, limits), limits, taken: 0, given: 0, failed: None };
        Self { decoder: MultiGzDecoder::new(inner), begun: false }
    }

    /// Takes the next bytes of the file. CPU-bound: feed large pieces on a blocking thread.
    ///
    /// # Errors
    /// 400 for what is no gzip or tar or breaks a rule of the visitor, 413 beyond a bound.
    pub fn feed(&mut self, data: &[u8]) -> Result<()> {
        self.begun |= !data.is_empty();
        // Small bites, so that the ratio is looked at often enough.
        for bite in data.chunks(4096) {
            self.decoder.get_mut().taken += bite.len() as u64;
            if let Err(error) = self.decoder.write_all(bite) {
                return Err(self.failure(error));
            }
        }
        Ok(())
    }

    /// The file is over: the visitor back, if everything was complete.
    ///
    /// # Errors
    /// 400 for a file that ends too early.
    pub fn finish(mut self) -> Result<V> {
        if !self.begun {
            return Err(Error::invalid("the tarball is empty"));
        }
        if let Err(error) = self.decoder.try_finish() {
            return Err(self.failure(error));
        }
        let inner = self.decoder.finish().map_err(|error| {
            Error::invalid("the tarball is no complete gzip file; upload it again").with_source(error)
        })?;
        inner.tar.finish()
    }

    fn failure(&mut self, error: io::Error) -> Error {
        self.decoder
            .get_mut()
            .failed
            .take()
            .unwrap_or_else(|| Error::invalid("the tarball is no valid gzip file").with_source(error))
    }
}

/// Where the unpacked bytes go: counts them, and carries our own error past the decoder's.
struct Bounded<V: TarVisitor> {
    tar: TarReader<V>,
    limits: ArchiveLimits,
    taken: u64,
    given: u64,
    failed: Option<Error>,
}

impl<V: TarVisitor> Write for Bounded<V> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.given += data.len() as u64;
        let outcome = if self.given > self.limits.unpacked {
            Err(Error::too_large("the unpacked tarball", self.limits.unpacked))
        } else if self.given > 1 << 20 && self.given / self.limits.ratio > self.taken {
            Err(Error::new(
                super::error::Kind::TooLarge,
                format!("the tarball unpacks to more than {} times its size", self.limits.ratio),
            ))
        } else {
            self.tar.feed(data)
        };
        match outcome {
            Ok(()) => Ok(data.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("refused"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
