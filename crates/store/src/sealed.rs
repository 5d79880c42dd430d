//! Secrets at rest: AES-256-GCM under a data key of their own, which is itself sealed by the server's key.
//!
//! The text names the server key's id, so a rotation only rewraps data keys; the place where a secret belongs is
//! authenticated with it, so a row that was swapped with another does not open.

use aes_gcm::{
    Aes256Gcm, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use domain::secret::SecretText;
use zeroize::Zeroizing;

use crate::{StoreError, keyring::ServerKey};

const NONCE_BYTES: usize = 12;
const VERSION: &str = "v1";

/// Seals a secret for one place, such as `credential:<id>`.
///
/// # Errors
/// Only when the cipher refuses, which it does for texts beyond its limits.
pub fn seal(key: &ServerKey, place: &str, secret: &SecretText) -> Result<String, StoreError> {
    let data_key = Zeroizing::new(rand::random::<[u8; 32]>());
    let wrapped = encrypt(key.secret(), place, data_key.as_ref())?;
    let body = encrypt(data_key.as_ref(), place, secret.expose().as_bytes())?;
    Ok(format!(
        "{VERSION}.{}.{}.{}",
        key.id(),
        STANDARD_NO_PAD.encode(wrapped),
        STANDARD_NO_PAD.encode(body)
    ))
}

/// Opens what [`seal`] made for the same place.
///
/// # Errors
/// [`StoreError::Settings`] when another key sealed it, [`StoreError::Damaged`] when it was altered or belongs
/// elsewhere.
pub fn open(key: &ServerKey, place: &str, sealed: &str) -> Result<SecretText, StoreError> {
    let damaged = || StoreError::damaged(format!("sealed secret of {place}"));
    let mut parts = sealed.split('.');
    let (Some(VERSION), Some(id), Some(wrapped), Some(body), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(damaged());
    };
    if id != key.id() {
        return Err(StoreError::Settings(format!(
            "the secret of {place} was sealed with the encryption key `{id}`, not `{}`",
            key.id()
        )));
    }
    let decode = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| damaged());
    let data_key = decrypt(key.secret(), place, &decode(wrapped)?).ok_or_else(damaged)?;
    let secret = decrypt(&data_key, place, &decode(body)?).ok_or_else(damaged)?;
    let text = std::str::from_utf8(&secret).map_err(|_| damaged())?;
    Ok(SecretText::new(text.to_owned()))
}

fn cipher(key: &[u8]) -> Option<Aes256Gcm> {
    Key::<Aes256Gcm>::try_from(key).ok().map(|key| Aes256Gcm::new(&key))
}

fn encrypt(key: &[u8], place: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    let refused = || StoreError::Settings("the secret cannot be sealed".to_owned());
    let nonce_bytes: [u8; NONCE_BYTES] = rand::random();
    let nonce = Nonce::from(nonce_bytes);
    let payload = Payload {
        msg: plain,
        aad: place.as_bytes(),
    };
    let sealed = cipher(key)
        .ok_or_else(refused)?
        .encrypt(&nonce, payload)
        .map_err(|_| refused())?;
    Ok([nonce_bytes.as_slice(), &sealed].concat())
}

fn decrypt(key: &[u8], place: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload {
        msg: body,
        aad: place.as_bytes(),
    };
    cipher(key)?
        .decrypt(&Nonce::from(*nonce), payload)
        .ok()
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_its_key_and_in_its_place() {
        let key = ServerKey::generate();
        let secret = SecretText::new("sk-provider-secret".to_owned());
        let sealed = seal(&key, "credential:a", &secret).unwrap();
        assert!(!sealed.contains("provider"));
        assert_eq!(open(&key, "credential:a", &sealed).unwrap().expose(), secret.expose());
        assert!(matches!(
            open(&key, "credential:b", &sealed),
            Err(StoreError::Damaged(_))
        ));
        assert!(matches!(
            open(&ServerKey::generate(), "credential:a", &sealed),
            Err(StoreError::Settings(_))
        ));
        let flipped = sealed.replacen("v1.", "v2.", 1);
        assert!(matches!(
            open(&key, "credential:a", &flipped),
            Err(StoreError::Damaged(_))
        ));
    }
}
