//! An upper bound of a request's input. Pure arithmetic over its shape.
//!
//! Text is bounded by bytes: a token stands for at least one byte, and JSON is never shorter than the text it encodes.
//! An image is bounded by its provider's documented maximum, everything else by the context window.

use domain::request::Dialect;

use super::{InputShape, RequestError};

/// Tokens that OpenAI-style chat templates add beyond what the JSON around each message already covers: the priming of
/// the answer and a default system message (the largest published one, gpt-oss's, takes about 70 tokens).
const OPENAI_OVERHEAD_TOKENS: u64 = 256;
/// As above for Anthropic Messages, with room for the prompts that structured output and thinking add.
const ANTHROPIC_OVERHEAD_TOKENS: u64 = 512;
/// The hidden system prompt that comes with tools: Anthropic documents 159 to 804 tokens, depending on the model.
const TOOL_PROMPT_TOKENS: u64 = 1_024;
/// The hidden declaration of a tool that the provider defines: Anthropic documents 245 (bash), 700 (text editor) and 735
/// plus 499 (computer use).
const PROVIDER_DEFINED_TOOL_TOKENS: u64 = 1_536;
/// Chat templates wrap each message in a few tokens: OpenAI documents three, and one for a name.
const TOKENS_PER_MESSAGE: u64 = 4;

/// What a model and its provider contribute to an input bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundRules {
    /// The model's context window in tokens: the bound of whatever has no better one.
    pub context_window_tokens: u64,
    /// The most tokens of one image; `None` where the provider documents no maximum.
    pub image_tokens: Option<u64>,
    /// Whether a search that is switched on by an option has a published fee per request.
    pub search_option_priced: bool,
    /// What the tokenizer's count is multiplied by, in percent, to cover the model's own tokenizer.
    pub tokenizer_margin_percent: u64,
}

/// An upper bound of what a request's input can be billed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputBound {
    /// Input tokens of all classes together.
    pub tokens: u64,
    /// Whether some of them may be audio.
    pub may_contain_audio: bool,
    /// Whether some of them may be images.
    pub may_contain_images: bool,
    /// Web searches that the provider may bill.
    pub web_searches: u64,
}

pub(super) fn by_bytes(
    dialect: Dialect,
    body_bytes: usize,
    shape: &InputShape,
    rules: &BoundRules,
) -> Result<InputBound, RequestError> {
    refuse_unbounded(shape, rules)?;
    let text = u64::try_from(body_bytes.saturating_sub(shape.media_bytes)).unwrap_or(u64::MAX);
    Ok(bound(text.saturating_add(overhead(dialect, shape)), shape, rules))
}

pub(super) fn by_tokens(
    dialect: Dialect,
    text_tokens: u64,
    shape: &InputShape,
    rules: &BoundRules,
    coarse: InputBound,
) -> InputBound {
    let margin = rules.tokenizer_margin_percent.max(100);
    let text = text_tokens.saturating_mul(margin).div_ceil(100);
    let tight = bound(text.saturating_add(overhead(dialect, shape)), shape, rules);
    InputBound {
        tokens: tight.tokens.min(coarse.tokens),
        ..tight
    }
}

fn refuse_unbounded(shape: &InputShape, rules: &BoundRules) -> Result<(), RequestError> {
    if let Some((tool, advice)) = &shape.unbounded {
        return Err(RequestError::UnboundedTool {
            tool: tool.clone(),
            advice,
        });
    }
    if shape.search_option && !rules.search_option_priced {
        return Err(RequestError::UnboundedTool {
            tool: "web_search_options".to_owned(),
            advice: "remove the field, or run the search yourself and declare it as a function tool",
        });
    }
    Ok(())
}

/// Tokens that the format adds and the body does not show. Also what the message wrapping costs in a count of text alone.
pub(super) const fn overhead(dialect: Dialect, shape: &InputShape) -> u64 {
    let base = match dialect {
        Dialect::OpenaiChat => OPENAI_OVERHEAD_TOKENS,
        Dialect::AnthropicMessages => ANTHROPIC_OVERHEAD_TOKENS,
    };
    let tools = if shape.has_tools { TOOL_PROMPT_TOKENS } else { 0 };
    base.saturating_add(tools)
        .saturating_add(
            shape
                .provider_defined_tools
                .saturating_mul(PROVIDER_DEFINED_TOOL_TOKENS),
        )
        .saturating_add(shape.messages.saturating_mul(TOKENS_PER_MESSAGE))
}

fn bound(text: u64, shape: &InputShape, rules: &BoundRules) -> InputBound {
    let window = rules.context_window_tokens;
    let image = rules.image_tokens.unwrap_or(window).min(window);
    // whatever the number of images, together they fit the window or the provider refuses the request
    let images = shape.images.saturating_mul(image).min(window);
    let opaque = if shape.opaque { window } else { 0 };
    let first = text.saturating_add(images).saturating_add(opaque);
    // each round of a server tool reads the prompt again, with the results so far: at most a full window
    let rounds = shape.server_tool_rounds.saturating_mul(window);
    InputBound {
        tokens: first.saturating_add(rounds),
        may_contain_audio: shape.audio || shape.opaque,
        may_contain_images: shape.images > 0 || shape.opaque || shape.server_tool_rounds > 0,
        web_searches: shape.web_searches,
    }
}
