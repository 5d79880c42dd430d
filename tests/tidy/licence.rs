//! Licence expressions (SPDX): may a dependency be used under the licences that we accept?

/// Licences that we accept, by their SPDX identifier.
const ACCEPTED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// True when every `AND` part, and one of every `OR`, is accepted. What is no valid expression is not accepted.
/// A slash is the old spelling of `OR`.
pub(crate) fn is_accepted(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    either(&mut words) == Some(true) && words.is_empty()
}

fn either(words: &mut Vec<&str>) -> Option<bool> {
    let mut accepted = both(words)?;
    while words.last() == Some(&"OR") {
        words.pop();
        accepted |= both(words)?;
    }
    Some(accepted)
}

fn both(words: &mut Vec<&str>) -> Option<bool> {
    let mut accepted = one(words)?;
    while words.last() == Some(&"AND") {
        words.pop();
        accepted &= one(words)?;
    }
    Some(accepted)
}

fn one(words: &mut Vec<&str>) -> Option<bool> {
    match words.pop()? {
        "(" => {
            let accepted = either(words)?;
            (words.pop()? == ")").then_some(accepted)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        name if words.last() == Some(&"WITH") => {
            words.pop();
            let exception = words.pop()?;
            Some(ACCEPTED.contains(&format!("{name} WITH {exception}").as_str()))
        }
        name => Some(ACCEPTED.contains(&name)),
    }
}

#[test]
fn expressions_are_read_as_spdx_says() {
    for accepted in [
        "MIT",
        "MIT OR GPL-3.0-only",
        "GPL-3.0-only OR MIT",
        "MIT/Apache-2.0",
        "(MIT OR GPL-3.0-only) AND ISC",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        "GPL-2.0-only AND MIT OR ISC",
    ] {
        assert!(is_accepted(accepted), "{accepted}");
    }
    for refused in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT OR ISC) AND AGPL-3.0-only",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "GPL-2.0-only AND (MIT OR ISC)",
        "MIT OR",
        "(MIT",
        "MIT)",
        "MIT ISC",
    ] {
        assert!(!is_accepted(refused), "{refused}");
    }
}
