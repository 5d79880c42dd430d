//! `GET /v1/refund-policy`: what is paid when things go wrong, for everybody. It is the table that decides, and no description
//! of it. No key is needed.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use domain::refund_rules::{Always, Pays, Reason};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    handlers::cacheable::{Keeper, respond_cacheable},
    price_list::Rendered,
};

/// For how long the policy may be kept by others, in seconds. It changes with a release only.
const MAX_AGE_S: i64 = 300;

/// The policy as it is sent, written once.
pub struct RefundPolicy(Rendered);

impl Default for RefundPolicy {
    fn default() -> Self {
        let rules = Published::default();
        let text = serde_json::to_vec(&rules).unwrap_or_default();
        let policy = json!({
            "object": "refund_policy",
            // the same rules and no others have it
            "version": format!("sha256:{}", hex::encode(Sha256::digest(text))),
            "bases": rules.bases,
            "rules": rules.rules,
            "always": rules.always,
        });
        Self(Rendered::new(policy.to_string().into_bytes(), None))
    }
}

/// What the version is made of.
#[derive(Serialize)]
struct Published {
    bases: Vec<Value>,
    rules: Vec<Value>,
    always: Vec<Value>,
}

impl Default for Published {
    fn default() -> Self {
        let rules = Reason::ALL.iter().map(|reason| reason.rule());
        let always = Always::ALL.iter().map(|always| always.rule());
        Self {
            bases: Pays::ALL
                .iter()
                .map(|pays| json!({ "basis": pays, "meaning": pays.meaning() }))
                .collect(),
            rules: rules
                .map(|rule| {
                    json!({
                        "reason": rule.reason,
                        "when": rule.when,
                        "customer_pays": rule.pays,
                        "operator_bears": rule.bears.account(),
                        "explanation": rule.explanation,
                    })
                })
                .collect(),
            always: always
                .map(|rule| json!({ "code": rule.code, "promise": rule.promise, "operator_bears": rule.account }))
                .collect(),
        }
    }
}

/// The policy.
pub async fn show_policy(policy: Data<RefundPolicy>, request: HttpRequest) -> HttpResponse {
    respond_cacheable(
        &policy.0,
        "application/json",
        Keeper::Anybody,
        MAX_AGE_S,
        request.headers(),
    )
}
