//! Digests: their grammar, and several algorithms in one pass over the bytes.

use std::fmt;

use digest::Digest as _;
use digest::common::hazmat::SerializableState as _;
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha512};

/// A hash function that some registry protocol names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5, 16 bytes: Maven sums, PyPI, compact index checksums. Never for security.
    Md5,
    /// SHA-1, 20 bytes: npm `shasum`, Maven sums. Never for security.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Name as it stands before the colon of an OCI digest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the digest in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A digest: algorithm and bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl Digest {
    /// Reads `sha256:<64 lower-case hex>` or `sha512:<128 lower-case hex>`, the two that OCI registers.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, hex) = text.split_once(':')?;
        let algorithm =
            [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|known| known.name() == name)?;
        Self::from_hex(algorithm, hex)
    }

    /// From lower-case hexadecimal of exactly the algorithm's length.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Option<Self> {
        let lower = hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !lower || hex.len() != algorithm.size() * 2 {
            return None;
        }
        hex::decode(hex).ok().map(|bytes| Self { algorithm, bytes })
    }

    /// Of bytes that are in memory and small; large ones go through [`Hasher`].
    pub fn of(algorithm: Algorithm, data: &[u8]) -> Self {
        let mut hasher = Hasher::new(&[algorithm]);
        hasher.update(data);
        let bytes = hasher.finish().digests.into_iter().next().map(|digest| digest.bytes).unwrap_or_default();
        Self { algorithm, bytes }
    }

    /// SHA-256 of bytes in memory.
    pub fn sha256(data: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, data)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lower-case hexadecimal.
    pub fn hex(&self) -> String {
        hex::encode(&self.bytes)
    }

    /// `sha512-<base64>`: subresource integrity, as npm writes it.
    pub fn integrity(&self) -> String {
        use base64::Engine as _;
        format!("{}-{}", self.algorithm.name(), base64::engine::general_purpose::STANDARD.encode(&self.bytes))
    }
}

/// `sha256:…`
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All digests of one pass, and how many bytes went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// Bytes hashed.
    pub length: u64,
    digests: Vec<Digest>,
}

impl Digests {
    /// The digest by `algorithm`, if it was asked for at the start.
    pub fn get(&self, algorithm: Algorithm) -> Option<&Digest> {
        self.digests.iter().find(|digest| digest.algorithm == algorithm)
    }
}

#[derive(Clone)]
enum Running {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

/// Runs several algorithms over the same bytes. Feed it on a blocking thread when there is much to hash.
#[derive(Clone)]
pub struct Hasher {
    length: u64,
    running: Vec<Running>,
}

impl Hasher {
    /// A hasher for the given algorithms; none is fine and only counts.
    pub fn new(algorithms: &[Algorithm]) -> Self {
        let running = algorithms
            .iter()
            .map(|algorithm| match algorithm {
                Algorithm::Md5 => Running::Md5(Md5::new()),
                Algorithm::Sha1 => Running::Sha1(Sha1::new()),
                Algorithm::Sha256 => Running::Sha256(Sha256::new()),
                Algorithm::Sha512 => Running::Sha512(Sha512::new()),
            })
            .collect();
        Self { length: 0, running }
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.length += data.len() as u64;
        for running in &mut self.running {
            match running {
                Running::Md5(state) => state.update(data),
                Running::Sha1(state) => state.update(data),
                Running::Sha256(state) => state.update(data),
                Running::Sha512(state) => state.update(data),
            }
        }
    }

    /// Bytes hashed so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digests.
    pub fn finish(self) -> Digests {
        let digests = self
            .running
            .into_iter()
            .map(|running| match running {
                Running::Md5(state) => Digest { algorithm: Algorithm::Md5, bytes: state.finalize().to_vec() },
                Running::Sha1(state) => {
                    Digest { algorithm: Algorithm::Sha1, bytes: state.finalize().to_vec() }
                }
                Running::Sha256(state) => {
                    Digest { algorithm: Algorithm::Sha256, bytes: state.finalize().to_vec() }
                }
                Running::Sha512(state) => {
                    Digest { algorithm: Algorithm::Sha512, bytes: state.finalize().to_vec() }
                }
            })
            .collect();
        Digests { length: self.length, digests }
    }

    /// The midstate, so that another process can go on hashing; only SHA-256 and SHA-512 can be saved.
    ///
    /// The form belongs to this version of the hash crate: [`Midstate::restore`] refuses another one's.
    pub fn save(&self) -> Midstate {
        let states = self
            .running
            .iter()
            .filter_map(|running| match running {
                Running::Sha256(state) => {
                    Some((Algorithm::Sha256.name().to_owned(), hex::encode(state.serialize())))
                }
                Running::Sha512(state) => {
                    Some((Algorithm::Sha512.name().to_owned(), hex::encode(state.serialize())))
                }
                Running::Md5(_) | Running::Sha1(_) => None,
            })
            .collect();
        Midstate { format: MIDSTATE_FORMAT.to_owned(), length: self.length, states }
    }
}

/// Names the layout of the saved states. Change it whenever `sha2` moves to another minor version.
const MIDSTATE_FORMAT: &str = "sha2-0.11";

/// A [`Hasher`] at rest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Midstate {
    format: String,
    length: u64,
    states: Vec<(String, String)>,
}

impl Midstate {
    /// The hasher again; `None` when another version saved it, and then the stored bytes must be read and hashed anew.
    pub fn restore(&self) -> Option<Hasher> {
        if self.format != MIDSTATE_FORMAT {
            return None;
        }
        let running = self
            .states
            .iter()
            .map(|(name, state)| {
                let bytes = hex::decode(state).ok()?;
                if name == Algorithm::Sha256.name() {
                    let state = bytes.as_slice().try_into().ok()?;
                    Sha256::deserialize(&state).ok().map(Running::Sha256)
                } else {
                    let state = bytes.as_slice().try_into().ok()?;
                    Sha512::deserialize(&state).ok().map(Running::Sha512)
                }
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Hasher { length: self.length, running })
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Digest, Hasher};

    #[test]
    fn grammar_is_strict() {
        let good = format!("sha256:{}", "0".repeat(64));
        assert_eq!(Digest::parse(&good).map(|digest| digest.to_string()), Some(good));
        for bad in ["sha256:baddigeststring", "md5:00000000000000000000000000000000", "sha256:", "sha256"] {
            assert!(Digest::parse(bad).is_none(), "{bad}");
        }
        assert!(Digest::parse(&format!("sha256:{}", "A".repeat(64))).is_none());
    }

    #[test]
    fn one_pass_many_digests() {
        let mut hasher = Hasher::new(&[Algorithm::Sha1, Algorithm::Sha512, Algorithm::Md5]);
        hasher.update(b"hello ");
        hasher.update(b"world");
        let digests = hasher.finish();
        assert_eq!(digests.length, 11);
        assert_eq!(digests.get(Algorithm::Sha1).unwrap().hex(), "2aae6c35c94fcfb415dbe95f408b9ce91ee846ed");
        assert_eq!(digests.get(Algorithm::Md5).unwrap().hex(), "5eb63bbbe01eeed093cb22bb8f5acdc3");
        assert!(digests.get(Algorithm::Sha512).unwrap().integrity().starts_with("sha512-MJ7MSJwS1utMxA9"));
        assert!(digests.get(Algorithm::Sha256).is_none());
    }

    #[test]
    fn a_saved_hasher_goes_on_where_it_stopped() {
        let mut hasher = Hasher::new(&[Algorithm::Sha256, Algorithm::Sha512]);
        hasher.update(&[7; 1000]);
        let mut other = hasher.save().restore().unwrap();
        other.update(&[8; 77]);
        hasher.update(&[8; 77]);
        assert_eq!(hasher.finish(), other.finish());
    }
}
