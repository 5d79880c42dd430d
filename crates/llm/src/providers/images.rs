//! The most input tokens that one image can cost, by model family, as the providers document it.

/// One family: the start of a model's name without its vendor, and the most tokens of one image.
type Family = (&'static str, u64);

/// OpenAI, "Images and vision": tile models cost `base + tiles * tile`, at most 8 tiles of 512 pixels after scaling to
/// 2048 and 768; patch models cost patches times a factor, the number of patches capped. The first match counts.
const OPENAI: [Family; 17] = [
    ("gpt-4o-mini", 2_833 + 8 * 5_667),
    ("gpt-4o", 85 + 8 * 170),
    ("chatgpt-4o", 85 + 8 * 170),
    ("gpt-4.1-mini", 2_489), // 1,536 patches * 1.62
    ("gpt-4.1-nano", 3_779), // 1,536 patches * 2.46
    ("gpt-4.1", 85 + 8 * 170),
    ("gpt-4-turbo", 85 + 8 * 170),
    ("o4-mini", 2_642), // 1,536 patches * 1.72
    ("o1", 75 + 8 * 150),
    ("o3", 75 + 8 * 150),
    ("gpt-5.1-codex-mini", 2_489),
    ("gpt-5-mini", 2_489),
    ("gpt-5-nano", 3_779),
    ("gpt-5-", 70 + 8 * 140),
    ("gpt-5.1", 70 + 8 * 140),
    // 10,000 patches in original detail, times the largest factor: from GPT-5.2 on, and whatever comes
    ("gpt-5.", 24_600),
    ("gpt-6", 24_600),
];

/// Anthropic, "Vision": an image is scaled to about 1,600 tokens at most; from Claude Opus 4.7 on to 4,784.
const ANTHROPIC: [Family; 7] = [
    ("claude-3", 1_640),
    ("claude-haiku-4", 1_640),
    ("claude-sonnet-4", 1_640),
    ("claude-opus-4-7", 4_784),
    ("claude-opus-4-8", 4_784),
    ("claude-opus-4", 1_640),
    ("claude-", 4_784),
];

/// xAI, "Image understanding": 256 tokens for each tile of 448 pixels, six tiles and one at most. Mistral, "Vision": a
/// token for each patch of an image scaled to 1024 or 1540 pixels, and one for each row. Qwen: 16,384 in high resolution,
/// and two marks.
const OTHERS: [Family; 10] = [
    ("grok-2", 1_792),
    ("grok-4", 1_792),
    ("pixtral", 4_160),
    ("mistral-small", 4_160),
    ("mistral-medium", 4_160),
    ("mistral-large", 4_160),
    ("ministral", 4_160),
    ("qwen-vl", 16_386),
    ("qwen3-vl", 16_386),
    ("qwen2.5-vl", 16_386),
];

/// The most tokens of one image for a model, by the catalog's id or the provider's; `None` where no maximum is documented:
/// then only the context window bounds it.
pub fn image_tokens_max(model: &str) -> Option<u64> {
    let lower = model.to_ascii_lowercase();
    // `openai/gpt-4o`, `us.anthropic.claude-...`, `accounts/x/models/y`; versions are written with points or dashes
    let name = lower.rsplit('/').next().unwrap_or_default();
    let name = name.find("claude-").and_then(|at| name.get(at..)).unwrap_or(name);
    let dashed = if name.starts_with("claude-") {
        name.replace('.', "-")
    } else {
        name.to_owned()
    };
    if dashed == "gpt-5" {
        return Some(70 + 8 * 140);
    }
    OPENAI
        .iter()
        .chain(&ANTHROPIC)
        .chain(&OTHERS)
        .find(|(family, _)| dashed.starts_with(family))
        .map(|(_, tokens)| *tokens)
}

#[cfg(test)]
mod tests {
    use super::image_tokens_max;

    #[test]
    fn the_narrowest_family_counts() {
        assert_eq!(image_tokens_max("openai/gpt-4o-mini"), Some(48_169));
        assert_eq!(image_tokens_max("gpt-4o-2024-08-06"), Some(1_445));
        assert_eq!(image_tokens_max("gpt-5"), Some(1_190));
        assert_eq!(image_tokens_max("gpt-5-2025-08-07"), Some(1_190));
        assert_eq!(image_tokens_max("gpt-5.4"), Some(24_600));
        assert_eq!(image_tokens_max("anthropic/claude-opus-4.8"), Some(4_784));
        assert_eq!(
            image_tokens_max("us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
            Some(1_640)
        );
        assert_eq!(image_tokens_max("claude-opus-5.5"), Some(4_784));
        assert_eq!(image_tokens_max("meta/llama-4-scout"), None);
    }
}
