//! PURE: which names, slugs and texts are accepted, and how model names are compared.

use std::borrow::Cow;

use crate::CatalogError;

/// The longest model id or alias, in bytes.
const LONGEST_MODEL_NAME: usize = 200;
/// The longest display name, in characters.
const LONGEST_NAME: usize = 200;
/// The longest note, in characters.
const LONGEST_NOTE: usize = 1_000;

/// A slug: 1 to 63 of `a-z`, `0-9`, `-`, `_`, starting with a letter or digit.
pub(crate) fn check_slug(field: &'static str, text: &str) -> Result<(), CatalogError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if text.len() <= 63 && starts_well && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(CatalogError::invalid(
        field,
        "write 1 to 63 characters of a-z, 0-9, `-` and `_`, starting with a letter or a digit",
    ))
}

/// A name for people: not blank, at most 200 characters, no control characters.
pub(crate) fn check_name(field: &'static str, text: &str) -> Result<(), CatalogError> {
    if !text.trim().is_empty() && is_plain(text, LONGEST_NAME) {
        return Ok(());
    }
    Err(CatalogError::invalid(
        field,
        "write 1 to 200 characters without line breaks",
    ))
}

/// A note for people: may be empty.
pub(crate) fn check_note(field: &'static str, text: &str) -> Result<(), CatalogError> {
    if is_plain(text, LONGEST_NOTE) {
        return Ok(());
    }
    Err(CatalogError::invalid(
        field,
        "write at most 1000 characters without line breaks",
    ))
}

/// A name under which clients may ask for a model, or an upstream's name for it: visible ASCII without quotes,
/// backslash and `|` (the separator in the price book's subjects).
pub(crate) fn check_model_name(field: &'static str, text: &str) -> Result<(), CatalogError> {
    let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\' | b'|' | b'<' | b'>');
    if !text.is_empty() && text.len() <= LONGEST_MODEL_NAME && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(CatalogError::invalid(
        field,
        "write 1 to 200 visible ASCII characters without quotes, `\\`, `|`, `<` and `>`",
    ))
}

/// A model id: `vendor/name` in lower case.
pub(crate) fn check_model_id(field: &'static str, text: &str) -> Result<(), CatalogError> {
    check_model_name(field, text)?;
    let well_formed = text.split_once('/').is_some_and(|(vendor, name)| {
        !vendor.is_empty() && !name.is_empty() && vendor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    if well_formed && !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(CatalogError::invalid(
        field,
        "write it as `vendor/name` in lower case, such as `openai/gpt-4o`",
    ))
}

/// The form in which model names are compared: ASCII letters in lower case. Allocates only when it must.
pub(crate) fn folded(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn is_plain(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_it_says_and_nothing_else() {
        for good in ["openai", "a", "9-x_y"] {
            assert!(check_slug("slug", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "Open", "a b", "ü", &"x".repeat(64)] {
            assert!(check_slug("slug", bad).is_err(), "{bad}");
        }
        for bad in ["", "  ", "a\nb", &"x".repeat(201)] {
            assert!(check_name("name", bad).is_err(), "{bad:?}");
        }
        for good in ["openai/gpt-4o", "google/gemini-2.5-pro", "a/b:c@d"] {
            assert!(check_model_id("id", good).is_ok(), "{good}");
        }
        for bad in [
            "gpt-4o",
            "OpenAI/gpt",
            "openai/",
            "/x",
            "a/b c",
            "a/b|c",
            "a/b\"",
            "a/é",
        ] {
            assert!(check_model_id("id", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folding_borrows_what_is_folded_already() {
        assert!(matches!(folded("gpt-4o"), Cow::Borrowed("gpt-4o")));
        assert_eq!(folded("GPT-4o"), "gpt-4o");
    }
}
