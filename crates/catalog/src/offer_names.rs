//! PURE: which names an upstream may report for an offer, where the operator has not said so.
//!
//! Providers answer under the name that they were asked for, or under the snapshot behind it
//! (`gpt-5-mini` -> `gpt-5-mini-2025-08-07`, `claude-sonnet-4-0` -> `claude-sonnet-4-20250514`); a deployment with a name of
//! its own (Azure) answers under the vendor's. A snapshot that was asked for by its date is the only one that may answer, under
//! any of the model's names (`us.anthropic.claude-sonnet-4-5-20250929-v1:0` -> `claude-sonnet-4-5-20250929`).

use domain::served_names::{ServedNames, snapshot_date};

use crate::{CatalogError, seed::SeedNames, wording};

/// The most names in an operator's list.
const MOST: usize = 32;

/// What moves with a provider's newest snapshot of the same model.
const MOVING: [&str; 2] = ["-latest", "-0"];

/// The names of an offer: the operator's list, else the default.
pub(crate) fn served_names(own: &[String], upstream: &str, model: &str, seed: &SeedNames) -> ServedNames {
    if own.is_empty() {
        ServedNames::new(default_names(upstream, model, seed))
    } else {
        ServedNames::new(own.iter().cloned())
    }
}

/// The upstream's name of the model, the catalog's and the vendor's own, and the snapshots of these that the seed knows.
fn default_names(upstream: &str, model: &str, seed: &SeedNames) -> Vec<String> {
    let mut names = vec![upstream.to_owned()];
    let catalog = model.split_once('/').map_or(model, |(_, name)| name);
    let known = [Some(catalog), seed.vendors_own.as_deref()].into_iter().flatten();
    if let Some(date) = snapshot_date(upstream) {
        push_dated(&mut names, known, &seed.aliases, &date);
        return names;
    }
    for name in known {
        push(&mut names, name);
    }
    let stems: Vec<String> = names.iter().map(|name| stem(name).to_owned()).collect();
    for snapshot in &seed.aliases {
        if stems.iter().any(|stem| is_snapshot_of(snapshot, stem)) {
            push(&mut names, snapshot);
        }
    }
    names
}

/// The model's names with that date, and no other.
fn push_dated<'a>(names: &mut Vec<String>, known: impl Iterator<Item = &'a str>, aliases: &[String], date: &str) {
    for name in known {
        match snapshot_date(name) {
            Some(own) if own == date => push(names, name),
            Some(_) => {}
            None => push(names, &format!("{}-{date}", stem(name))),
        }
    }
    for alias in aliases {
        if snapshot_date(alias).as_deref() == Some(date) {
            push(names, alias);
        }
    }
}

fn push(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        names.push(name.to_owned());
    }
}

fn stem(name: &str) -> &str {
    MOVING
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// Whether an alias is a name and behind it nothing but a date: `-2025-08-07`, `-20250514`, `-0613`, `-2603`.
fn is_snapshot_of(alias: &str, stem: &str) -> bool {
    let rest = alias.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| {
        let digits = rest.bytes().filter(u8::is_ascii_digit).count();
        digits >= 4 && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    })
}

/// Checks an operator's list: 1 to 32 names, each once.
pub(crate) fn check_names(names: &[String]) -> Result<(), CatalogError> {
    const FIELD: &str = "served_names";
    if names.len() > MOST {
        return Err(CatalogError::invalid(FIELD, "write at most 32 names"));
    }
    for (place, name) in names.iter().enumerate() {
        wording::check_model_name(FIELD, name)?;
        if names[..place].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(CatalogError::invalid(FIELD, format!("`{name}` stands there twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::served_names::Served;

    use super::*;
    use crate::seed::{seed_names, seed_offers};

    fn names(upstream: &str, model: &str) -> Vec<String> {
        default_names(upstream, model, &seed_names(model).unwrap())
    }

    #[test]
    fn the_seed_gives_the_names_that_providers_are_known_to_report() {
        for (model, asked, reported) in [
            ("openai/gpt-5-mini", "gpt-5-mini", "gpt-5-mini-2025-08-07"),
            ("openai/gpt-4o", "gpt-4o", "gpt-4o-2024-08-06"),
            ("openai/gpt-3.5-turbo", "gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
            ("openai/gpt-4.1-mini", "openllmetry-testing", "gpt-4.1-mini-2025-04-14"),
            (
                "anthropic/claude-haiku-4.5",
                "claude-haiku-4-5",
                "claude-haiku-4-5-20251001",
            ),
            (
                "anthropic/claude-sonnet-4",
                "claude-sonnet-4-0",
                "claude-sonnet-4-20250514",
            ),
            (
                "anthropic/claude-3.5-sonnet",
                "claude-3-5-sonnet-latest",
                "claude-3-5-sonnet-20241022",
            ),
            ("openai/gpt-4o", "openai/gpt-4o", "openai/gpt-4o"),
            ("deepseek/deepseek-v4.1-flash", "deepseek-flash", "deepseek-v4.1-flash"),
            (
                "mistral/mistral-small-4",
                "mistral-small-latest",
                "mistral-small-latest",
            ),
            (
                "anthropic/claude-haiku-4.5",
                "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                "claude-haiku-4-5-20251001",
            ),
            (
                "anthropic/claude-haiku-4.5",
                "claude-haiku-4-5@20251001",
                "claude-haiku-4-5-20251001",
            ),
        ] {
            let sold = ServedNames::new(names(asked, model));
            assert_eq!(sold.judge([reported]), Served::AsSold(reported), "{asked}: {sold:?}");
        }
    }

    #[test]
    fn another_model_or_another_snapshot_is_none_of_the_names() {
        for (model, asked, reported) in [
            ("openai/gpt-4o", "gpt-4o", "gpt-4o-mini-2024-07-18"),
            ("openai/gpt-5", "gpt-5", "gpt-5-mini"),
            ("deepseek/deepseek-v3", "deepseek-chat", "deepseek-v4-flash"),
            ("xai/grok-4-fast", "grok-4-fast-reasoning", "grok-4-fast-non-reasoning"),
            (
                "anthropic/claude-3.5-sonnet",
                "claude-3-5-sonnet-20241022",
                "claude-3-5-sonnet-20240620",
            ),
            ("anthropic/claude-opus-4.5", "claude-opus-4-5", "claude-haiku-4-5"),
            (
                "anthropic/claude-3.5-sonnet",
                "claude-3-5-sonnet@20241022",
                "claude-3-5-sonnet-20240620",
            ),
            (
                "anthropic/claude-3.5-sonnet",
                "anthropic.claude-3-5-sonnet-20241022-v2:0",
                "claude-3-5-sonnet",
            ),
            ("openai/gpt-4", "gpt-4-0613", "gpt-4-0314"),
            ("deepseek/deepseek-v3", "deepseek-v3-0324", "deepseek-v3"),
        ] {
            let sold = ServedNames::new(names(asked, model));
            assert_eq!(sold.judge([reported]), Served::Substituted(reported), "{sold:?}");
        }
    }

    #[test]
    fn every_template_of_the_seed_may_report_the_name_that_it_is_asked_for() {
        for model in crate::seed::seed_model_ids().unwrap() {
            for offer in seed_offers(&model).unwrap() {
                let upstream = offer.upstream_model_id.as_str();
                assert_eq!(names(upstream, &model)[0], upstream);
            }
        }
    }

    #[test]
    fn an_operators_list_stands_alone() {
        let seed = seed_names("openai/gpt-4o").unwrap();
        let own = ["theirs".to_owned()];
        let sold = served_names(&own, "gpt-4o", "openai/gpt-4o", &seed);
        assert_eq!(sold.as_slice(), own);
        assert!(check_names(&["a".to_owned(), "A".to_owned()]).is_err());
        assert!(check_names(&["a b".to_owned()]).is_err());
        assert!(check_names(&vec!["x".to_owned(); 33]).is_err());
        assert!(check_names(&own).is_ok());
    }
}
