//! The provider's side over HTTP: reads a request, chooses the rule, plays the plan.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use socket2::Socket;

use crate::{
    Settings, anthropic, openai,
    plan::{Plan, Step, cut_into_chunks, event},
    refusal::Refusal,
    script::{Answer, CutKind, Facts, Fixed, Generate, Rule},
    state::{LogEntry, Outcome, State, Transmission},
    text::Dice,
};

/// The socket below a request, for a reset that HTTP has no word for.
pub(crate) struct Connection(pub(crate) Socket);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Openai,
    Anthropic,
}

/// Answers everything that is not the control API.
pub(crate) async fn provide(
    request: HttpRequest,
    body: web::Bytes,
    state: web::Data<State>,
    settings: web::Data<Settings>,
) -> HttpResponse {
    let credential = credential_of(&request);
    let parsed: Option<Value> = serde_json::from_slice(&body).ok();
    let entry = log_entry(&request, &body, parsed.as_ref(), &credential, settings.record_bodies);
    let model = entry.model.clone();
    let transmission = state.clone().into_inner().open(entry);
    let dialect = if request.path().ends_with("/messages") {
        Dialect::Anthropic
    } else {
        Dialect::Openai
    };

    let refusal = refuse_early(&request, &credential, &settings);
    let facts = Facts {
        model: &model,
        credential: &credential,
        path: request.path(),
        stream: parsed
            .as_ref()
            .and_then(|body| body.get("stream"))
            .and_then(Value::as_bool)
            .unwrap_or(false),
        body: &body,
    };
    // A refused request uses up no rule.
    let rule = if refusal.is_none() {
        state.choose_rule(&facts)
    } else {
        Rule::default()
    };
    let mut dice = Dice::from_texts(&[&model, &transmission.id().to_string()]);
    let plan = match (refusal, &rule.answer) {
        (Some(refusal), _) => refuse(dialect, &refusal, &transmission, &mut dice),
        (None, Answer::Fixed(fixed)) => match fixed_plan(fixed) {
            Ok(plan) => {
                transmission.note_answer(plan.status, 0, None);
                plan
            }
            Err(refusal) => refuse(dialect, &refusal, &transmission, &mut dice),
        },
        (None, Answer::Generate(generate)) => {
            let mut with = generate.clone();
            with.token_delay_ms.get_or_insert(settings.token_delay_ms);
            generated_plan(dialect, &request, parsed.as_ref(), &with, &transmission, &mut dice)
        }
    };
    let error_data = rule.faults.error_event.as_ref().and_then(|event| event.data.as_ref());
    let plan = plan.with_faults(&rule.faults, || match dialect {
        Dialect::Openai => openai::error_event(error_data),
        Dialect::Anthropic => anthropic::error_event(error_data),
    });
    play(plan, transmission, &request).await
}

fn credential_of(request: &HttpRequest) -> String {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
    };
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    // `api-key` is Azure's
    let presented = header("x-api-key").or(header("api-key")).or(bearer);
    presented.unwrap_or_default().trim().to_owned()
}

fn log_entry(
    request: &HttpRequest,
    body: &Bytes,
    parsed: Option<&Value>,
    credential: &str,
    record_bodies: bool,
) -> LogEntry {
    let characters = credential.chars().count();
    let secret = [
        "authorization",
        "x-api-key",
        "api-key",
        "proxy-authorization",
        "cookie",
        "x-goog-api-key",
    ];
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in request.headers() {
        let shown = if secret.contains(&name.as_str()) {
            "***".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        let slot = headers.entry(name.as_str().to_owned()).or_default();
        if !slot.is_empty() {
            slot.push_str(", ");
        }
        slot.push_str(&shown);
    }
    let kept_body = match parsed {
        _ if !record_bodies => Value::Null,
        Some(body) => body.clone(),
        None => Value::from(String::from_utf8_lossy(body)),
    };
    LogEntry {
        method: request.method().to_string(),
        path: request.path().to_owned(),
        query: request.query_string().to_owned(),
        model: parsed
            .and_then(|body| body.get("model"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        credential_suffix: credential.chars().skip(characters.saturating_sub(8)).collect(),
        headers,
        body: kept_body,
        ..LogEntry::default()
    }
}

fn refuse_early(request: &HttpRequest, credential: &str, settings: &Settings) -> Option<Refusal> {
    let refusal = |status, kind, code, message: &str| Refusal {
        status,
        kind,
        code,
        message: message.to_owned(),
    };
    let anthropic = request.path() == "/v1/messages";
    if !anthropic && request.path() != "/v1/chat/completions" {
        return Some(refusal(404, "invalid_request_error", None, "Invalid URL"));
    }
    if request.method() != actix_web::http::Method::POST {
        return Some(refusal(
            405,
            "invalid_request_error",
            None,
            "Not allowed to do that on this path: use POST",
        ));
    }
    let wrong = settings
        .required_key
        .as_deref()
        .is_some_and(|required| required != credential);
    match (anthropic, credential.is_empty() || wrong) {
        (_, false) => None,
        (true, true) => Some(refusal(401, "authentication_error", None, "invalid x-api-key")),
        (false, true) => Some(refusal(
            401,
            "invalid_request_error",
            Some("invalid_api_key"),
            "Incorrect API key provided.",
        )),
    }
}

fn refuse(dialect: Dialect, refusal: &Refusal, transmission: &Transmission, dice: &mut Dice) -> Plan {
    let request_id = format!("req_01{}", dice.id(22));
    let (header, body) = match dialect {
        Dialect::Openai => ("x-request-id", openai::error_body(refusal)),
        Dialect::Anthropic => ("request-id", anthropic::error_body(refusal, &request_id)),
    };
    transmission.note_answer(refusal.status, 0, None);
    Plan {
        status: refusal.status,
        headers: vec![
            ("content-type".into(), "application/json".into()),
            (header.into(), request_id),
        ],
        steps: vec![event(body, 0)],
        ..Plan::default()
    }
}

fn generated_plan(
    dialect: Dialect,
    request: &HttpRequest,
    body: Option<&Value>,
    with: &Generate,
    transmission: &Transmission,
    dice: &mut Dice,
) -> Plan {
    let mut read = || -> Result<(Plan, u64, Option<Value>), Refusal> {
        let body = body.ok_or_else(|| Refusal::invalid("We could not parse the JSON body of your request."))?;
        match dialect {
            Dialect::Openai => {
                let chat = openai::read(body)?;
                let (plan, usage) = openai::plan(&chat, with, dice, unix_seconds());
                Ok((plan, chat.ask.input_tokens, usage))
            }
            Dialect::Anthropic => {
                if !request.headers().contains_key("anthropic-version") {
                    return Err(Refusal::invalid("anthropic-version: header is required"));
                }
                let ask = anthropic::read(body)?;
                let (plan, usage) = anthropic::plan(&ask, with, dice);
                Ok((plan, ask.input_tokens, usage))
            }
        }
    };
    match read() {
        Ok((plan, input_tokens, usage)) => {
            transmission.note_answer(plan.status, input_tokens, usage);
            plan
        }
        Err(refusal) => refuse(dialect, &refusal, transmission, dice),
    }
}

fn unix_seconds() -> i64 {
    domain::clock::UnixMs::now().0 / 1000
}

/// The plan of a fixed answer. It was checked when the rule came in; a body that cannot be read refuses.
pub(crate) fn fixed_plan(fixed: &Fixed) -> Result<Plan, Refusal> {
    let body = fixed.body().map_err(Refusal::invalid)?;
    let delay = std::time::Duration::from_millis(fixed.delay_ms);
    let mut headers: Vec<(String, String)> = fixed
        .headers
        .iter()
        // Framing is this server's own; the recorded one belonged to another connection.
        .filter(|(name, _)| {
            !["content-length", "transfer-encoding", "connection", "content-encoding"]
                .contains(&name.to_ascii_lowercase().as_str())
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        headers.push(("content-type".into(), "application/json".into()));
    }
    let mut steps = Vec::new();
    for bytes in cut_into_chunks(&body, &fixed.chunks) {
        if !delay.is_zero() {
            steps.push(Step::Sleep(delay));
        }
        steps.push(Step::Send {
            bytes,
            tokens: 0,
            event: true,
        });
    }
    Ok(Plan {
        before_head: Vec::new(),
        status: fixed.status,
        headers,
        steps,
    })
}

/// Plays a plan: the steps before the head here, the body's steps while the server polls for more.
async fn play(plan: Plan, mut transmission: Transmission, request: &HttpRequest) -> HttpResponse {
    let mut cut = None;
    for step in plan.before_head {
        match step {
            Step::Cut(how) => cut = Some(how),
            other => wait(&other, &transmission).await,
        }
    }
    let status = StatusCode::from_u16(plan.status).unwrap_or(StatusCode::OK);
    let mut response = HttpResponse::build(status);
    for (name, value) in plan.headers {
        response.append_header((name, value));
    }
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    if let Some(how) = cut {
        // A body that fails at its first poll takes the unsent head with it.
        break_connection(how, connection.as_deref());
        transmission.end(Outcome::Cut);
        return response.streaming(stream::once(async {
            Err::<Bytes, _>(std::io::Error::other("cut by script"))
        }));
    }
    if plan.steps.is_empty() {
        transmission.end(Outcome::Finished);
        return response.finish();
    }
    if let [Step::Send { bytes, tokens, event }] = plan.steps.as_slice() {
        transmission.note_generated(*tokens);
        transmission.note_sent(bytes.len(), *event);
        transmission.end(Outcome::Finished);
        return response.body(bytes.clone());
    }
    response.streaming(body_stream(plan.steps, transmission, connection))
}

fn body_stream(
    steps: Vec<Step>,
    transmission: Transmission,
    connection: Option<Arc<Connection>>,
) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> {
    let start = (steps.into_iter(), transmission, connection);
    stream::unfold(start, |(mut steps, mut transmission, connection)| async move {
        loop {
            match steps.next() {
                Some(Step::Send { bytes, tokens, event }) => {
                    transmission.note_generated(tokens);
                    transmission.note_sent(bytes.len(), event);
                    return Some((Ok(bytes), (steps, transmission, connection)));
                }
                Some(Step::Cut(how)) => {
                    // One turn for the server to write what it was given; an error at once would take that along.
                    tokio::task::yield_now().await;
                    break_connection(how, connection.as_deref());
                    transmission.end(Outcome::Cut);
                    return Some((
                        Err(std::io::Error::other("cut by script")),
                        (steps, transmission, connection),
                    ));
                }
                Some(other) => wait(&other, &transmission).await,
                None => {
                    transmission.end(Outcome::Finished);
                    return None;
                }
            }
        }
    })
}

async fn wait(step: &Step, transmission: &Transmission) {
    match step {
        Step::Sleep(delay) => tokio::time::sleep(*delay).await,
        Step::Gate(gate) => transmission.state().pass_gate(gate).await,
        Step::Hang => std::future::pending().await,
        Step::Think { tokens } => transmission.note_generated(*tokens),
        Step::Send { .. } | Step::Cut(_) => {}
    }
}

/// Prepares how the socket closes when the server drops it, which a failed body makes it do.
fn break_connection(how: CutKind, connection: Option<&Connection>) {
    if let (CutKind::Rst, Some(connection)) = (how, connection) {
        // A closed socket is what was asked for: nothing is left to do about a failure.
        connection.0.set_linger(Some(std::time::Duration::ZERO)).ok();
    }
}
