//! PURE: which of a provider's words are not for customers. A provider answers the operator, so its errors may name the
//! operator's account or repeat its credential.

use domain::secret::SecretText;

/// How accounts are named in the errors of providers, in lower case: OpenAI's organisations and projects, Anthropic's
/// workspaces, keys (which are shown in part), and what the operator owes.
const ACCOUNT_WORDS: [&str; 8] = [
    "org-",
    "organization",
    "proj_",
    "workspace",
    "api key",
    "api_key",
    "billing",
    "credit balance",
];
/// The least part of a credential whose appearance gives it away.
const TELLING_BYTES: usize = 12;

/// Whether the words name the operator's account or repeat a part of one of its credentials.
pub fn names_operator<'s>(words: &str, credentials: impl IntoIterator<Item = &'s SecretText>) -> bool {
    let lower = words.to_ascii_lowercase();
    ACCOUNT_WORDS.iter().any(|word| lower.contains(word))
        || credentials
            .into_iter()
            .any(|credential| repeats_a_part(words.as_bytes(), credential.expose().as_bytes()))
}

fn repeats_a_part(words: &[u8], credential: &[u8]) -> bool {
    let size = TELLING_BYTES.min(credential.len());
    size > 0
        && credential
            .windows(size)
            .any(|part| memchr::memmem::find(words, part).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_parts_of_credentials_are_seen() {
        let credential = SecretText::new("vendor-0123456789abcdef".to_owned());
        for words in [
            "Rate limit reached in organization Acme",
            "No access for ORG-abc",
            "Your credit balance is too low",
            "who is 0123456789ab",
            "vendor-0123456789abcdef is not valid",
        ] {
            assert!(names_operator(words, [&credential]), "{words}");
        }
    }

    #[test]
    fn what_a_client_did_wrong_comes_through() {
        let credential = SecretText::new("vendor-0123456789abcdef".to_owned());
        for words in [
            "max_tokens must be at least 1",
            "messages.0.content: field required",
            "0123456789",
            "Overloaded",
        ] {
            assert!(!names_operator(words, [&credential]), "{words}");
        }
        assert!(!names_operator("", [&SecretText::new(String::new())]));
    }
}
