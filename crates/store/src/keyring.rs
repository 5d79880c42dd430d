//! The server's own two secrets: the key that seals provider credentials, and the pepper of keyed hashes.
//!
//! Each carries an id, so that two can live side by side during a rotation. A check value of each is kept in the
//! database, so that a wrong one is refused at start and not at first use.

use domain::secret::{SecretBytes, SecretText};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Database, StoreError};

/// What a key is for. Each purpose has keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Sealing provider credentials at rest.
    Encryption,
    /// Hashing virtual keys and operator tokens.
    Pepper,
}

impl Purpose {
    /// As stored, and as used in environment names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encryption => "encryption",
            Self::Pepper => "pepper",
        }
    }
}

/// A 256-bit secret with its id.
#[derive(Debug, Clone)]
pub struct ServerKey {
    id: String,
    secret: SecretBytes,
    /// HMAC that has taken in the secret: half of the work for a short message.
    mac: Hmac<Sha256>,
}

/// The text is not a server key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: expected `<id>:<64 hexadecimal digits>`, where id is 1 to 32 of a-z, 0-9, `-`, `_`")]
pub struct InvalidServerKey;

impl ServerKey {
    /// A new random key with an id made from its first use.
    pub fn generate() -> Self {
        let secret: [u8; 32] = rand::random();
        let id: [u8; 4] = rand::random();
        Self::new(format!("k{}", hex::encode(id)), SecretBytes::new(secret.to_vec()))
    }

    fn new(id: String, secret: SecretBytes) -> Self {
        // a key that is shorter than a block of SHA-256 is followed by zeros (RFC 2104, section 2)
        let mut block = Zeroizing::new([0; 64]);
        for (place, byte) in block.iter_mut().zip(secret.expose()) {
            *place = *byte;
        }
        let mac = <Hmac<Sha256> as KeyInit>::new(&(*block).into());
        Self { id, secret, mac }
    }

    /// Reads the text form `<id>:<64 hexadecimal digits>`.
    ///
    /// # Errors
    /// [`InvalidServerKey`] for anything else.
    pub fn parse(text: &SecretText) -> Result<Self, InvalidServerKey> {
        let (id, digits) = text.expose().trim().split_once(':').ok_or(InvalidServerKey)?;
        let id_ok = (1..=32).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        let secret = hex::decode(digits).map_err(|_| InvalidServerKey)?;
        if !id_ok || secret.len() != 32 {
            return Err(InvalidServerKey);
        }
        Ok(Self::new(id.to_owned(), SecretBytes::new(secret)))
    }

    /// The text form, to be kept in a file that only the owner may read.
    pub fn to_text(&self) -> SecretText {
        SecretText::new(format!("{}:{}", self.id, hex::encode(self.secret.expose())))
    }

    /// The id, which is not secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn secret(&self) -> &[u8] {
        self.secret.expose()
    }

    /// HMAC-SHA256 (RFC 2104) of a message under this key.
    pub fn hmac(&self, message: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

/// The keys that a server runs with.
#[derive(Debug, Clone)]
pub struct Keyring {
    /// Seals provider credentials.
    pub encryption: ServerKey,
    /// Hashes virtual keys and operator tokens.
    pub pepper: ServerKey,
}

impl Keyring {
    /// Compares each key with what the database remembers of it, and remembers it on first use.
    ///
    /// # Errors
    /// [`StoreError::Settings`] when a key has the id of a known one and another value, or when the database was
    /// made with keys of other ids.
    pub async fn verify(&self, database: &Database) -> Result<(), StoreError> {
        let tx = database.begin().await?;
        for (purpose, key) in [(Purpose::Encryption, &self.encryption), (Purpose::Pepper, &self.pepper)] {
            verify_one(&tx, purpose, key).await?;
        }
        tx.commit().await
    }
}

async fn verify_one(tx: &crate::Tx, purpose: Purpose, key: &ServerKey) -> Result<(), StoreError> {
    let expected = hex::encode(key.hmac(format!("truerelay check value: {}", purpose.as_str()).as_bytes()));
    let mut known = known_checks(tx, purpose).await?;
    if known.is_empty() {
        // nodes may start together on a new database: the first key counts, and the others are compared with it
        tx.execute(
            "INSERT INTO key_check (purpose, key_id, check_value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            vec![purpose.as_str().into(), key.id().into(), expected.clone().into()],
        )
        .await?;
        known = known_checks(tx, purpose).await?;
    }
    match known.iter().find(|(id, _)| id == key.id()) {
        Some((_, check)) if *check == expected => Ok(()),
        Some((id, _)) => Err(wrong_key(purpose, id)),
        None => Err(unknown_key(purpose, key.id(), known.iter().map(|(id, _)| id.as_str()))),
    }
}

/// The ids of the keys that the database knows, each with its check value.
async fn known_checks(tx: &crate::Tx, purpose: Purpose) -> Result<Vec<(String, String)>, StoreError> {
    let rows = tx
        .query(
            "SELECT key_id, check_value FROM key_check WHERE purpose = $1",
            vec![purpose.as_str().into()],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("", "key_id")?, row.try_get("", "check_value")?)))
        .collect()
}

fn wrong_key(purpose: Purpose, id: &str) -> StoreError {
    StoreError::Settings(format!(
        "the {} key `{id}` is not the one that this database was made with: give the original key",
        purpose.as_str()
    ))
}

fn unknown_key<'a>(purpose: Purpose, id: &str, known: impl Iterator<Item = &'a str>) -> StoreError {
    StoreError::Settings(format!(
        "the {} key has the id `{id}`, but this database was made with `{}`: give the original key",
        purpose.as_str(),
        known.collect::<Vec<_>>().join("`, `")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_that_of_the_bare_secret() {
        for _ in 0..20 {
            let key = ServerKey::generate();
            let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.secret()).unwrap();
            mac.update(b"sk-tr-something");
            let expected: [u8; 32] = mac.finalize().into_bytes().into();
            assert_eq!(key.hmac(b"sk-tr-something"), expected);
            assert_eq!(
                ServerKey::parse(&key.to_text()).unwrap().hmac(b"sk-tr-something"),
                expected
            );
        }
    }
}
