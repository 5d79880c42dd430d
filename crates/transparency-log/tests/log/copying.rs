//! Copies that a crash, a full disk or damage left behind: what was published is never forgotten, and what cannot be read is
//! named.

use std::{fs, path::Path};

use transparency_log::{Restored, restore};

use crate::world::{World, files};

/// What the audit finds wrong, with these copies.
async fn offenders(world: &World, copies: &str) -> Vec<String> {
    let findings = world.audit(copies).await;
    findings.into_iter().filter_map(|finding| finding.offender).collect()
}

/// Publishes so many batches, one in a round.
async fn publish(world: &World, sequencer: &mut transparency_log::Sequencer, count: usize) {
    for _ in 0..count {
        world.commit(1).await;
        assert_eq!(sequencer.catch_up().await.unwrap().heads, 1);
    }
}

async fn restored(world: &World, folder: &Path) -> Restored {
    restore(&world.database, &[folder.to_path_buf()]).await.unwrap()
}

/// The name of the file after another one of the same boot.
fn next_of(file: &Path) -> std::path::PathBuf {
    let name = file.file_name().unwrap().to_str().unwrap();
    file.with_file_name(format!("{}-999999.logcopy", &name[..36]))
}

#[tokio::test]
async fn a_file_that_was_only_begun_hides_nothing() {
    let (published, behind) = (World::all().await, World::all().await);
    for (world, behind) in published.into_iter().zip(behind) {
        let mut sequencer = world.sequencer("copies", 1);
        publish(&world, &mut sequencer, 3).await;
        let folder = world.copies("copies");
        let begun = next_of(&files(&folder)[0]);
        for content in [
            &b""[..],
            b"truerelay-log",
            b"truerelay-log/2\n",
            b"truerelay-log/2\n\x20\0\0\0",
            &[0; 4_096],
        ] {
            fs::write(&begun, content).unwrap();
            assert_eq!(offenders(&world, "copies").await, [""; 0], "{content:?}");
        }
        let outcome = restored(&behind, &folder).await;
        assert_eq!(outcome, Restored::PutBack { batches: 3, heads: 3 });
        assert_eq!(restored(&behind, &folder).await, Restored::Nothing);
    }
}

#[tokio::test]
async fn whatever_byte_is_damaged_is_named_and_what_follows_is_read() {
    for world in World::all().await {
        let mut sequencer = world.sequencer("copies", 1);
        publish(&world, &mut sequencer, 3).await;
        let file = files(&world.copies("copies")).remove(0);
        let whole = fs::read(&file).unwrap();
        for place in (0..whole.len()).step_by(7).chain(16..28).chain([whole.len() - 1]) {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            fs::write(&file, damaged).unwrap();
            let told = offenders(&world, "copies").await;
            let name = file.display().to_string();
            assert!(
                told.iter()
                    .any(|what| what.contains("damaged at byte") && what.contains(&name)),
                "{place}: {told:?}"
            );
        }
        // only the last file of a boot may end within a round: nothing behind that had been published
        fs::write(&file, &whole[..whole.len() - 5]).unwrap();
        world.assert_clean("copies").await;
        fs::write(next_of(&file), &whole).unwrap();
        let told = offenders(&world, "copies").await;
        assert!(told.iter().any(|what| what.contains("ends within a round")), "{told:?}");
    }
}

#[tokio::test]
async fn what_damage_hides_may_have_been_published_so_the_log_is_not_gone_on_with() {
    let (published, behind) = (World::all().await, World::all().await);
    for (world, behind) in published.into_iter().zip(behind) {
        let mut sequencer = world.sequencer("copies", 1);
        publish(&world, &mut sequencer, 2).await;
        let folder = world.copies("copies");
        let file = files(&folder).remove(0);
        let two = fs::read(&file).unwrap();
        publish(&world, &mut sequencer, 1).await;
        let mut damaged = fs::read(&file).unwrap();
        // the length of the last round
        damaged[two.len() + 2] ^= 0x01;
        fs::write(&file, damaged).unwrap();
        assert_eq!(
            restored(&world, &folder).await,
            Restored::Nothing,
            "this database has it"
        );
        let Restored::NewLog { reason } = restored(&behind, &folder).await else {
            panic!("a fork")
        };
        assert!(reason.contains("damaged behind the head of size 2"), "{reason}");
        assert_eq!(restored(&behind, &folder).await, Restored::Nothing, "it is said once");
        assert_eq!(transparency_log::logs(&behind.database).await.unwrap().len(), 2);
    }
}
