//! PURE: whether an upstream ran the model that was sold, by the name that it reports.
//!
//! An offer has a published list of names. A report matches when it is one of them, whatever its case, or one of them
//! followed by a date (`-2026-03-05` or `-20260305`): providers name the snapshot behind a name like that.

/// The names that an upstream may report for an offer. Comparing allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServedNames(Vec<String>);

/// What an upstream's reports come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served<'a> {
    /// Every report names the model that was sold; this is the first.
    AsSold(&'a str),
    /// This is the first report that names another one.
    Substituted(&'a str),
    /// Nothing was reported.
    Unsaid,
}

impl<'a> Served<'a> {
    /// The report to show: the one that names another model, if there is one.
    pub const fn name(self) -> Option<&'a str> {
        match self {
            Self::AsSold(name) | Self::Substituted(name) => Some(name),
            Self::Unsaid => None,
        }
    }

    /// Another model answered.
    pub const fn is_substituted(self) -> bool {
        matches!(self, Self::Substituted(_))
    }
}

impl ServedNames {
    /// A list of names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The names, as they are published.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Judges what was reported in one answer, in order.
    pub fn judge<'a>(&self, reported: impl IntoIterator<Item = &'a str>) -> Served<'a> {
        let mut first = None;
        for name in reported {
            if !self.allow(name) {
                return Served::Substituted(name);
            }
            first = first.or(Some(name));
        }
        first.map_or(Served::Unsaid, Served::AsSold)
    }

    fn allow(&self, reported: &str) -> bool {
        self.0.iter().any(|name| {
            let Some((head, rest)) = reported.split_at_checked(name.len()) else {
                return false;
            };
            head.eq_ignore_ascii_case(name) && (rest.is_empty() || is_date(rest))
        })
    }
}

/// Whether this is `-YYYY-MM-DD` or `-YYYYMMDD`.
fn is_date(text: &str) -> bool {
    let shape = |pattern: &[u8]| {
        text.len() == pattern.len()
            && text.bytes().zip(pattern).all(|(byte, wanted)| {
                if *wanted == b'0' {
                    byte.is_ascii_digit()
                } else {
                    byte == *wanted
                }
            })
    };
    shape(b"-0000-00-00") || shape(b"-00000000")
}

/// The digits of the date by which a name stands for one snapshot; `None` when it does not.
///
/// Providers write `-2025-08-07`, `-20250807`, `@20250807`, `-20250807-v1:0`, and short `-0528` (month and day) or `-2507`
/// (year and month).
pub fn snapshot_date(name: &str) -> Option<String> {
    let name = without_revision(name);
    let end = |length: usize| name.get(name.len().checked_sub(length)?..);
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect();
    if let Some(date) = [11, 9].into_iter().filter_map(end).find(|text| is_date(text)) {
        return Some(digits(date));
    }
    let (_, last) = name.rsplit_once(['-', '@'])?;
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    match last.len() {
        8 if is_number => Some(last.to_owned()),
        4 if is_number && is_short_date(last) => Some(last.to_owned()),
        _ => None,
    }
}

/// Without `-v1:0`, by which Bedrock counts revisions of a snapshot.
fn without_revision(name: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once("-v") {
        Some((head, revision)) if revision.split(':').all(is_number) => head,
        _ => name,
    }
}

/// `MMDD`, or `YYMM` of this century's twenties and thirties: `8192` and `4096` are none.
fn is_short_date(digits: &str) -> bool {
    let (first, second) = digits.split_at(2);
    let within =
        |text: &str, range: std::ops::RangeInclusive<u32>| text.parse().is_ok_and(|number| range.contains(&number));
    (within(first, 1..=12) && within(second, 1..=31)) || (within(first, 20..=39) && within(second, 1..=12))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(names: &[&str]) -> ServedNames {
        ServedNames::new(names.iter().map(ToString::to_string))
    }

    #[test]
    fn a_name_its_snapshots_and_any_case_match() {
        let sold = names(&["gpt-5-mini", "openai/gpt-5-mini"]);
        for good in [
            "gpt-5-mini",
            "GPT-5-Mini",
            "gpt-5-mini-2025-08-07",
            "gpt-5-mini-20250807",
            "openai/gpt-5-mini",
        ] {
            assert_eq!(sold.judge([good]), Served::AsSold(good), "{good}");
        }
        for bad in [
            "gpt-5-nano",
            "gpt-5",
            "gpt-5-mini-high",
            "gpt-5-mini-2025",
            "gpt-5-mini-2025-08-07-x",
            "gpt-5-mini2025-08-07",
            "gpt-5-minié",
            " gpt-5-mini",
            "",
        ] {
            assert_eq!(sold.judge([bad]), Served::Substituted(bad), "{bad}");
        }
        assert_eq!(sold.judge([]), Served::Unsaid);
    }

    #[test]
    fn a_date_at_the_end_names_a_snapshot() {
        for (name, date) in [
            ("claude-sonnet-4-20250514", "20250514"),
            ("gpt-5-2025-08-07", "20250807"),
            ("claude-sonnet-4-5@20250929", "20250929"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "20250929"),
            ("deepseek-ai/DeepSeek-R1-0528", "0528"),
            ("deepseek-v3-0324", "0324"),
            ("mistral-small-2603", "2603"),
        ] {
            assert_eq!(snapshot_date(name).as_deref(), Some(date), "{name}");
        }
        for name in [
            "gpt-5",
            "",
            "20250807",
            "é-20250514x",
            "-2025-8-7",
            "llama3-70b-8192",
            "phi-3-4096",
            "deepseek-v3",
            "anthropic.claude-v2:1",
            "x-v1:0",
            "x-25é07",
        ] {
            assert_eq!(snapshot_date(name), None, "{name}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-z]{1,3}(-[a-z0-9.]{1,3}){0,2}"
    }

    proptest! {
        #[test]
        fn what_is_listed_matches_whatever_its_case(listed in proptest::collection::vec(name(), 1..4), upper: bool) {
            let sold = ServedNames::new(listed.clone());
            for name in &listed {
                let told = if upper { name.to_ascii_uppercase() } else { name.clone() };
                prop_assert_eq!(sold.judge([told.as_str()]), Served::AsSold(told.as_str()));
                let dated = format!("{told}-20260305");
                prop_assert_eq!(sold.judge([dated.as_str()]), Served::AsSold(dated.as_str()));
            }
        }

        #[test]
        fn one_wrong_name_anywhere_is_a_substitution(
            listed in proptest::collection::vec(name(), 1..4),
            told in proptest::collection::vec(0..4_usize, 0..4),
            place in 0..4_usize,
            wrong in "[a-z]{4,8}",
        ) {
            // no listed name is as long, so it is none of them
            let sold = ServedNames::new(listed.iter().map(|name| format!("x/{name}")));
            let mut told: Vec<String> = told.iter().map(|at| format!("x/{}", listed[at % listed.len()])).collect();
            prop_assert!(!sold.judge(told.iter().map(String::as_str)).is_substituted());
            let place = place.min(told.len());
            told.insert(place, wrong.clone());
            prop_assert_eq!(sold.judge(told.iter().map(String::as_str)), Served::Substituted(wrong.as_str()));
        }

        #[test]
        fn a_match_is_a_listed_name_and_at_most_a_date(listed in proptest::collection::vec(name(), 0..3), told in "\\PC{0,12}") {
            let sold = ServedNames::new(listed.clone());
            if sold.judge([told.as_str()]) == Served::AsSold(told.as_str()) {
                prop_assert!(listed.iter().any(|name| told.len() >= name.len()
                    && told[..name.len()].eq_ignore_ascii_case(name)
                    && told[name.len()..].bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())));
            }
        }
    }
}
