//! What a node keeps in memory: the view of balances and the clock.

use domain::{Amount, TenantId, clock::UnixMs};
use uuid::Uuid;

use crate::{LedgerClock, view::BalanceView};

#[test]
fn the_view_remembers_and_stays_bounded() {
    let view = BalanceView::default();
    let tenant = TenantId::generate();
    assert_eq!(view.available(tenant), None);
    view.set(tenant, Amount::from_nanos(7));
    view.set(tenant, Amount::from_nanos(8));
    assert_eq!(view.available(tenant), Some(Amount::from_nanos(8)));
    // all of these fall into one shard, which holds a sixteenth of 100,000
    let in_one_shard = |n: u128| TenantId::from_uuid(Uuid::from_u128(n << 8));
    for n in 0..20_000 {
        view.set(in_one_shard(n), Amount::ZERO);
    }
    let known = (0..20_000)
        .filter(|n| view.available(in_one_shard(*n)).is_some())
        .count();
    assert!((1..=100_000 / 16).contains(&known), "{known}");
    assert!(view.available(in_one_shard(19_999)).is_some());
}

#[test]
fn the_clock_follows_the_database_and_never_overflows() {
    let clock = LedgerClock::new(UnixMs(1_000_000));
    assert!(clock.now() >= UnixMs(1_000_000));
    clock.set(UnixMs(5_000_000));
    assert!(clock.now() >= UnixMs(5_000_000));
    clock.set(UnixMs(2_000_000));
    assert!((UnixMs(2_000_000)..UnixMs(5_000_000)).contains(&clock.now()));
    clock.set(UnixMs(i64::MIN));
    assert!(clock.now() < UnixMs(0));
    clock.set(UnixMs(i64::MAX));
    assert!(clock.now() > UnixMs(i64::MAX / 2));
}
