//! The published refund policy, proved: for every row that `GET /v1/refund-policy` publishes the case is provoked, and the
//! charge is what the row says. A row without a proof here does not compile.

mod always;
mod cases;

use domain::{
    Amount,
    refund_rules::{Always, Reason},
};
use serde_json::Value;
use support::TestApp;

use crate::charges::cost;

/// List prices of input and output, in nano-USD a token, and the multiplier in tenths.
#[derive(Clone, Copy)]
struct Price(i64, i64, i64);

const GPT_4O: Price = Price(2_500, 10_000, 17);
const SONNET: Price = Price(3_000, 15_000, 0);
const GROQ: Price = Price(1_000, 2_000, 10);

/// A case that was provoked.
struct Case {
    /// As its customer sees it.
    closed: Value,
    price: Price,
    /// Whether the provider reported usage.
    is_reported: bool,
    /// Whether a provider has worked in vain, so that the operator bears something.
    is_borne: bool,
    /// What had been noted when the node went away, in nano-USD.
    noted: i64,
}

impl Case {
    fn of(closed: Value) -> Self {
        Self {
            closed,
            price: GPT_4O,
            is_reported: false,
            is_borne: false,
            noted: 0,
        }
    }

    fn reported(self) -> Self {
        Self {
            is_reported: true,
            ..self
        }
    }

    fn borne(self) -> Self {
        Self { is_borne: true, ..self }
    }

    /// What the usage on the request costs at its prices, no more than was held.
    fn price_of_usage(&self) -> Amount {
        let Price(input, output, tenths) = self.price;
        let tokens = |class: &str| self.closed["usage"]["tokens"][class].as_i64().unwrap_or(0);
        let list = tokens("input") * input + tokens("output") * output;
        let held: Amount = self.closed["held_usd"].as_str().unwrap().parse().unwrap();
        Amount::from_nanos((list * tenths + 9) / 10).min(held)
    }
}

/// What is posted on an account of the operator's losses, in nano-USD.
async fn posted(app: &TestApp, account: &str) -> i64 {
    let sql = match account {
        "operator_loss:unbilled" => {
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:unbilled'"
        }
        "operator_loss:overrun" => {
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:overrun'"
        }
        "operator_loss:late" => {
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:late'"
        }
        "operator_loss:node" => {
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:node'"
        }
        other => panic!("the policy names an account that the ledger has not: {other}"),
    };
    app.number(sql).await
}

async fn policy(app: &TestApp) -> Value {
    let response = reqwest::get(format!("{}/v1/refund-policy", app.relay_url()))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// The row of a reason, as anybody reads it.
async fn published(app: &TestApp, reason: Reason) -> Value {
    let policy = policy(app).await;
    let rows = policy["rules"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.filter(|row| row["reason"] == reason.as_str()).collect();
    assert_eq!(rows.len(), 1, "{reason}");
    rows[0].clone()
}

/// The charge is what the row says.
async fn assert_done_as_published(app: &TestApp, reason: Reason, case: &Case) {
    let (rule, closed) = (published(app, reason).await, &case.closed);
    assert_eq!(closed["reason"], rule["reason"], "{closed}");
    assert_eq!(closed["explanation"], rule["explanation"]);
    let (paid, source) = (cost(closed), closed["usage_source"].as_str());
    match rule["customer_pays"].as_str().unwrap() {
        "nothing" => {
            assert_eq!(paid, Amount::ZERO, "{closed}");
            assert_ne!(closed["state"], "settled");
        }
        "reported_usage" => assert_eq!((source, paid), (Some("provider"), case.price_of_usage()), "{closed}"),
        "estimated_usage" => assert_eq!((source, paid), (Some("estimate"), case.price_of_usage()), "{closed}"),
        "reported_else_estimated_usage" => {
            let counted = if case.is_reported { "provider" } else { "estimate" };
            assert_eq!((source, paid), (Some(counted), case.price_of_usage()), "{closed}");
        }
        "noted_usage" => assert_eq!(paid.nanos(), case.noted, "{closed}"),
        other => panic!("a basis that nobody proves: {other}"),
    }
    assert!(
        paid > Amount::ZERO || rule["customer_pays"] == "nothing",
        "the case shows something"
    );
    if case.is_borne {
        let account = rule["operator_bears"].as_str().expect("an account");
        assert!(posted(app, account).await > 0, "the operator bears it: {rule}");
    }
}

/// A test for each row, and a match that no row is missing in.
macro_rules! proofs {
    ($($reason:ident by $case:ident,)+ $(; $other:ident by $elsewhere:literal,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let (app, case) = cases::$case().await;
                assert_done_as_published(&app, Reason::$reason, &case).await;
                app.finish().await;
            }
        )+

        fn where_proved(reason: Reason) -> &'static str {
            match reason {
                $(Reason::$reason => concat!("refund_policy::", stringify!($case)),)+
                $(Reason::$other => $elsewhere,)+
            }
        }
    };
}

proofs! {
    Completed by a_whole_answer,
    CompletedUsageEstimated by a_whole_answer_without_usage,
    ClientGone by a_client_that_leaves_in_mid_stream,
    ClientGoneBilledOn by a_client_that_leaves_a_provider_that_bills_on,
    ClientGoneBeforeHead by a_client_that_leaves_before_the_head,
    UpstreamCutOff by an_answer_that_is_cut_off,
    UpstreamNoOutput by an_answer_of_nothing,
    UpstreamFailed by a_provider_that_fails,
    UpstreamRejected by a_provider_that_refuses,
    ModelSubstituted by an_answer_of_another_model,
    FilteredBeforeOutput by moderation_before_output,
    FilteredAfterOutput by moderation_after_output,
    TimeoutBeforeOutput by silence_before_output,
    TimeoutAfterOutput by silence_after_output,
    InsufficientCredit by too_little_credit,
    BudgetExceeded by a_budget_that_is_too_small,
    RelayCrashed by a_node_that_dies,
    HoldExpired by a_hold_that_nobody_ends,
    LedgerUnavailable by a_ledger_that_does_not_answer,
    ; // nothing that a client or a provider can do makes the relay panic
    InternalError by "crates/ledger: tests::recovery::a_panic_gives_everything_back",
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_published_is_proved_and_can_be_kept() {
    let app = TestApp::start().await;
    let policy = policy(&app).await;
    let codes = |list: &str, key: &str| -> Vec<String> {
        let rows = policy[list].as_array().unwrap().iter();
        rows.map(|row| row[key].as_str().unwrap().to_owned()).collect()
    };
    for code in codes("rules", "reason") {
        let reason: Reason = code.parse().expect("a reason");
        assert!(!where_proved(reason).is_empty());
    }
    assert_eq!(codes("rules", "reason").len(), Reason::ALL.len());
    assert_eq!(
        codes("always", "code"),
        Always::ALL.map(|always| always.rule().code.to_owned())
    );
    for row in policy["rules"].as_array().unwrap() {
        assert!(
            codes("bases", "basis")
                .iter()
                .any(|basis| row["customer_pays"] == *basis),
            "{row}"
        );
    }
    let client = reqwest::Client::new();
    let url = format!("{}/v1/refund-policy", app.relay_url());
    let first = client.get(&url).send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    assert!(first.headers()["cache-control"].to_str().unwrap().contains("max-age="));
    let again = client.get(&url).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(client.post(&url).send().await.unwrap().status(), 405);
    app.finish().await;
}
