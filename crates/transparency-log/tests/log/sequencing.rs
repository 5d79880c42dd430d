//! Whatever happens between the steps: a head is published once it is copied and signed, old heads stay true, and every
//! batch gets one place.

use transparency_log::{LogError, Restored, restore};

use crate::world::{World, files};

#[tokio::test]
async fn every_batch_gets_one_place_and_old_heads_stay_true() {
    for world in World::all().await {
        let mut sequencer = world.sequencer("copies", 1);
        let mut batches = world.commit(1).await;
        assert!(!world.is_proven(batches[0]).await, "it has no head yet");
        assert_eq!(sequencer.catch_up().await.unwrap().batches, 1);
        let first = world.newest().await;
        for count in [1, 7, 450, 64] {
            batches.extend(world.commit(count).await);
            assert_eq!(sequencer.catch_up().await.unwrap().batches, count);
            assert!(world.is_consistent(&first).await);
        }
        assert_eq!(world.newest().await.head.size, batches.len() as u64);
        for batch in [batches[0], batches[5], batches[200], batches[522]] {
            assert!(world.is_proven(batch).await);
        }
        assert_eq!(sequencer.catch_up().await.unwrap().heads, 0, "there is nothing to do");
        world.assert_clean("copies").await;
        assert!(
            files(&world.copies("copies")).len() > 1,
            "a file is not gone on with for ever"
        );
    }
}

#[tokio::test]
async fn several_nodes_extend_one_log() {
    for world in World::all().await {
        let mut nodes = [
            world.sequencer("a", 1),
            world.sequencer("b", 1),
            world.sequencer("c", 1),
        ];
        let mut batches = Vec::new();
        for _ in 0..12 {
            batches.extend(world.commit(3).await);
            let [a, b, c] = &mut nodes;
            // whoever comes second in the same moment leaves it to the first
            let (a, b, c) = tokio::join!(a.catch_up(), b.catch_up(), c.catch_up());
            for done in [a, b, c] {
                done.unwrap();
            }
        }
        for node in &mut nodes {
            node.catch_up().await.unwrap();
        }
        for batch in batches {
            assert!(world.is_proven(batch).await);
        }
        for copies in ["a", "b", "c"] {
            world.assert_clean(copies).await;
        }
    }
}

#[tokio::test]
async fn a_head_that_was_made_and_not_published_is_finished_by_another_node() {
    for world in World::all().await {
        // the disk of copies fails after the database's commit: so would a crash leave it
        let mut first = world.sequencer("first", 1);
        let folder = world.copies("first");
        std::fs::remove_dir(&folder).unwrap();
        std::fs::write(&folder, "no folder").unwrap();
        let batch = world.commit(1).await[0];
        assert!(matches!(first.catch_up().await, Err(LogError::Copies(_))));
        assert!(
            !world.is_proven(batch).await,
            "it is in no copy, so it is not published"
        );
        let mut second = world.sequencer("second", 1);
        assert_eq!(
            second.catch_up().await.unwrap().heads,
            0,
            "for a moment it is its maker's"
        );
        tokio::time::sleep(std::time::Duration::from_millis(2_200)).await;
        assert_eq!(second.catch_up().await.unwrap().heads, 1);
        assert!(world.is_proven(batch).await);
        // and the maker goes on when its disk is back
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let next = world.commit(1).await[0];
        first.catch_up().await.unwrap();
        assert!(world.is_proven(next).await);
        world.assert_clean("second").await;
        world.assert_clean("first").await;
    }
}

#[tokio::test]
async fn the_maker_finishes_its_own_head_at_once() {
    for world in World::all().await {
        let mut sequencer = world.sequencer("copies", 1);
        sequencer.catch_up().await.unwrap();
        let folder = world.copies("copies");
        std::fs::remove_dir(&folder).unwrap();
        let batch = world.commit(1).await[0];
        assert!(sequencer.catch_up().await.is_err());
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(sequencer.catch_up().await.unwrap().heads, 1);
        assert!(world.is_proven(batch).await);
        world.assert_clean("copies").await;
    }
}

#[tokio::test]
async fn a_new_key_retires_the_old_one_for_good() {
    for world in World::all().await {
        let mut old = world.sequencer("copies", 1);
        world.commit(1).await;
        old.catch_up().await.unwrap();
        let signed_by_old = world.newest().await;
        let mut new = world.sequencer("copies", 2);
        new.catch_up().await.unwrap();
        let batch = world.commit(1).await[0];
        assert!(matches!(old.catch_up().await, Err(LogError::KeyRetired(_))));
        assert!(!world.is_proven(batch).await);
        new.catch_up().await.unwrap();
        assert!(world.is_proven(batch).await);
        let keys = transparency_log::key_list(&world.database).await.unwrap();
        assert_eq!(keys.keys.len(), 2);
        keys.check(&signed_by_old.published().unwrap())
            .expect("it was in use then");
        keys.check(&world.newest().await.published().unwrap())
            .expect("it is in use");
        // what the old key would sign now is refused
        let mut forged = world.newest().await.published().unwrap();
        let old_key = transparency::LogKey::from_seed(&[1; 32]);
        forged.key = old_key.id().to_owned();
        forged.signature = old_key
            .sign(&forged.head)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(keys.check(&forged).unwrap_err().to_string().contains("retired"));
        let mut again = world.sequencer("copies", 1);
        world.commit(1).await;
        assert!(matches!(again.catch_up().await, Err(LogError::KeyRetired(_))));
        // it signs until now, says whoever changes the database
        world.assert_clean("copies").await;
        world.let_anything_change().await;
        for (change, word) in [
            (
                "UPDATE log_key_retirement SET retired_at_ms = retired_at_ms + 3600000",
                "ms only",
            ),
            ("DELETE FROM log_key_retirement", "is not retired"),
        ] {
            world.change(change).await;
            world.assert_named("copies", word).await;
        }
    }
}

#[tokio::test]
async fn a_signature_that_was_taken_away_is_named() {
    for world in World::all().await {
        let mut sequencer = world.sequencer("copies", 1);
        for _ in 0..3 {
            world.commit(1).await;
            sequencer.catch_up().await.unwrap();
        }
        world.let_anything_change().await;
        // the newest may wait for theirs
        world.change("DELETE FROM log_signature WHERE size = 3").await;
        world.assert_clean("copies").await;
        world.change("DELETE FROM log_signature WHERE size = 1").await;
        world
            .assert_named("copies", "head of size 1: it has no signature")
            .await;
    }
}

#[tokio::test]
async fn a_gap_in_the_copies_ends_the_log_and_what_is_left_goes_into_the_next() {
    let (published, restored) = (World::all().await, World::all().await);
    for (world, behind) in published.into_iter().zip(restored) {
        let mut sequencer = world.sequencer("copies", 1);
        let mut batches = Vec::new();
        for _ in 0..20 {
            batches.extend(world.commit(4).await);
            sequencer.catch_up().await.unwrap();
        }
        let folder = world.copies("copies");
        // everything from the copies alone
        let outcome = restore(&behind.database, std::slice::from_ref(&folder)).await.unwrap();
        assert_eq!(outcome, Restored::PutBack { batches: 80, heads: 20 });
        assert_eq!(
            restore(&behind.database, std::slice::from_ref(&folder)).await.unwrap(),
            Restored::Nothing
        );
        let mut heir = behind.sequencer("heir", 1);
        heir.catch_up().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2_200)).await;
        heir.catch_up().await.unwrap();
        assert_eq!(behind.newest().await, world.newest().await, "signatures included");
        // a file from the middle is lost, in a third database
        let all = files(&folder);
        assert!(all.len() > 3);
        std::fs::remove_file(&all[1]).unwrap();
        for third in World::all().await {
            if third.database.backend() != world.database.backend() {
                continue;
            }
            let outcome = restore(&third.database, std::slice::from_ref(&folder)).await.unwrap();
            let Restored::NewLog { reason } = outcome else {
                panic!("{outcome:?}")
            };
            assert!(reason.contains("nothing is left of the batches"), "{reason}");
            let logs = transparency_log::logs(&third.database).await.unwrap();
            assert_eq!((logs.len(), logs[1].reason.clone()), (2, reason));
            assert_eq!(
                restore(&third.database, std::slice::from_ref(&folder)).await.unwrap(),
                Restored::Nothing
            );
            third.sequencer("third", 1).catch_up().await.unwrap();
            let last = *batches.last().unwrap();
            assert!(third.is_proven(last).await, "it has a place in the new log");
            assert_ne!(third.newest().await.head.log, world.newest().await.head.log);
        }
    }
}
