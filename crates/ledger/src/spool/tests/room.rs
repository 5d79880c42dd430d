//! A full disk: what is in flight finishes from the reserved part, and the spool goes on when there is room again.

use std::{fs::OpenOptions, os::unix::fs::MetadataExt, path::Path, process::Command};

use super::{
    super::{SpoolError, SpoolFolder, disk::FileDisk},
    BOOT, OVERHEAD_BYTES, Spool, contents,
    platter::Platter,
};

/// Names the folder to the process that is allowed only short files.
const FOLDER_VARIABLE: &str = "LEDGER_TEST_SPOOL_FOLDER";

/// What the process below may write, in blocks of 512 bytes as the shell counts, or of 1024.
const LIMIT_BLOCKS: u64 = 64;

const PAYLOAD: [u8; 100] = [b'p'; 100];
const FRAME_BYTES: usize = OVERHEAD_BYTES + PAYLOAD.len();

#[test]
fn the_reserved_part_takes_records_on_a_full_disk() {
    let reserved = OVERHEAD_BYTES + 3 * FRAME_BYTES;
    let platter = Platter::new(reserved, FRAME_BYTES / 2);
    let mut spool = Spool::new(Box::new(platter.clone()), BOOT, reserved as u64);
    for _ in 0..3 {
        spool.append(&PAYLOAD).expect("it is reserved");
    }
    for _ in 0..3 {
        assert!(matches!(spool.append(&PAYLOAD), Err(SpoolError::Full)));
    }
    spool.sync().expect("what was taken can be synced");
    assert_eq!(contents(&platter.lose_power(&[0])).payloads.len(), 3);
    assert_eq!(contents(&platter.lose_power(&[0])).damaged, []);

    spool.append(b"short").expect("the rest of the disk is enough for this");
    platter.state().room += 1_000;
    spool.append(&PAYLOAD).expect("there is room again");
    spool.sync().expect("the disk works");
    let found = contents(&platter.lose_power(&[0]));
    assert_eq!(found.payloads.len(), 5);
    assert_eq!(found.damaged, []);
}

#[test]
fn an_emptied_spool_gives_back_what_it_outgrew() {
    let folder = tempfile::tempdir().expect("a folder");
    let spools = SpoolFolder::open(folder.path()).expect("the folder");
    let disk = spools.create(BOOT, 5_000).expect("a file");
    let mut spool = Spool::new(disk, BOOT, 5_000);
    let length = || {
        let file = folder.path().join(format!("spool/{BOOT}.spool"));
        file.metadata().expect("the file is there").size()
    };
    assert_eq!(length(), 5_000);
    for _ in 0..1_000 {
        spool.append(&PAYLOAD).expect("there is room");
    }
    assert_eq!(length(), (OVERHEAD_BYTES + 1_000 * FRAME_BYTES) as u64);
    spool.clear().expect("the disk works");
    assert_eq!(length(), 5_000);
}

#[test]
fn a_disk_that_needs_room_to_overwrite_loses_nothing_that_was_taken() {
    // reserved, says the caller, but the platter has no such part: as on a file system that copies on write
    let platter = Platter::new(0, 0);
    let mut spool = Spool::new(Box::new(platter.clone()), BOOT, 1_000_000);
    spool.append(&PAYLOAD).expect("it waits in memory");
    assert!(matches!(spool.sync(), Err(SpoolError::Full)));
    platter.state().room = 1_000;
    spool.sync().expect("there is room now");
    assert_eq!(contents(&platter.lose_power(&[0])).payloads, [PAYLOAD]);

    platter.state().room = 0;
    let memory: usize = (0..100_000).take_while(|_| spool.append(&PAYLOAD).is_ok()).count() * FRAME_BYTES;
    assert!(memory < 300_000, "{memory} bytes wait in memory");
}

#[test]
fn the_kernels_full_device_is_full_and_not_broken() {
    let device = OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let mut spool = Spool::new(Box::new(FileDisk::new(device)), BOOT, 0);
    assert!(matches!(spool.append(&PAYLOAD), Err(SpoolError::Full)));
    assert!(spool.is_empty());
}

/// The kernel refuses to let a file grow: this test runs the next one in a process that may write only short files.
#[test]
fn a_file_that_may_not_grow_is_full_and_goes_on_after_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let this = std::env::current_exe().expect("the test's own program");
    let script =
        format!("trap '' XFSZ; ulimit -f {LIMIT_BLOCKS} || exit 3; exec \"$0\" --exact --ignored --nocapture \"$1\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(this)
        .arg("spool::tests::room::fills_a_file_that_may_not_grow")
        .env(FOLDER_VARIABLE, folder.path())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "run by the test above, under a limit"]
fn fills_a_file_that_may_not_grow() {
    let folder = std::env::var_os(FOLDER_VARIABLE).expect("run by the test above");
    let spools = SpoolFolder::open(Path::new(&folder)).expect("the folder");
    assert!(spools.create(BOOT, LIMIT_BLOCKS * 1024 + 1).is_err(), "the limit holds");
    let mut spool = Spool::new(spools.create(BOOT, 5_000).expect("a file"), BOOT, 5_000);
    let file = spools.earlier(uuid::Uuid::nil()).expect("the folder")[0].1.clone();
    for generation in 0..3 {
        let mut taken = 0;
        while spool.append(&[generation; 100]).is_ok() {
            taken += 1;
        }
        assert!(taken > 5_000 / FRAME_BYTES && taken < LIMIT_BLOCKS as usize * 1024 / FRAME_BYTES);
        assert!(matches!(spool.append(&PAYLOAD), Err(SpoolError::Full)));
        spool.sync().expect("what was taken can be synced");
        let found = contents(&std::fs::read(&file).expect("the file"));
        assert_eq!(found.payloads, vec![vec![generation; 100]; taken]);
        assert_eq!(found.damaged, []);
        assert!(generation > 0 || found.tail_cut, "half of the refused record is there");
        spool.clear().expect("the beginning can be overwritten");
    }
}
