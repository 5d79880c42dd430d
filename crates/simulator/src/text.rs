//! PURE: words out of a seed, and text cut into the pieces that the simulator counts as tokens.

/// Some words are not ASCII, so that every stream has characters of two, three and four bytes to split.
const WORDS: [&str; 40] = [
    "a",
    "relay",
    "carries",
    "every",
    "answer",
    "from",
    "the",
    "provider",
    "to",
    "its",
    "reader",
    "and",
    "counts",
    "what",
    "it",
    "has",
    "seen",
    "while",
    "prices",
    "stay",
    "published",
    "naïve",
    "clients",
    "wait",
    "for",
    "first",
    "bytes",
    "café",
    "tokens",
    "arrive",
    "one",
    "by",
    "東京",
    "slowly",
    "or",
    "fast",
    "–",
    "always",
    "in",
    "order 🙂",
];

/// A small generator of numbers (SplitMix64): same seed, same answer, on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeds from any texts (FNV-1a, 64 bits).
    pub(crate) fn from_texts(texts: &[&str]) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in texts.iter().flat_map(|text| text.bytes().chain([0])) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(hash)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// Letters and digits, as providers use them in ids.
    pub(crate) fn id(&mut self, length: usize) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..length)
            .filter_map(|_| ALPHABET.get(self.below(ALPHABET.len())).map(|byte| char::from(*byte)))
            .collect()
    }

    /// One word.
    pub(crate) fn word(&mut self) -> &'static str {
        WORDS.get(self.below(WORDS.len())).copied().unwrap_or("word")
    }
}

/// `count` pieces of prose. Each piece is one token: a word with the blank before it, or a full stop.
pub(crate) fn write_pieces(dice: &mut Dice, count: usize) -> Vec<String> {
    let mut pieces = Vec::with_capacity(count);
    let mut until_stop = 6 + dice.below(8);
    while pieces.len() < count {
        let last = pieces.len() + 1 == count;
        if until_stop == 0 || (last && count > 1) {
            pieces.push(".".to_owned());
            until_stop = 6 + dice.below(8);
        } else {
            let blank = if pieces.is_empty() { "" } else { " " };
            pieces.push(format!("{blank}{}", dice.word()));
            until_stop -= 1;
        }
    }
    pieces
}

/// Cuts given text into pieces: a word with the white space before it is one token. The pieces joined are the text.
pub(crate) fn split_words(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut in_word = true;
    for character in text.chars() {
        let blank = character.is_whitespace();
        match pieces.last_mut() {
            Some(piece) if !(blank && in_word) => piece.push(character),
            _ => pieces.push(character.to_string()),
        }
        in_word = !blank;
    }
    pieces
}

/// Cuts text into pieces of `size` characters.
pub(crate) fn split_chars(text: &str, size: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(size.max(1))
        .map(|chunk| chunk.iter().collect())
        .collect()
}

/// What a text costs as input: one token for every four bytes begun.
pub(crate) fn input_tokens(text: &str) -> u64 {
    u64::try_from(text.len().div_ceil(4)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same_and_another_seed_does_not() {
        let write = |seed: &str| write_pieces(&mut Dice::from_texts(&[seed]), 40);
        assert_eq!(write("a"), write("a"));
        assert_ne!(write("a"), write("b"));
        assert_ne!(
            Dice::from_texts(&["ab", "c"]).next(),
            Dice::from_texts(&["a", "bc"]).next()
        );
    }

    #[test]
    fn as_many_pieces_as_asked_for_and_none_is_empty() {
        for count in [0, 1, 2, 7, 100] {
            let pieces = write_pieces(&mut Dice::from_texts(&["seed"]), count);
            assert_eq!(pieces.len(), count);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
        }
    }

    #[test]
    fn splitting_loses_nothing() {
        for text in ["", "one", "one two", "  lead and trail \n", "東京 🙂\n\nnaïve"] {
            assert_eq!(split_words(text).concat(), text);
            assert_eq!(split_chars(text, 3).concat(), text);
        }
        assert_eq!(split_words("one two  three"), ["one", " two", "  three"]);
    }

    #[test]
    fn input_is_counted_by_bytes_begun() {
        assert_eq!(
            [
                input_tokens(""),
                input_tokens("a"),
                input_tokens("abcd"),
                input_tokens("abcde")
            ],
            [0, 1, 1, 2]
        );
    }
}
