//! Reading requests: JSON bodies, query parameters, ids in paths, idempotency keys. A refusal names the field and says
//! what to write, and never repeats a value: values may be secrets.

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    str::FromStr,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::StatusCode,
    web::{Bytes, Path, Query},
};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::error::{AdminError, Answer, ErrorCode};

/// The largest body that is read, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 1024 * 1024;
const MAX_IDEMPOTENCY_KEY_LEN: usize = 255;
const MAX_ECHOED_NAME_LEN: usize = 40;

/// A JSON body.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = AdminError;
    type Future = Pin<Box<dyn Future<Output = Answer<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = request.content_type().eq_ignore_ascii_case("application/json");
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async move {
            if !is_json {
                return Err(AdminError::new(
                    ErrorCode::UnsupportedMediaType,
                    "send a JSON body with `Content-Type: application/json`",
                ));
            }
            let bytes = bytes.await.map_err(|error| unreadable(&error))?;
            read_json(&bytes).map(Self)
        })
    }
}

fn unreadable(error: &actix_web::Error) -> AdminError {
    if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE {
        return AdminError::new(ErrorCode::BodyTooLarge, "the body may have at most 1 MiB");
    }
    AdminError::new(
        ErrorCode::InvalidInput,
        "the body could not be read to its end: send it again",
    )
}

fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    if escapes_nul(bytes) {
        return Err(AdminError::invalid(
            "body",
            "leave the NUL character out: no text may contain it",
        ));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| refusal(&names_of(error.path()), error.inner()))?;
    reader.end().map_err(|error| refusal(&[], &error))?;
    Ok(value)
}

/// Whether a JSON text writes the NUL character, which PostgreSQL takes in no text. Backslashes occur in strings only,
/// and a bare NUL is no JSON.
fn escapes_nul(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == b'\\') {
        let escape = rest.get(at + 1..).unwrap_or_default();
        if escape.starts_with(b"u0000") {
            return true;
        }
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

/// The steps from the body to a field, as a reader would write them.
fn names_of(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("[{index}]")),
            Segment::Map { key } => Some(echoable(key).to_owned()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn joined(names: &[String]) -> String {
    let mut text = String::new();
    for name in names {
        if !text.is_empty() && !name.starts_with('[') {
            text.push('.');
        }
        text.push_str(name);
    }
    text
}

fn refusal(names: &[String], error: &serde_json::Error) -> AdminError {
    if !error.is_data() {
        let (line, column) = (error.line(), error.column());
        let problem = format!("the body is not valid JSON: see line {line}, column {column}");
        return AdminError::new(ErrorCode::InvalidInput, problem);
    }
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if let Some(name) = quoted_after(text, "missing field ") {
        return AdminError::invalid(joined(&[names, &[name.to_owned()]].concat()), "is required");
    }
    if let Some(name) = quoted_after(text, "duplicate field ") {
        return AdminError::invalid(child(names, name), "is given twice: keep one");
    }
    if let Some(name) = quoted_after(text, "unknown field ") {
        return unknown_field(&child(names, name), text);
    }
    let field = if names.is_empty() {
        "body".to_owned()
    } else {
        joined(names)
    };
    AdminError::invalid(field, problem_without_value(text))
}

/// The path of a field that was refused by its name. The path may end with that name already.
fn child(names: &[String], name: &str) -> String {
    let name = echoable(name).to_owned();
    if names.last() == Some(&name) {
        joined(names)
    } else {
        joined(&[names, &[name]].concat())
    }
}

fn unknown_field(field: &str, text: &str) -> AdminError {
    let problem = match text.split_once(", expected ") {
        Some((_, known)) => format!("is not a field of this request; expected {known}"),
        None => "is not a field of this request: leave it out".to_owned(),
    };
    AdminError::invalid(field, problem)
}

/// What serde says, less the value that it repeats. Messages of our own types repeat none that could be a secret.
fn problem_without_value(text: &str) -> String {
    let repeats_value = ["invalid type", "invalid value", "unknown variant", "invalid length"];
    if !repeats_value.iter().any(|start| text.starts_with(start)) {
        return text.to_owned();
    }
    match text
        .rsplit_once(", expected ")
        .or_else(|| text.split_once(", expected "))
    {
        Some((_, expected)) => format!("expected {expected}"),
        None => "is not acceptable here".to_owned(),
    }
}

/// A name that somebody made up is repeated only when it looks like one: it could be a secret in the wrong place.
fn echoable(name: &str) -> &str {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.len() <= MAX_ECHOED_NAME_LEN && name.bytes().all(plain) {
        name
    } else {
        "(unknown)"
    }
}

fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let (name, _) = text.strip_prefix(start)?.strip_prefix('`')?.split_once('`')?;
    Some(name)
}

/// The query parameters.
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Params<T> {
    type Error = AdminError;
    type Future = Ready<Answer<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read_query(request.query_string()).map(Self))
    }
}

fn read_query<T: DeserializeOwned>(query: &str) -> Answer<T> {
    Query::<T>::from_query(query).map(Query::into_inner).map_err(|error| {
        let text = match &error {
            actix_web::error::QueryPayloadError::Deserialize(error) => error.to_string(),
            _ => String::new(),
        };
        if let Some(name) = quoted_after(&text, "missing field ") {
            return AdminError::invalid(name, "is required");
        }
        if let Some(name) = quoted_after(&text, "duplicate field ") {
            return AdminError::invalid(name, "is given twice: keep one");
        }
        if let Some(name) = quoted_after(&text, "unknown field ") {
            return unknown_field(echoable(name), &text);
        }
        AdminError::new(
            ErrorCode::InvalidInput,
            "the query parameters cannot be read: check their spelling",
        )
    })
}

/// Reads an optional query parameter.
pub(crate) fn parse_param<T: FromStr>(field: &'static str, text: Option<&str>, expected: &str) -> Answer<Option<T>> {
    text.map(|text| {
        text.parse()
            .map_err(|_| AdminError::invalid(field, format!("expected {expected}")))
    })
    .transpose()
}

/// The id in a path that has one. A text that is no id names nothing: 404.
pub(crate) struct PathId<T>(pub T);

impl<T: FromStr> FromRequest for PathId<T> {
    type Error = AdminError;
    type Future = Ready<Answer<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let text = Path::<String>::from_request(request, payload).into_inner().ok();
        let id = text.and_then(|text| text.parse().ok());
        ready(id.map(Self).ok_or_else(|| AdminError::not_found("object")))
    }
}

/// The header `Idempotency-Key`: 1 to 255 printable ASCII characters, once.
pub(crate) struct IdempotencyKey(pub String);

impl FromRequest for IdempotencyKey {
    type Error = AdminError;
    type Future = Ready<Answer<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut values = request.headers().get_all("idempotency-key");
        let key = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().filter(|text| is_idempotency_key(text)),
            _ => None,
        };
        ready(key.map(|key| Self(key.to_owned())).ok_or_else(|| {
            AdminError::invalid(
                "Idempotency-Key",
                "send this header once, with 1 to 255 printable characters that are new for every grant and the same \
                 for every repetition of it",
            )
        }))
    }
}

fn is_idempotency_key(text: &str) -> bool {
    (1..=MAX_IDEMPOTENCY_KEY_LEN).contains(&text.len()) && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use domain::secret::SecretText;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Color {
        Red,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Input {
        secret: SecretText,
        #[serde(default)]
        color: Option<Color>,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        flag: bool,
    }

    fn problem(json: &str) -> String {
        let error = read_json::<Input>(json.as_bytes()).unwrap_err();
        assert_eq!(error.status_code(), StatusCode::BAD_REQUEST, "{json}");
        error.to_string()
    }

    #[test]
    fn names_the_field_and_never_the_value() {
        for (json, says) in [
            (r#"{}"#, "`secret`: is required"),
            (r#"{"secret":["canary"]}"#, "`secret`: expected a string"),
            (r#"{"secret":"a","color":"canary"}"#, "`color`: expected `red`"),
            (
                r#"{"secret":"a","color":"canary, expected canary"}"#,
                "`color`: expected `red`",
            ),
            (
                r#"{"secret":"a","inner":[{"flag":"canary"}]}"#,
                "`inner[0].flag`: expected a boolean",
            ),
            (r#"{"secret":"a","inner":[{}]}"#, "`inner[0].flag`: is required"),
            (r#"{"secret":"a","secret":"b"}"#, "`secret`: is given twice"),
            (
                r#"{"secret":"a","tenant_id":"canary"}"#,
                "`tenant_id`: is not a field of this request",
            ),
            (r#"{"secret":"a","sk-canary":1}"#, "`(unknown)`: is not a field"),
            (r#"{"secret":"canary""#, "not valid JSON"),
            (r#"{"secret":"canary"} canary"#, "not valid JSON"),
            ("\"canary\"", "`body`: expected struct Input"),
        ] {
            let problem = problem(json);
            assert!(problem.contains(says), "{json}: {problem}");
            assert!(!problem.contains("canary"), "{json}: {problem}");
        }
    }

    #[test]
    fn sees_an_escaped_nul_and_nothing_like_it() {
        assert!(escapes_nul(br#"{"a":"x\u0000"}"#));
        assert!(escapes_nul(br#"{"a":"\\\u0000"}"#));
        assert!(!escapes_nul(br#"{"a":"\\u0000 \u0001"}"#));
        assert!(!escapes_nul(br"\"));
    }

    #[test]
    fn idempotency_keys_are_printable() {
        assert!(is_idempotency_key("order 7 / 2026"));
        for bad in ["", "a\tb", "é", &"x".repeat(256)] {
            assert!(!is_idempotency_key(bad), "{bad}");
        }
    }
}
