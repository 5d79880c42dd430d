//! Recorded answers of real providers, fed through the observers in every chunking.
//!
//! Fixtures are copies of recordings from public repositories; `fixtures/PROVENANCE.tsv` names source and licence of each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::{request::Dialect, usage::TokenClass};
use llm::{
    ChatRequest, Observed, ProviderProfile, StreamObserver, StreamOptions, UsageLimits, UsageReport,
    estimate_input_tokens, estimate_output_tokens, observe_body,
    providers::{FaultKind, classify},
};
use serde_json::Value;

struct Recording {
    name: String,
    provider: String,
    dialect: Dialect,
    json: Value,
}

impl Recording {
    fn body(&self) -> Bytes {
        Bytes::from(self.json["response"]["body_text"].as_str().expect("text").to_owned())
    }

    fn status(&self) -> u16 {
        u16::try_from(self.json["response"]["status"].as_u64().expect("status")).expect("small")
    }

    fn is_stream(&self) -> bool {
        self.json["stream"].as_bool().unwrap_or(false)
    }

    fn profile(&self) -> ProviderProfile {
        ProviderProfile::find(&self.provider, self.dialect)
    }

    fn options(&self) -> StreamOptions {
        StreamOptions::new(self.dialect, self.profile().usage_profile)
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn recordings() -> Vec<Recording> {
    let mut found = Vec::new();
    for provider in std::fs::read_dir(fixtures())
        .expect("fixtures")
        .map(|entry| entry.expect("entry").path())
    {
        for (folder, dialect) in [
            ("openai_chat", Dialect::OpenaiChat),
            ("anthropic_messages", Dialect::AnthropicMessages),
        ] {
            let Ok(files) = std::fs::read_dir(provider.join(folder)) else {
                continue;
            };
            for file in files.map(|entry| entry.expect("entry").path()) {
                let json = serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("JSON");
                found.push(Recording {
                    name: file.strip_prefix(fixtures()).expect("inside").display().to_string(),
                    provider: provider.file_name().expect("name").to_string_lossy().into_owned(),
                    dialect,
                    json,
                });
            }
        }
    }
    assert_eq!(found.len(), 41, "one for each line of PROVENANCE.tsv");
    found
}

/// The same bytes in pieces: whole, by line, one byte, seven bytes, and cut inside every character that allows it.
fn chunkings(body: &Bytes) -> Vec<Vec<Bytes>> {
    let by_size = |size: usize| body.chunks(size).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    let lines = body
        .split_inclusive(|byte| *byte == b'\n')
        .map(Bytes::copy_from_slice)
        .collect();
    let mut inside_characters = Vec::new();
    let mut from = 0;
    for at in 1..body.len() {
        if body[at] & 0b1100_0000 == 0b1000_0000 {
            inside_characters.push(body.slice(from..at));
            from = at;
        }
    }
    inside_characters.push(body.slice(from..));
    vec![vec![body.clone()], lines, by_size(1), by_size(7), inside_characters]
}

fn run(options: StreamOptions, pieces: &[Bytes]) -> (Vec<u8>, Observed) {
    let mut observer = StreamObserver::new(options);
    let mut out = Vec::new();
    for piece in pieces {
        observer
            .push(piece, &mut |bytes| out.extend_from_slice(&bytes))
            .expect("small events");
        out.extend(observer.take_after_error().into_iter().flatten());
    }
    observer.finish(&mut |bytes| out.extend_from_slice(&bytes));
    out.extend(observer.take_after_error().into_iter().flatten());
    (out, observer.conclude())
}

fn assert_usage(recording: &Recording, observed: &Observed) {
    let expected = &recording.json["expect"]["usage"];
    if expected.is_null() {
        assert_eq!(observed.usage, UsageReport::Missing, "{}", recording.name);
        return;
    }
    let UsageReport::Reported(reported) = &observed.usage else {
        panic!("{}: no usage: {:?}", recording.name, observed.usage);
    };
    let usage = reported.usage;
    assert!(!reported.inconsistent, "{}", recording.name);
    assert_eq!(
        usage.total_input_tokens(),
        expected["input_total"],
        "{}",
        recording.name
    );
    assert_eq!(
        usage.total_output_tokens(),
        expected["output_total"],
        "{}",
        recording.name
    );
    assert_eq!(
        usage.tokens(TokenClass::CachedInputRead),
        expected["cache_read"],
        "{}",
        recording.name
    );
    let written = usage.tokens(TokenClass::CacheWrite5m) + usage.tokens(TokenClass::CacheWrite1h);
    assert_eq!(written, expected["cache_write"], "{}", recording.name);
}

#[test]
fn streams_pass_byte_for_byte_and_report_alike_in_every_chunking() {
    let streams: Vec<_> = recordings()
        .into_iter()
        .filter(|recording| recording.is_stream())
        .collect();
    assert_eq!(streams.len(), 14);
    for recording in streams {
        let body = recording.body();
        let mut first: Option<Observed> = None;
        for pieces in chunkings(&body) {
            let (out, observed) = run(recording.options(), &pieces);
            assert_eq!(out, body, "{}", recording.name);
            assert_usage(&recording, &observed);
            let text = String::from_utf8_lossy(&body);
            assert_eq!(
                observed.done_seen,
                text.contains("[DONE]") || text.contains("message_stop")
            );
            assert_eq!(
                observed.finish_seen,
                recording.json["expect"]["finish"].is_string(),
                "{}",
                recording.name
            );
            assert_eq!(
                observed.error.is_some(),
                recording.json["expect"]["error"].is_object(),
                "{}",
                recording.name
            );
            assert!(observed.output_began, "{}", recording.name);
            assert!(observed.served_model.is_some(), "{}", recording.name);
            assert!(observed.other_models.is_empty(), "{}", recording.name);
            assert_eq!(
                *first.get_or_insert_with(|| observed.clone()),
                observed,
                "{}",
                recording.name
            );
        }
    }
}

#[test]
fn the_usage_chunk_alone_is_dropped_when_it_was_not_asked_for() {
    for recording in recordings()
        .into_iter()
        .filter(|r| r.is_stream() && r.dialect == Dialect::OpenaiChat)
    {
        let body = recording.body();
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        let kept: String = text
            .split_inclusive("\n\n")
            .filter(|event| !(event.contains("\"choices\":[],\"usage\":{")))
            .collect();
        let drops = ["openai/openai_chat/parallel", "openai/openai_chat/text-stream"];
        assert_eq!(
            kept != text,
            drops.iter().any(|name| recording.name.starts_with(name)),
            "{}",
            recording.name
        );
        for pieces in chunkings(&body) {
            let options = StreamOptions {
                strip_usage_chunk: true,
                ..recording.options()
            };
            let (out, observed) = run(options, &pieces);
            assert_eq!(String::from_utf8_lossy(&out), kept, "{}", recording.name);
            assert_usage(&recording, &observed);
        }
    }
}

#[test]
fn bodies_report_their_usage_and_end() {
    let bodies = recordings()
        .into_iter()
        .filter(|recording| !recording.is_stream() && recording.status() == 200);
    for recording in bodies {
        let observed = observe_body(
            recording.dialect,
            recording.profile().usage_profile,
            UsageLimits::NONE,
            &recording.body(),
        );
        assert_usage(&recording, &observed);
        assert!(
            observed.ended_normally() && observed.finish_seen && observed.output_began,
            "{}",
            recording.name
        );
        let served: Value = serde_json::from_slice(&recording.body()).expect("JSON");
        assert_eq!(
            observed.served_model.as_deref(),
            served["model"].as_str(),
            "{}",
            recording.name
        );
    }
}

/// The last event that names a model names another one.
fn tampered(text: &str) -> Option<String> {
    let at = text.rfind("\"model\":")? + "\"model\":".len();
    let (blank, rest) = text[at..].split_at(text[at..].find('"')?);
    let name = rest[1..].split('"').next()?;
    Some(format!("{}{blank}\"another\"{}", &text[..at], &rest[name.len() + 2..]))
}

#[test]
fn a_model_that_changes_in_mid_stream_is_seen_in_every_chunking() {
    let mut seen = 0;
    for recording in recordings().into_iter().filter(Recording::is_stream) {
        let body = recording.body();
        let text = std::str::from_utf8(&body).expect("UTF-8");
        // Anthropic names it once
        if recording.status() != 200 || text.matches("\"model\":").count() < 2 {
            continue;
        }
        let Some(changed) = tampered(text) else { continue };
        seen += 1;
        for pieces in chunkings(&Bytes::from(changed)) {
            let (_, observed) = run(recording.options(), &pieces);
            let named: Vec<&str> = observed.reported_models().collect();
            assert_eq!((named.len(), named.last()), (2, Some(&"another")), "{}", recording.name);
        }
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn refusals_are_read() {
    let mut seen = 0;
    for recording in recordings().into_iter().filter(|recording| recording.status() != 200) {
        let fault = classify(recording.dialect, recording.status(), None, None, &recording.body());
        let kind = match recording.status() {
            401 => FaultKind::Auth,
            429 => FaultKind::RateLimited,
            _ => FaultKind::ClientRequest,
        };
        assert_eq!(fault.kind, kind, "{}", recording.name);
        let said = &recording.json["expect"]["error"];
        assert_eq!(fault.message.as_deref(), said["message"].as_str(), "{}", recording.name);
        assert_eq!(
            fault.code.as_deref(),
            said["code"].as_str().or(said["type"].as_str()),
            "{}",
            recording.name
        );
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn an_error_in_a_stream_is_seen_with_its_words() {
    let groq = recordings()
        .into_iter()
        .find(|r| r.name.contains("rare-error-in-stream"))
        .expect("recorded");
    let (_, observed) = run(groq.options(), &[groq.body()]);
    let error = observed.error.clone().expect("an error");
    assert_eq!(error.code.as_deref(), Some("tool_use_failed"));
    assert!(error.message.expect("words").starts_with("Tool choice is required"));
    assert!(!observed.ended_normally());
    let lengths = ["text_len", "reasoning_len"].map(|key| groq.json["expect"][key].as_u64().expect("length"));
    assert_eq!(
        u64::try_from(observed.output.text.chars().count()),
        Ok(lengths.iter().sum())
    );
}

#[test]
fn without_usage_the_text_is_kept_and_the_estimate_is_near_the_report() {
    for recording in recordings().into_iter().filter(|recording| recording.is_stream()) {
        let body = recording.body();
        // cut off before the end: the report, where there is one, does not arrive
        let pieces: Vec<Bytes> = vec![body.slice(..body.len() * 3 / 4)];
        let mut observer = StreamObserver::new(recording.options());
        for piece in &pieces {
            observer.push(piece, &mut |_| {}).expect("small events");
        }
        let (metered, _) = observer.metered_output();
        let observed = observer.conclude();
        assert!(
            !matches!(observed.usage, UsageReport::Reported(_)) || recording.name.contains("tool"),
            "{}",
            recording.name
        );
        assert!(
            (u64::from(observed.output_began)..=estimate_output_tokens(&observed)).contains(&metered)
                || matches!(observed.usage, UsageReport::Reported(_)),
            "{}: {metered}",
            recording.name
        );
    }
    let plain = recordings()
        .into_iter()
        .find(|r| r.name.contains("text-no-usage-stream"))
        .expect("recorded");
    let (_, observed) = run(plain.options(), &chunkings(&plain.body())[3]);
    assert_eq!(
        u64::try_from(observed.output.text.len()).expect("short"),
        plain.json["expect"]["text_len"]
    );
    let near = estimate_output_tokens(&observed);
    assert!((3..=10).contains(&near), "{near}");
}

#[test]
fn recorded_requests_are_accepted_bounded_and_spliced_to_themselves() {
    let mut bounded = 0;
    for recording in recordings() {
        let mut sent = recording.json["request"]["body"].clone();
        if recording.provider == "azure" && sent["model"].is_null() {
            // Azure's older paths name the deployment in the URL
            sent["model"] = "deployment".into();
        }
        let body = Bytes::from(serde_json::to_vec(&sent).expect("JSON"));
        let Ok(request) = ChatRequest::parse(recording.dialect, body.clone()) else {
            panic!("{}: {:?}", recording.name, ChatRequest::parse(recording.dialect, body));
        };
        assert_eq!(Some(request.model()), sent["model"].as_str());
        let profile = recording.profile();
        let Ok(bound) = request.input_bound(&profile.bound_rules(request.model(), 200_000)) else {
            continue;
        };
        let total = recording.json["expect"]["usage"]["input_total"].as_u64();
        assert!(
            total.is_none_or(|total| total <= bound.tokens),
            "{}: {total:?} {bound:?}",
            recording.name
        );
        let tight = request
            .tighter_input_bound(&profile.bound_rules(request.model(), 200_000), request.text_tokens())
            .expect("bounded");
        assert!(
            total.is_none_or(|total| total <= tight.tokens),
            "{}: {total:?} {tight:?}",
            recording.name
        );
        assert!(
            tight.tokens <= bound.tokens && estimate_input_tokens(&request) > 0,
            "{}",
            recording.name
        );
        bounded += 1;
    }
    assert!(bounded >= 35, "{bounded}");
}

#[test]
fn the_catalogs_usage_cases_normalise_as_expected() {
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(fixtures().join("usage_cases.json")).expect("readable")).expect("JSON");
    assert_eq!(cases.len(), 35);
    for case in cases {
        let profile = case["usage_profile"]
            .as_str()
            .expect("named")
            .parse()
            .expect("implemented");
        let normalised = llm::normalise_usage(profile, case["usage"].to_string().as_bytes()).expect("plausible");
        let mut found = serde_json::Map::new();
        for class in TokenClass::ALL {
            found.insert(class.as_str().to_owned(), normalised.usage.tokens(class).into());
        }
        found.insert(
            "web_search_calls".to_owned(),
            normalised.usage.units.web_searches.into(),
        );
        found.insert("requests".to_owned(), normalised.usage.units.requests.into());
        found.retain(|_, count| *count != 0);
        assert_eq!(Value::Object(found), case["normalised"], "{}", case["id"]);
        let flagged = case["flags"]
            .as_array()
            .expect("list")
            .contains(&"usage_inconsistent".into());
        assert_eq!(normalised.inconsistent, flagged, "{}", case["id"]);
    }
}

#[test]
fn the_meter_never_runs_ahead_of_the_providers_own_count() {
    let mut compared = 0;
    for recording in recordings().into_iter().filter(|recording| recording.is_stream()) {
        let mut observer = StreamObserver::new(recording.options());
        let mut last = 0;
        for line in &chunkings(&recording.body())[1] {
            observer.push(line, &mut |_| {}).expect("small events");
            let (metered, _) = observer.metered_output();
            assert!(metered >= last, "{}: {metered} after {last}", recording.name);
            last = metered;
        }
        for pieces in chunkings(&recording.body()) {
            let mut observer = StreamObserver::new(recording.options());
            for piece in &pieces {
                observer.push(piece, &mut |_| {}).expect("small events");
            }
            assert_eq!(
                observer.metered_output().0,
                last,
                "{}: metered only once",
                recording.name
            );
        }
        if let UsageReport::Reported(report) = &observer.conclude().usage {
            let reported = report.usage.total_output_tokens();
            assert!(
                (1..=reported).contains(&last),
                "{}: {last} of {reported}",
                recording.name
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 11);
}
