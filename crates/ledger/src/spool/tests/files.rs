//! Spools as files: what the next boot finds.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
};

use uuid::Uuid;

use super::{
    super::{Found, SpoolFolder, read},
    BOOT, Spool,
};

const LATER: Uuid = Uuid::from_u128(0x0190_0000_0001_7000_8000_0000_0000_0000);

#[test]
fn the_next_boot_reads_what_the_last_one_synced_and_removes_it() {
    let data = tempfile::tempdir().expect("a folder");
    {
        let spools = SpoolFolder::open(data.path()).expect("the folder is made");
        assert_eq!(spools.earlier(BOOT).expect("the folder"), []);
        let mut spool = Spool::new(spools.create(BOOT, 1_000).expect("a file"), BOOT, 1_000);
        spool.append(b"an end").expect("there is room");
        spool.append(&[b'x'; 2_000]).expect("there is room");
        spool.sync().expect("the disk works");
        assert_eq!(
            spools.earlier(BOOT).expect("the folder"),
            [],
            "its own is not an earlier one"
        );
    }
    let spools = SpoolFolder::open(data.path()).expect("the folder is there");
    let earlier = spools.earlier(LATER).expect("the folder");
    let [(boot, path)] = &earlier[..] else {
        panic!("{earlier:?}");
    };
    assert_eq!(*boot, BOOT);
    assert_eq!(path.metadata().expect("the file").permissions().mode() & 0o777, 0o600);
    let reading = read(File::open(path).expect("the file"), *boot).expect("it can be read");
    assert_eq!((reading.records(), reading.tail_cut()), (2, false));
    let found: Vec<Found> = reading.collect::<io::Result<_>>().expect("it can be read");
    assert_eq!(
        found,
        [Found::Record(b"an end".to_vec()), Found::Record(vec![b'x'; 2_000])]
    );
    spools.remove(*boot).expect("it can be removed");
    spools.remove(*boot).expect("removing twice does nothing");
    assert_eq!(spools.earlier(LATER).expect("the folder"), []);
}

#[test]
fn a_file_that_was_never_used_holds_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let spools = SpoolFolder::open(data.path()).expect("the folder is made");
    drop(spools.create(BOOT, 3_000_000).expect("a file"));
    let path = &spools.earlier(LATER).expect("the folder")[0].1;
    assert_eq!(fs::read(path).expect("the file"), vec![0; 3_000_000]);
    let mut reading = read(File::open(path).expect("the file"), BOOT).expect("it can be read");
    assert_eq!((reading.records(), reading.tail_cut()), (0, false));
    assert!(reading.next().is_none());
}

#[test]
fn earlier_boots_come_oldest_first() {
    let data = tempfile::tempdir().expect("a folder");
    let spools = SpoolFolder::open(data.path()).expect("the folder is made");
    let boots: Vec<Uuid> = [5_u128, 3, 9, 1, 7]
        .map(|instant| Uuid::from_u128(instant << 80))
        .to_vec();
    for boot in &boots {
        spools.create(*boot, 0).expect("a file");
    }
    let found: Vec<Uuid> = spools
        .earlier(boots[0])
        .expect("the folder")
        .into_iter()
        .map(|(boot, _)| boot)
        .collect();
    assert_eq!(found, [boots[3], boots[1], boots[4], boots[2]]);
}

#[test]
fn a_boot_has_one_file() {
    let data = tempfile::tempdir().expect("a folder");
    let spools = SpoolFolder::open(data.path()).expect("the folder is made");
    spools.create(BOOT, 10).expect("a file");
    let second = spools.create(BOOT, 10).err().expect("it is refused");
    assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(spools.earlier(LATER).expect("the folder").len(), 1, "the first stays");
}

#[test]
fn a_spool_without_its_boots_name_is_not_passed_over() {
    for name in ["old.spool", "019000000000700080000000000000AA.spool"] {
        let data = tempfile::tempdir().expect("a folder");
        let spools = SpoolFolder::open(data.path()).expect("the folder is made");
        fs::write(data.path().join("spool").join("notes.txt"), "kept").expect("a file");
        assert_eq!(spools.earlier(BOOT).expect("other files are nobody's business"), []);
        fs::write(data.path().join("spool").join(name), "").expect("a file");
        let error = spools.earlier(BOOT).expect_err("it is refused");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_file_in_the_folders_place_is_an_error() {
    let data = tempfile::tempdir().expect("a folder");
    fs::write(data.path().join("spool"), "").expect("a file");
    assert!(SpoolFolder::open(data.path()).is_err());
}
