//! The text form of virtual keys and operator tokens, and their keyed hash. Pure.
//!
//! `<prefix>` + 32 random base62 digits + 6 base62 digits of the CRC32 of all that stands before them: the scheme of
//! GitHub's tokens. A mistyped or made-up key is refused by its checksum before anything is looked up, and a secret
//! scanner finds leaked keys with almost no false alarm. 32 digits carry 190 random bits, so a keyed hash is enough
//! at rest; a slow password hash would protect no better and cost every request.

use std::{fmt, marker::PhantomData};

use domain::secret::SecretText;
use store::keyring::ServerKey;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX_LEN: usize = 6;
const RANDOM_LEN: usize = 32;
const CHECKSUM_LEN: usize = 6;
const TEXT_LEN: usize = PREFIX_LEN + RANDOM_LEN + CHECKSUM_LEN;

/// A virtual key in plain text, `sk-tr-...`. Shown once, never stored.
pub type PlainKey = Plain<VirtualKeyKind>;

/// An operator's token in plain text, `op-tr-...`. Shown once, never stored.
pub type PlainToken = Plain<OperatorTokenKind>;

/// The text is malformed or mistyped; which of the two is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid key: copy it again in full, it has 44 characters")]
pub struct InvalidKey;

/// A kind of secret that the product issues.
pub trait Kind {
    /// How its text form begins.
    const PREFIX: &'static str;
}

/// The kind of [`PlainKey`].
#[derive(Clone, Copy)]
pub struct VirtualKeyKind;

/// The kind of [`PlainToken`].
#[derive(Clone, Copy)]
pub struct OperatorTokenKind;

impl Kind for VirtualKeyKind {
    const PREFIX: &'static str = "sk-tr-";
}

impl Kind for OperatorTokenKind {
    const PREFIX: &'static str = "op-tr-";
}

/// An issued secret in plain text, with a right checksum. It has no `Display`, and its `Debug` shows nothing.
#[derive(Clone)]
pub struct Plain<K: Kind> {
    text: SecretText,
    kind: PhantomData<K>,
}

impl<K: Kind> Plain<K> {
    /// A new secret from the system's randomness.
    pub fn generate() -> Self {
        let mut text = String::with_capacity(TEXT_LEN);
        text.push_str(K::PREFIX);
        while text.len() < PREFIX_LEN + RANDOM_LEN {
            if let Some(digit) = digit_of_random(rand::random()) {
                text.push(digit);
            }
        }
        let checksum = checksum_digits(text.as_bytes());
        text.extend(checksum.map(char::from));
        Self {
            text: SecretText::new(text),
            kind: PhantomData,
        }
    }

    /// Reads the text form and verifies its checksum.
    ///
    /// # Errors
    /// [`InvalidKey`] for anything that was not made by [`Plain::generate`].
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let bytes = text.as_bytes();
        if bytes.len() != TEXT_LEN || !text.starts_with(K::PREFIX) {
            return Err(InvalidKey);
        }
        let (body, checksum) = bytes.split_at(PREFIX_LEN + RANDOM_LEN);
        let all_digits = body.iter().skip(PREFIX_LEN).all(u8::is_ascii_alphanumeric);
        if !all_digits || checksum != checksum_digits(body) {
            return Err(InvalidKey);
        }
        Ok(Self {
            text: SecretText::new(text.to_owned()),
            kind: PhantomData,
        })
    }

    /// The secret itself, for the one time at which it is shown.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// The last four characters, by which a person recognises it. They belong to the checksum.
    pub fn last4(&self) -> &str {
        self.text.expose().get(TEXT_LEN - 4..).unwrap_or_default()
    }

    /// HMAC-SHA256 of the full text under the pepper: the only form in which it is stored and looked up.
    pub fn hash(&self, pepper: &ServerKey) -> KeyHash {
        KeyHash(pepper.hmac(self.text.expose().as_bytes()))
    }
}

impl<K: Kind> fmt::Debug for Plain<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", K::PREFIX)
    }
}

/// The keyed hash of an issued secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// As stored: 64 hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// The digit that a random byte stands for; `None` for the bytes that would favour some digits over others.
fn digit_of_random(byte: u8) -> Option<char> {
    const FAIR: usize = 256 / 62 * 62;
    let value = usize::from(byte);
    (value < FAIR).then(|| char::from(DIGITS[value % 62]))
}

fn checksum_digits(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(body) as usize;
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[rest % 62];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn plain_from_seed(seed: [u8; RANDOM_LEN]) -> String {
        let digits = seed.map(|byte| char::from(DIGITS[usize::from(byte) % 62]));
        let mut text = PlainKey::generate().expose()[..PREFIX_LEN].to_owned();
        text.extend(digits);
        let checksum = checksum_digits(text.as_bytes());
        text.extend(checksum.map(char::from));
        text
    }

    proptest! {
        #[test]
        fn any_typo_of_one_character_is_refused_offline(
            seed: [u8; RANDOM_LEN],
            place in 0..TEXT_LEN,
            replacement in any::<char>(),
        ) {
            let text = plain_from_seed(seed);
            prop_assert!(PlainKey::parse(&text).is_ok());
            let typo: String = text
                .chars()
                .enumerate()
                .map(|(index, old)| if index == place { replacement } else { old })
                .collect();
            prop_assert_eq!(PlainKey::parse(&typo).is_ok(), typo == text);
        }

        #[test]
        fn two_neighbours_exchanged_or_one_lost_are_refused(seed: [u8; RANDOM_LEN], place in 0..TEXT_LEN - 1) {
            let text = plain_from_seed(seed);
            let mut exchanged: Vec<char> = text.chars().collect();
            exchanged.swap(place, place + 1);
            let exchanged: String = exchanged.into_iter().collect();
            prop_assert_eq!(PlainKey::parse(&exchanged).is_ok(), exchanged == text);
            let mut shorter = text;
            shorter.remove(place);
            prop_assert!(PlainKey::parse(&shorter).is_err());
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            prop_assert!(PlainKey::parse(&text).is_err());
        }
    }

    #[test]
    fn every_typo_within_the_alphabet_is_refused() {
        let text = PlainKey::generate().expose().to_owned();
        for place in 0..TEXT_LEN {
            for digit in DIGITS {
                let mut bytes = text.clone().into_bytes();
                bytes[place] = *digit;
                let typo = String::from_utf8(bytes).unwrap();
                assert_eq!(PlainKey::parse(&typo).is_ok(), typo == text);
            }
        }
    }

    #[test]
    fn round_trips_and_differs_each_time() {
        let pepper = ServerKey::generate();
        let plain = PlainKey::generate();
        assert_eq!(plain.expose().len(), 44);
        assert!(plain.expose().starts_with("sk-tr-") && plain.expose().ends_with(plain.last4()));
        let parsed = PlainKey::parse(plain.expose()).unwrap();
        assert_eq!(parsed.hash(&pepper), plain.hash(&pepper));
        assert_ne!(PlainKey::generate().hash(&pepper), plain.hash(&pepper));
        assert_ne!(plain.hash(&ServerKey::generate()), plain.hash(&pepper));
    }

    #[test]
    fn one_kind_is_not_accepted_as_the_other() {
        assert!(PlainToken::parse(PlainKey::generate().expose()).is_err());
        assert!(PlainKey::parse(PlainToken::generate().expose()).is_err());
        assert!(PlainToken::generate().expose().starts_with("op-tr-"));
    }

    #[test]
    fn known_checksum() {
        // crc32("sk-tr-" + 32 zeros) computed with zlib, written in base 62
        let body = format!("sk-tr-{}", "0".repeat(32));
        assert_eq!(checksum_digits(body.as_bytes()), *b"4ADEKm");
    }

    #[test]
    fn no_digit_is_likelier_than_another() {
        let mut counts = BTreeMap::new();
        for digit in (0..=u8::MAX).filter_map(digit_of_random) {
            *counts.entry(digit).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| *count == 4));
    }

    #[test]
    fn debug_shows_nothing() {
        let plain = PlainKey::generate();
        assert_eq!(format!("{plain:?}"), "sk-tr-..");
        assert_eq!(format!("{:?}", plain.hash(&ServerKey::generate())), "KeyHash(..)");
    }
}
