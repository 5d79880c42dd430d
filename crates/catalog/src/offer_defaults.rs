//! PURE: what an operator need not type when a model is attached to a pool.

use std::sync::Arc;

use domain::{pricing::PriceEntry, request::Dialect};

use crate::{CatalogError, OfferTemplate, offer::NewOffer};

/// How usage objects are read; the names are the catalog's.
const USAGE_PROFILES: [&str; 14] = [
    "openai_chat",
    "openai_responses",
    "openai_images",
    "anthropic",
    "gemini",
    "bedrock_converse",
    "xai_chat",
    "deepseek",
    "perplexity",
    "cohere",
    "embeddings",
    "rerank",
    "audio_speech",
    "audio_transcription",
];

/// The parts of an offer that may come from a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completed {
    pub upstream_model_id: String,
    pub format: Dialect,
    pub usage_profile: String,
    pub price: Arc<PriceEntry>,
}

/// Fills what was left out of a new offer from the provider's template for the model.
///
/// Among several templates of one provider the one with the given upstream id counts, else the first that still
/// answers. A retired template fills nothing.
pub(crate) fn complete(
    new: &NewOffer,
    provider_slug: &str,
    provider_formats: &[Dialect],
    templates: &[OfferTemplate],
) -> Result<Completed, CatalogError> {
    let slug = new.template.as_deref().unwrap_or(provider_slug);
    let of_provider = || templates.iter().filter(|template| template.provider == slug);
    let upstream = new.upstream_model_id.as_deref();
    let named = of_provider().find(|template| upstream == Some(template.upstream_model_id.as_str()));
    let template = named.or_else(|| of_provider().find(|template| !template.retired));
    let usable = template.filter(|template| !template.retired);
    let lack = |field: &'static str| {
        let problem = if of_provider().next().is_some() {
            format!("the seed knows this model at `{slug}` only as retired: give `{field}` yourself")
        } else {
            format!("the seed does not know this model at `{slug}`: give `{field}`, or name another `template`")
        };
        CatalogError::invalid(field, problem)
    };
    let format = choose_format(new.format, provider_formats, usable)?;
    Ok(Completed {
        upstream_model_id: upstream
            .or_else(|| usable.map(|template| template.upstream_model_id.as_str()))
            .ok_or_else(|| lack("upstream_model_id"))?
            .to_owned(),
        format,
        usage_profile: choose_usage_profile(new.usage_profile.as_deref(), format, usable)?,
        price: new
            .price
            .clone()
            .or_else(|| usable.map(|template| Arc::new(template.price.clone())))
            .ok_or_else(|| lack("price"))?,
    })
}

fn choose_format(
    given: Option<Dialect>,
    provider_formats: &[Dialect],
    template: Option<&OfferTemplate>,
) -> Result<Dialect, CatalogError> {
    if let Some(format) = given {
        if provider_formats.contains(&format) {
            return Ok(format);
        }
        return Err(CatalogError::invalid(
            "format",
            format!("the provider does not answer `{format}`"),
        ));
    }
    let spoken = |name: &String| provider_formats.iter().copied().find(|format| format.as_str() == name);
    if let Some(template) = template {
        return template.formats.iter().find_map(spoken).ok_or_else(|| {
            CatalogError::invalid(
                "format",
                format!(
                    "the seed knows this model in {} only: name the format yourself",
                    template.formats.join(", ")
                ),
            )
        });
    }
    match provider_formats {
        [only] => Ok(*only),
        _ => Err(CatalogError::invalid(
            "format",
            "the provider answers several formats: name one",
        )),
    }
}

fn choose_usage_profile(
    given: Option<&str>,
    format: Dialect,
    template: Option<&OfferTemplate>,
) -> Result<String, CatalogError> {
    if let Some(profile) = given {
        if USAGE_PROFILES.contains(&profile) {
            return Ok(profile.to_owned());
        }
        return Err(CatalogError::invalid(
            "usage_profile",
            format!("write one of {}", USAGE_PROFILES.join(", ")),
        ));
    }
    // a template's profile reads the usage object of its first format; the others have their own
    let own = template.filter(|template| template.formats.first().is_some_and(|first| first == format.as_str()));
    let by_format = match format {
        Dialect::OpenaiChat => "openai_chat",
        Dialect::AnthropicMessages => "anthropic",
    };
    Ok(own
        .map_or(by_format, |template| template.usage_profile.as_str())
        .to_owned())
}

#[cfg(test)]
mod tests {
    use domain::PoolId;

    use super::*;

    fn template(upstream: &str, formats: &[&str], profile: &str, retired: bool) -> OfferTemplate {
        OfferTemplate {
            provider: "xai".to_owned(),
            upstream_model_id: upstream.to_owned(),
            formats: formats.iter().map(ToString::to_string).collect(),
            usage_profile: profile.to_owned(),
            regions: vec!["global".to_owned()],
            price: serde_json::from_str(r#"{"price":{"input":"1","output":"2"}}"#).unwrap(),
            retired,
            source: String::new(),
            source_date: String::new(),
        }
    }

    fn new_offer() -> NewOffer {
        NewOffer::of("xai/grok", PoolId::generate())
    }

    const CHAT: &[Dialect] = &[Dialect::OpenaiChat];

    #[test]
    fn the_template_fills_what_was_left_out() {
        let templates = [
            template("old", &["openai_chat"], "xai_chat", true),
            template("grok", &["openai_chat"], "xai_chat", false),
        ];
        let done = complete(&new_offer(), "xai", CHAT, &templates).unwrap();
        assert_eq!(
            (done.upstream_model_id.as_str(), done.usage_profile.as_str()),
            ("grok", "xai_chat")
        );
        let own_name = NewOffer {
            upstream_model_id: Some("deployment-7".to_owned()),
            ..new_offer()
        };
        let done = complete(&own_name, "xai", CHAT, &templates).unwrap();
        assert_eq!(
            (done.upstream_model_id.as_str(), done.usage_profile.as_str()),
            ("deployment-7", "xai_chat")
        );
    }

    #[test]
    fn another_format_than_the_first_has_its_own_profile() {
        let templates = [template(
            "m",
            &["openai_responses", "openai_chat"],
            "openai_responses",
            false,
        )];
        assert_eq!(
            complete(&new_offer(), "xai", CHAT, &templates).unwrap().usage_profile,
            "openai_chat"
        );
        let anthropic = &[Dialect::AnthropicMessages];
        assert!(complete(&new_offer(), "xai", anthropic, &templates).is_err());
        let named = NewOffer {
            format: Some(Dialect::AnthropicMessages),
            ..new_offer()
        };
        assert_eq!(
            complete(&named, "xai", anthropic, &templates).unwrap().usage_profile,
            "anthropic"
        );
    }

    #[test]
    fn nothing_comes_from_a_retired_template_or_another_provider() {
        let retired = [template("old", &["openai_chat"], "xai_chat", true)];
        for slug in ["xai", "mine"] {
            let error = complete(&new_offer(), slug, CHAT, &retired).unwrap_err();
            assert!(
                matches!(
                    error,
                    CatalogError::Invalid {
                        field: "upstream_model_id",
                        ..
                    }
                ),
                "{error}"
            );
        }
        let by_name = NewOffer {
            upstream_model_id: Some("old".to_owned()),
            ..new_offer()
        };
        let error = complete(&by_name, "xai", CHAT, &retired).unwrap_err();
        assert!(matches!(error, CatalogError::Invalid { field: "price", .. }), "{error}");
        let live = [template("grok", &["openai_chat"], "xai_chat", false)];
        let borrowed = NewOffer {
            template: Some("xai".to_owned()),
            ..new_offer()
        };
        assert!(complete(&borrowed, "mine", CHAT, &live).is_ok());
    }
}
