//! Tampering with corrections.

use super::{literal, tampering, try_case};
use crate::{corrections::CorrectionKind, movements::Corrected, tests::world::World};

/// Of a charge of 400, 150 were given back, and 30 as goodwill.
pub async fn try_all(world: &World, request: domain::RequestId) {
    let given = world
        .correct(request, CorrectionKind::Refund, Some(150), "a")
        .await
        .unwrap();
    world
        .correct(request, CorrectionKind::Goodwill, Some(30), "b")
        .await
        .unwrap();
    world.assert_clean().await;
    let refund = literal(world.database.backend(), &given.transaction);
    let (stranger, other) = (domain::RequestId::generate(), given.tenant);
    let paid = format!("account LIKE 'credit_paid:%' AND tx_id = {refund}");
    let cases = [
        tampering(
            &format!("UPDATE tx SET reference = '{stranger}' WHERE kind = 'request_refund'"),
            &format!("UPDATE tx SET reference = '{request}' WHERE kind = 'request_refund'"),
            "I15",
            stranger,
        ),
        tampering(
            &format!("UPDATE entry SET amount = amount * 3 WHERE tx_id = {refund}"),
            &format!("UPDATE entry SET amount = amount / 3 WHERE tx_id = {refund}"),
            "I15",
            "450 of a charge of 400",
        ),
        tampering(
            "UPDATE entry SET amount = 1001 WHERE account = 'goodwill'",
            "UPDATE entry SET amount = 30 WHERE account = 'goodwill'",
            "I15",
            "goodwill of 1001",
        ),
        tampering(
            &format!("UPDATE entry SET account = 'breakage' WHERE {paid}"),
            &format!(
                "UPDATE entry SET account = '{}' WHERE account = 'breakage'",
                account_of(&given)
            ),
            "I15",
            "posts on breakage",
        ),
        tampering(
            "UPDATE tx SET tenant_id = id WHERE kind = 'request_refund'",
            &format!(
                "UPDATE tx SET tenant_id = {} WHERE kind = 'request_refund'",
                literal(world.database.backend(), &other.as_uuid())
            ),
            "I15",
            request,
        ),
        tampering(
            &format!("UPDATE entry SET account = REPLACE(account, 'credit_paid', 'credit_promo') WHERE {paid}"),
            &format!(
                "UPDATE entry SET account = '{}' WHERE amount < 0 AND tx_id = {refund}",
                account_of(&given)
            ),
            "I16",
            "150 were given back",
        ),
    ];
    for case in &cases {
        try_case(world, case).await;
    }
}

fn account_of(given: &Corrected) -> String {
    format!("credit_paid:{}:{}", given.tenant, given.credit[0].lot)
}
