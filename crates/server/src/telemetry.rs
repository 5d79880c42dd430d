//! Logs and metrics of the process: set up once, before anything else runs.

use std::backtrace::{Backtrace, BacktraceStatus};

use anyhow::{Context, anyhow};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    config::{LogFormat, LogLevel, LogSection},
    json_lines::JsonLines,
};

/// Our own crates. Libraries may log what passes through them (headers, statements), so they are heard from `warn` up
/// only, whatever the level.
const OUR_CRATES: [&str; 14] = [
    "truerelay",
    "relay",
    "admin_api",
    "accounts",
    "catalog",
    "ledger",
    "llm",
    "rate_limiter",
    "request_log",
    "outbound",
    "store",
    "migrations",
    "domain",
    "simulator",
];

/// Sends log lines to standard error, and says where a panic happened.
///
/// # Errors
/// When logging was set up before.
pub fn start_logs(settings: &LogSection) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter_text(settings.level)).context("the log filter")?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Json => registry.with(lines.event_format(JsonLines)).try_init(),
        LogFormat::Text => registry.with(lines.with_target(false)).try_init(),
    }
    .map_err(|error| anyhow!("cannot start the log: {error}"))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn filter_text(level: LogLevel) -> String {
    let libraries = if level == LogLevel::Error { "error" } else { "warn" };
    let ours = OUR_CRATES.iter().map(|name| format!(",{name}={}", level.as_str()));
    std::iter::once(libraries.to_owned()).chain(ours).collect()
}

/// A panic's place. Its message only where it is a constant: a formatted one may hold a customer's text.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = panic
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(not shown)");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    // names and places of code only; taken when RUST_BACKTRACE asks for it
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(place, message, thread, backtrace, "panic");
}

/// Starts to collect metrics. The handle renders them, and must be given its upkeep.
///
/// # Errors
/// When metrics were set up before.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full(BEFORE_DISPATCH.to_owned()), &SHORT_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), &ITEMS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

const SECONDS: [f64; 16] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0,
];
/// What the relay itself takes is a matter of microseconds.
const SHORT_SECONDS: [f64; 14] = [
    0.000_01, 0.000_015, 0.000_02, 0.000_03, 0.000_05, 0.000_075, 0.000_1, 0.000_15, 0.000_25, 0.000_5, 0.001, 0.005,
    0.025, 0.25,
];
const BEFORE_DISPATCH: &str = "truerelay_before_dispatch_seconds";
const ITEMS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 350.0, 500.0];

fn describe() {
    describe_counter!(
        "truerelay_requests_total",
        "Relayed requests that have ended, by dialect and reason."
    );
    describe_counter!(
        "truerelay_http_responses_total",
        "Answers of this node, by listener and status."
    );
    describe_histogram!(
        "truerelay_http_response_head_seconds",
        Unit::Seconds,
        "Time from the head of a request to the head of its answer, by listener."
    );
    describe_gauge!(
        "truerelay_requests_in_flight",
        "Relayed requests that are open on this node."
    );
    describe_histogram!(
        "truerelay_hold_wait_seconds",
        Unit::Seconds,
        "Time that requests waited for their hold to be durable."
    );
    describe_histogram!(
        BEFORE_DISPATCH,
        Unit::Seconds,
        "Time from a request's last byte to its first dispatch: reading it, admission, routing, and the wait for its hold where it has to wait."
    );
    describe_histogram!(
        "truerelay_upstream_first_byte_seconds",
        Unit::Seconds,
        "Time from dispatch to the head of the provider's answer, by provider."
    );
    describe_histogram!(
        "truerelay_ledger_batch_items",
        "Items in each committed batch of the ledger."
    );
    describe_counter!(
        "truerelay_ledger_batch_retries_total",
        "Batches of the ledger that were sent again."
    );
    describe_counter!(
        "truerelay_ledger_orphans_total",
        "Requests that were closed without a hold."
    );
    describe_counter!(
        "truerelay_ledger_items_rejected_total",
        "Items that the ledger's database refused for good."
    );
    describe_counter!(
        "truerelay_ledger_holds_expired_total",
        "Holds that were older than any request and closed."
    );
    describe_gauge!(
        "truerelay_ledger_queue_depth",
        "Items that wait for the ledger, and ends that are owed."
    );
    describe_counter!(
        "truerelay_credential_outages_total",
        "Times that a provider refused a credential."
    );
    describe_counter!(
        "truerelay_kept_connections_died_total",
        "Requests that met a connection to their provider that had died while it was idle, and were sent again over a new one."
    );
    describe_gauge!(
        "truerelay_credentials_resting",
        "Credentials that this node leaves out for a while."
    );
    describe_counter!(
        "truerelay_relay_unpriced_total",
        "Answers that could not be priced and were not charged: look at the log, and at the model's price."
    );
    describe_counter!(
        "truerelay_rate_limiter_fallback_total",
        "Decisions that were made in this process because Redis did not answer."
    );
    describe_gauge!(
        "truerelay_rate_limiter_redis_up",
        "1 while limits are counted in Redis, 0 while in this process."
    );
    describe_counter!(
        "truerelay_unattended_answers_total",
        "Answers read to their end for clients that had left, because the provider bills them anyway."
    );
    describe_counter!(
        "truerelay_ledger_costs_lost_total",
        "Costs of requests sent before their refusal that could not be booked: compare with the provider's invoice."
    );
    describe_counter!(
        "truerelay_ledger_lots_expired_total",
        "Lots of credit of which something expired."
    );
    describe_gauge!(
        "truerelay_ledger_audit_clean",
        "1 if the last audit of the books by this node found nothing wrong, else 0."
    );
    describe_gauge!(
        "truerelay_ledger_audit_offences",
        "Checks that failed in the last audit by this node: the log names the first row of each."
    );
    describe_gauge!(
        "truerelay_ledger_audit_duration_seconds",
        Unit::Seconds,
        "How long the last audit by this node took."
    );
    describe_gauge!(
        "truerelay_ledger_audit_last_run_timestamp_seconds",
        Unit::Seconds,
        "When the last audit by this node ended, since the epoch."
    );
    describe_gauge!("truerelay_ready", "1 while the node wants requests.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_never_heard_below_warn() {
        for level in [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ] {
            let text = filter_text(level);
            EnvFilter::try_new(&text).expect("it is a filter");
            let general = text.split(',').next().expect("there is a first directive");
            assert!(matches!(general, "warn" | "error"), "{text}");
            assert!(text.contains(&format!("ledger={}", level.as_str())), "{text}");
        }
    }
}
