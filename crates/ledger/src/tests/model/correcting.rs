//! Corrections as an operation of the model: after a random history, charges are given back in random parts.

use domain::{Amount, LotId};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Play, purse::LotName, request_id, step, tenant_id};
use crate::{
    chart::{Account, LotKind},
    corrections::{Part, between},
};

impl Play {
    /// What the history's one transaction drew on a tenant's lots, as it was posted.
    fn drawn(&self, tenant: u128) -> Vec<Part> {
        let lots = &self.book.lots[&tenant_id(tenant)];
        let entries = self.book.changes.usage[&tenant_id(tenant)].entries().unwrap();
        let parts = entries.iter().filter_map(|(account, amount)| {
            let (kind, lot) = Account::lot_of(account)?;
            let expires_at = lots.iter().find(|known| known.id == lot).unwrap().expires_at;
            Some(Part {
                lot,
                kind,
                expires_at,
                amount: *amount,
            })
        });
        let mut parts: Vec<Part> = parts.collect();
        parts.sort_by_key(Part::spending_rank);
        parts
    }

    /// Gives back up to so much of a request, whose charge is down to `left`. Answers what is left then.
    fn correct(&mut self, (tenant, request): (u128, u128), left: i64, amount: i64) -> i64 {
        let ended = &self.purses[&tenant].ended;
        let before: i64 = ended.range(..request).map(|(_, charged)| charged).sum();
        let amount = amount.min(left);
        let places = [before + left - amount, before + left].map(Amount::from_nanos);
        let parts = between(&self.drawn(tenant), places[0], places[1]).unwrap();
        assert_eq!(parts.iter().map(|part| part.amount.nanos()).sum::<i64>(), amount);
        let purse = self.purse(tenant);
        for part in parts {
            let name = *purse.lots.keys().find(|name| lot_id(name) == part.lot).unwrap();
            assert_eq!(name.0, part.kind == LotKind::Paid, "credit keeps its kind");
            let spent = purse.spent.get_mut(&name).unwrap();
            *spent -= part.amount.nanos();
            assert!(*spent >= 0, "a lot gets back what was spent of it, and no more");
            *purse.lots.get_mut(&name).unwrap() += part.amount.nanos();
        }
        left - amount
    }
}

fn lot_id(name: &LotName) -> LotId {
    LotId::from_uuid(Uuid::from_u128(name.2))
}

proptest! {
    #[test]
    fn corrections_give_back_what_was_spent(
        steps in proptest::collection::vec(step(), 1..120),
        corrections in proptest::collection::vec((0_usize..24, 1_i64..200), 0..30),
    ) {
        let mut play = Play::new();
        for step in &steps {
            play.take(step);
        }
        let charged: Vec<_> = play
            .purses
            .iter()
            .flat_map(|(tenant, purse)| purse.ended.iter().map(|(request, charged)| ((*tenant, *request), *charged)))
            .filter(|(_, charged)| *charged > 0)
            .collect();
        prop_assume!(!charged.is_empty());
        let rows = charged.iter().map(|((tenant, request), _)| play.book.charges[&request_id(*tenant, *request)].amount);
        let rows: Vec<i64> = rows.map(Amount::nanos).collect();
        let mut left: Vec<i64> = charged.iter().map(|(_, charged)| *charged).collect();
        prop_assert_eq!(&rows, &left);
        let everything = (0..charged.len()).map(|which| (which, i64::MAX));
        for (which, amount) in corrections.into_iter().chain(everything) {
            let which = which % charged.len();
            left[which] = play.correct(charged[which].0, left[which], amount);
        }
        for purse in play.purses.values() {
            prop_assert!(purse.spent.values().all(|spent| *spent == 0), "everything came back: {:?}", purse.spent);
        }
    }
}
