//! A key pair for ECDSA on P-256 with SHA-256: made, read, signing. The public half comes as `SubjectPublicKeyInfo`, as OpenSSL has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use sha2::{Digest as _, Sha256};

use super::error::{Error, Result};
use super::secret::Secret;

/// What stands before the point in a `SubjectPublicKeyInfo` of this curve: the algorithm and the curve by their object identifiers.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A key pair.
pub struct KeyPairP256 {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    spki: Vec<u8>,
}

impl KeyPairP256 {
    /// A new one, as the text that [`Self::from_base64`] reads: PKCS#8 in base64.
    pub fn generate() -> Result<Secret> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map(|document| Secret::new(STANDARD.encode(document.as_ref())))
            .map_err(|_| Error::internal("the system gave no random bytes for a key"))
    }

    /// From PKCS#8 in base64.
    pub fn from_base64(text: &Secret) -> Result<Self> {
        let der =
            STANDARD.decode(text.expose()).map_err(|_| Error::invalid("the private key is no base64"))?;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &random)
            .map_err(|_| Error::invalid("the private key is no PKCS#8 key for ECDSA on P-256"))?;
        let spki = [&SPKI_HEAD, pair.public_key().as_ref()].concat();
        Ok(Self { pair, random, spki })
    }

    /// From a PEM file (`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`).
    pub fn from_pem(text: &Secret) -> Result<Self> {
        let inside = text.expose().split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let (inside, _) =
            inside.ok_or_else(|| Error::invalid(format!("the private key has no `{BEGIN}`")))?;
        Self::from_base64(&Secret::new(inside.split_ascii_whitespace().collect::<String>()))
    }

    /// The public half, DER.
    pub fn public_key(&self) -> &[u8] {
        &self.spki
    }

    /// `SHA256:` and the base64 of the public half's hash.
    pub fn id(&self) -> String {
        format!("SHA256:{}", STANDARD.encode(Sha256::digest(&self.spki)))
    }

    /// The signature of a text, DER.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        self.pair
            .sign(&self.random, text)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| Error::internal("the system gave no random bytes for a signature"))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;

    /// Made by OpenSSL, for this test alone.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjo+YtQooiEANIyFu
gsIGu1mw2Pb5WIx+cDlKXinF27WhRANCAASTKUnp9WVrytH9RyN+6hRA/AV30EF6
EfGqAJpQE6XaTvpFZKLFcie3vzoAPKyfGv1+oCjH6xK/ofyZxrBkuwon
-----END PRIVATE KEY-----
";

    fn checks(key: &KeyPairP256) {
        let signature = key.sign(b"widget@1.0.0:sha512-x").unwrap();
        let point = key.public_key().strip_prefix(&SPKI_HEAD[..]).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        public.verify(b"widget@1.0.0:sha512-x", &signature).unwrap();
        assert!(public.verify(b"widget@1.0.1:sha512-x", &signature).is_err());
    }

    #[test]
    fn own_keys_and_those_of_openssl_sign() {
        checks(&KeyPairP256::from_base64(&KeyPairP256::generate().unwrap()).unwrap());
        let key = KeyPairP256::from_pem(&Secret::new(PEM)).unwrap();
        checks(&key);
        assert_eq!(key.id(), "SHA256:a0BHisGtj1Ijj3WRTIgkh8UcjF1xTv6C/NwazSScFtw=");
    }

    #[test]
    fn what_is_no_such_key_is_refused() {
        for bad in [
            "",
            "x",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----",
        ] {
            assert!(KeyPairP256::from_pem(&Secret::new(bad)).is_err(), "{bad}");
        }
        assert!(KeyPairP256::from_base64(&Secret::new("!")).is_err());
    }
}
