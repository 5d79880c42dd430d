//! PURE: which attempts of a request an upstream has failed: what outages are counted by.

use std::collections::BTreeMap;

use crate::request::{AttemptRecord, Reason, RequestRecord};

/// The flag of a request that took longer than any may: a client that reads slowly brings that about too, so it is no
/// failure of the upstream.
pub const TOOK_TOO_LONG: &str = "took_too_long";

/// The flag of an answer that did not come to its end and for which its client let the upstream wait: an upstream that cannot
/// get rid of its bytes gives up at some time, and that is no failure of it.
pub const READ_SLOWLY: &str = "read_slowly";

/// The attempts that came to nothing, or whose answer broke off, by the fault of their upstream. What it refuses (a 4xx:
/// the request, the credential, too many) is no failure of its.
pub fn failed_attempts(record: &RequestRecord) -> impl Iterator<Item = &AttemptRecord> {
    let has = |wanted: &str| record.flags.iter().any(|flag| flag == wanted);
    let broke_off = match record.reason {
        _ if has(READ_SLOWLY) => false,
        Reason::UpstreamCutOff | Reason::UpstreamNoOutput => true,
        Reason::TimeoutBeforeOutput | Reason::TimeoutAfterOutput => !has(TOOK_TOO_LONG),
        _ => false,
    };
    record
        .attempts
        .iter()
        .filter(move |attempt| match attempt.outcome.as_str() {
            "won" => broke_off,
            // our own guard, before anything was sent
            "forbidden_address" | "invalid_url" | "tls_setup" => false,
            // upstreams may close what is idle; whether this one is there is said by the attempt that followed
            "kept_connection_died" => false,
            // the head of a whole answer comes when it is complete: it had all the time that a request has
            "first_byte_timeout" => record.stream,
            _ => !attempt.outcome.starts_with("status_4"),
        })
}

/// The slugs of the providers that failed a request, each once however many of its attempts they failed, and whether it was
/// their answer that was relayed.
pub fn failed_providers(record: &RequestRecord) -> BTreeMap<&str, bool> {
    let mut providers = BTreeMap::new();
    for attempt in failed_attempts(record) {
        *providers.entry(attempt.provider.as_str()).or_default() |= attempt.outcome == "won";
    }
    providers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failed(reason: Reason, flags: &[&str], stream: bool, attempts: &[(&str, &str)]) -> Vec<(String, bool)> {
        let attempt = |(provider, outcome): &(&str, &str)| {
            json!({
                "offer": crate::OfferId::generate(), "pool": crate::PoolId::generate(),
                "credential": crate::CredentialId::generate(),
                "provider": provider, "status": null, "outcome": outcome, "elapsed_ms": 1,
            })
        };
        let record: RequestRecord = serde_json::from_value(json!({
            "id": crate::RequestId::generate(), "tenant": crate::TenantId::generate(), "key": crate::KeyId::generate(),
            "dialect": crate::request::Dialect::OpenaiChat, "requested_model": "m", "model": "m", "served_model": null,
            "provider": null, "pool": null, "offer": null, "price_version": 1, "multiplier": "", "stream": stream,
            "status": 200, "reason": reason, "usage": crate::usage::Usage::default(),
            "usage_source": crate::usage::UsageSource::None, "flags": flags, "lines": [], "held": crate::Amount::ZERO,
            "started_at": crate::clock::UnixMs(1), "first_byte_ms": null, "duration_ms": 1,
            "attempts": attempts.iter().map(attempt).collect::<Vec<_>>(),
        }))
        .unwrap();
        let found = failed_providers(&record).into_iter();
        found
            .map(|(provider, has_won)| (provider.to_owned(), has_won))
            .collect()
    }

    #[test]
    fn a_request_is_one_failure_of_each_provider_that_failed_it() {
        let attempts = [
            ("a", "nothing_came"),
            ("a", "status_500"),
            ("b", "status_429"),
            ("c", "won"),
        ];
        let one = |name: &str, has_won| (name.to_owned(), has_won);
        assert_eq!(failed(Reason::Completed, &[], true, &attempts), [one("a", false)]);
        assert_eq!(
            failed(Reason::UpstreamCutOff, &[], true, &attempts),
            [one("a", false), one("c", true)]
        );
        let again = [("a", "nothing_came"), ("a", "won")];
        assert_eq!(failed(Reason::UpstreamCutOff, &[], true, &again), [one("a", true)]);
        assert_eq!(failed(Reason::Completed, &[], true, &again), [one("a", false)]);
    }

    #[test]
    fn what_a_client_can_bring_about_is_no_failure() {
        let won = [("a", "won")];
        for reason in [Reason::TimeoutBeforeOutput, Reason::TimeoutAfterOutput] {
            assert_eq!(failed(reason, &[], true, &won).len(), 1, "the upstream was silent");
            assert!(
                failed(reason, &[TOOK_TOO_LONG], true, &won).is_empty(),
                "all of it took too long"
            );
        }
        for reason in [
            Reason::UpstreamCutOff,
            Reason::UpstreamNoOutput,
            Reason::TimeoutAfterOutput,
        ] {
            assert_eq!(failed(reason, &[], true, &won).len(), 1);
            assert!(failed(reason, &[READ_SLOWLY], true, &won).is_empty());
            // what another upstream failed before is its failure all the same
            let after_another = [("b", "status_500"), ("a", "won")];
            assert_eq!(
                failed(reason, &[READ_SLOWLY], true, &after_another),
                [("b".to_owned(), false)]
            );
        }
        let silent = [("a", "first_byte_timeout")];
        assert_eq!(failed(Reason::TimeoutBeforeOutput, &[], true, &silent).len(), 1);
        assert!(failed(Reason::TimeoutBeforeOutput, &[], false, &silent).is_empty());
        assert!(failed(Reason::ClientGone, &[], true, &won).is_empty());
    }

    #[test]
    fn an_idle_connection_may_be_closed_and_what_follows_counts() {
        let dead = ("a", "kept_connection_died");
        assert!(failed(Reason::Completed, &[], true, &[dead, ("a", "won")]).is_empty());
        let gone = [dead, ("a", "connect_failed")];
        assert_eq!(failed(Reason::UpstreamFailed, &[], true, &gone).len(), 1);
    }
}
