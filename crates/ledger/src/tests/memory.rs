//! What a node keeps in memory: the view of balances and the clock.

use domain::{Amount, TenantId, clock::UnixMs};
use uuid::Uuid;

use crate::{
    LedgerClock, Pace,
    admission::{AdmissionView, Admitted},
};

#[test]
fn the_view_remembers_and_stays_bounded() {
    let view = AdmissionView::default();
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
fn only_a_rich_balance_lets_a_request_go_before_its_hold_is_durable() {
    let view = AdmissionView::default();
    let tenant = TenantId::generate();
    let nanos = Amount::from_nanos;
    assert_eq!(
        view.admit(tenant, nanos(1)),
        Admitted::Queue(Pace::AfterCommit),
        "nothing is known yet"
    );
    view.set(tenant, nanos(1_000));
    assert_eq!(view.admit(tenant, nanos(50)), Admitted::Queue(Pace::AtOnce));
    // 950 are left now, which is less than twenty times fifty
    assert_eq!(view.admit(tenant, nanos(50)), Admitted::Queue(Pace::AfterCommit));
    view.hold_ended(tenant, nanos(50));
    view.hold_ended(tenant, nanos(50));
    assert_eq!(view.admit(tenant, nanos(50)), Admitted::Queue(Pace::AtOnce));
    assert_eq!(view.available(tenant), Some(nanos(1_000)), "the hint is what was read");
}

#[test]
fn a_refusal_is_remembered_until_credit_comes_back() {
    let view = AdmissionView::default();
    let tenant = TenantId::generate();
    let nanos = Amount::from_nanos;
    view.set(tenant, nanos(10));
    view.refused(tenant, nanos(10));
    assert_eq!(view.admit(tenant, nanos(11)), Admitted::JustRefused(nanos(10)));
    assert_eq!(
        view.admit(tenant, nanos(10)),
        Admitted::Queue(Pace::AfterCommit),
        "this much may fit"
    );
    view.set(tenant, nanos(12));
    assert_eq!(view.admit(tenant, nanos(11)), Admitted::Queue(Pace::AfterCommit));
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
