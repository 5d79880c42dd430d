//! What a survey tells of a node's spools, and that it changes nothing in them.

use std::{fs, path::Path};

use domain::TenantId;
use uuid::Uuid;

use super::world::*;
use crate::{
    NodeSpools, SpoolSurvey, Spools,
    batch::Item,
    items::{Progress, Settled},
    spooled, survey_spools,
};

/// The records of one boot as a node would keep them, synchronised.
fn keep(folder: &Path, boot: Uuid, records: &[Vec<u8>]) {
    let mut spool = NodeSpools::open(folder, 8_192).unwrap().create(boot).unwrap();
    for record in records {
        spool.append(record).unwrap();
    }
    spool.sync().unwrap();
}

fn end() -> Vec<u8> {
    spooled::encode(&void_item(&hold_request(TenantId::generate(), 5)), true).unwrap()
}

fn progress() -> Vec<u8> {
    let of = hold_request(TenantId::generate(), 5);
    let progress = Progress {
        request: of.request,
        tenant: of.tenant,
        so_far: Settled::new(&charge_of(3), of.provider),
        record: None,
        free_by: None,
    };
    spooled::encode(&Item::Progress(progress), true).unwrap()
}

fn told(survey: &SpoolSurvey) -> (u64, u64, u64, Vec<u64>, bool) {
    let lost = survey.damaged.iter().map(|damage| damage.lost).collect();
    (survey.ends, survey.progress, survey.unknown, lost, survey.is_whole())
}

#[test]
fn a_node_that_never_had_a_spool_has_none() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(survey_spools(data.path()).unwrap(), []);
    assert!(!data.path().join("spool").exists(), "nothing was made");
    keep(data.path(), Uuid::from_u128(1), &[]);
    assert_eq!(told(&survey_spools(data.path()).unwrap()[0]), (0, 0, 0, vec![], true));
}

#[test]
fn what_waits_is_counted_by_boot_and_stays() {
    let data = tempfile::tempdir().unwrap();
    let (older, newer) = (Uuid::from_u128(1 << 80), Uuid::from_u128(2 << 80));
    keep(data.path(), newer, &[end()]);
    keep(data.path(), older, &[end(), progress(), end(), progress(), end()]);
    for _ in 0..2 {
        let surveys = survey_spools(data.path()).unwrap();
        assert_eq!(surveys.iter().map(|one| one.boot).collect::<Vec<_>>(), [older, newer]);
        assert_eq!(told(&surveys[0]), (3, 2, 0, vec![], true));
        assert_eq!(told(&surveys[1]), (1, 0, 0, vec![], true));
    }
}

#[test]
fn what_cannot_be_applied_is_told() {
    let data = tempfile::tempdir().unwrap();
    let boot = Uuid::from_u128(1 << 80);
    let (first, last) = (end(), end());
    keep(
        data.path(),
        boot,
        &[first.clone(), br#"{"later":{}}"#.to_vec(), last.clone()],
    );
    assert_eq!(told(&survey_spools(data.path()).unwrap()[0]), (2, 0, 1, vec![], false));
    let path = data.path().join("spool").join(format!("{boot}.spool"));
    let whole = fs::read(&path).unwrap();
    let place = |record: &[u8]| whole.windows(record.len()).position(|found| found == record).unwrap();
    let damage = |offset: usize| {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1;
        fs::write(&path, bytes).unwrap();
        told(&survey_spools(data.path()).unwrap()[0])
    };
    assert_eq!(damage(place(&first) + 9), (1, 0, 1, vec![1], false));
    // a record at the end that is not whole was never confirmed: that is how a crash leaves it
    assert_eq!(damage(place(&last) + 9), (1, 0, 1, vec![], false));
}
