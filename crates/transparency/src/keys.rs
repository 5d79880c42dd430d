//! Keys: Ed25519 (RFC 8032). A key is named by the beginning of its hash, so that no two have the same name.

use std::fmt;

use domain::secret::SecretText;
use ed25519_dalek::{
    Signature, Signer, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::head::{Head, SignedHead};

/// Why a text is no signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no Ed25519 key in PKCS #8 PEM: make one with `openssl genpkey -algorithm ed25519`")]
pub struct KeyError;

/// The key that signs heads.
#[derive(Clone)]
pub struct LogKey {
    secret: SigningKey,
    id: String,
}

impl LogKey {
    /// From PKCS #8 in PEM.
    ///
    /// # Errors
    /// [`KeyError`] for anything else.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(text.trim())
            .map(Self::of)
            .map_err(|_| KeyError)
    }

    /// From the 32 bytes of RFC 8032, which must be random.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::of(SigningKey::from_bytes(seed))
    }

    /// As PKCS #8 in PEM: a secret.
    ///
    /// # Errors
    /// [`KeyError`] when it cannot be written, which no key causes.
    pub fn to_pem(&self) -> Result<SecretText, KeyError> {
        let pem = self.secret.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError)?;
        Ok(SecretText::new(pem.as_str().to_owned()))
    }

    fn of(secret: SigningKey) -> Self {
        let id = key_id(secret.verifying_key().as_bytes());
        Self { secret, id }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.secret.verifying_key().to_bytes()
    }

    /// Signs a head. The same head gets the same signature.
    pub fn sign(&self, head: &Head) -> [u8; 64] {
        self.secret.sign(head.to_text().as_bytes()).to_bytes()
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({})", self.id)
    }
}

/// The name of a public key: the first 16 bytes of its SHA-256 in hexadecimal digits.
pub fn key_id(public: &[u8; 32]) -> String {
    let digest: [u8; 32] = Sha256::digest(public).into();
    hex::encode(digest.first_chunk::<16>().unwrap_or(&[0; 16]))
}

/// A public key of the log, as it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedKey {
    /// Its name: [`key_id`].
    pub id: String,
    /// Always `Ed25519`.
    pub algorithm: String,
    /// 32 bytes in hexadecimal digits.
    pub public_key: String,
    /// Since when it signs.
    pub not_before_ms: i64,
    /// From when on no head of its counts; `None` while it is in use.
    pub retired_at_ms: Option<i64>,
}

/// All keys that ever signed, as they are published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// The newest first.
    pub keys: Vec<PublishedKey>,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// Nobody published such a key.
    #[error("the key {0} is not among the published keys")]
    UnknownKey(String),
    /// The published key is not what its name says.
    #[error("the published key {0} is malformed, or is not the one of that name")]
    WrongKey(String),
    /// The key had been retired when the head was made.
    #[error("the key {key} was retired at {retired_at_ms} ms, and the head is of {at_ms} ms")]
    Retired {
        /// Which key.
        key: String,
        /// From when on it does not count.
        retired_at_ms: i64,
        /// The instant of the head.
        at_ms: i64,
    },
    /// The signature is not of this head by this key.
    #[error("the signature is not of this head by the key {0}")]
    Forged(String),
}

impl KeyList {
    /// Checks the signature of a head.
    ///
    /// # Errors
    /// [`SignatureFault`].
    pub fn check(&self, signed: &SignedHead) -> Result<(), SignatureFault> {
        let found = self.keys.iter().find(|key| key.id == signed.key);
        let key = found.ok_or_else(|| SignatureFault::UnknownKey(signed.key.clone()))?;
        let wrong = || SignatureFault::WrongKey(key.id.clone());
        let public: [u8; 32] = bytes(&key.public_key).ok_or_else(wrong)?;
        if key_id(&public) != key.id {
            return Err(wrong());
        }
        let verifying = VerifyingKey::from_bytes(&public).map_err(|_| wrong())?;
        let forged = || SignatureFault::Forged(key.id.clone());
        let signature: [u8; 64] = bytes(&signed.signature).ok_or_else(forged)?;
        // strict: nobody can make a second signature of the same head, or a key for which any signature holds
        verifying
            .verify_strict(signed.head.to_text().as_bytes(), &Signature::from_bytes(&signature))
            .map_err(|_| forged())?;
        match key.retired_at_ms {
            Some(retired_at_ms) if signed.head.at_ms >= retired_at_ms => Err(SignatureFault::Retired {
                key: key.id.clone(),
                retired_at_ms,
                at_ms: signed.head.at_ms,
            }),
            _ => Ok(()),
        }
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}
