//! A server that was given the wrong keys is refused at its start.

use domain::secret::SecretText;
use store::{
    StoreError,
    keyring::{Keyring, ServerKey},
};

use crate::databases::migrated;

fn key(id: &str, byte: &str) -> ServerKey {
    ServerKey::parse(&SecretText::new(format!("{id}:{}", byte.repeat(32)))).unwrap()
}

fn ring(encryption: ServerKey, pepper: ServerKey) -> Keyring {
    Keyring { encryption, pepper }
}

#[tokio::test]
async fn the_first_keys_are_remembered_and_others_are_refused() {
    for fresh in migrated().await {
        let right = ring(key("e", "1a"), key("p", "2b"));
        right.verify(&fresh.database).await.unwrap();
        right.verify(&fresh.database).await.unwrap();
        for (wrong, says) in [
            (
                ring(key("e", "ff"), key("p", "2b")),
                "the encryption key `e` is not the one",
            ),
            (
                ring(key("e", "1a"), key("p", "ff")),
                "the pepper key `p` is not the one",
            ),
            (ring(key("new", "1a"), key("p", "2b")), "has the id `new`"),
        ] {
            let Err(StoreError::Settings(told)) = wrong.verify(&fresh.database).await else {
                panic!("{says}: it was let in")
            };
            assert!(told.contains(says) && told.contains("give the original key"), "{told}");
            assert!(!told.contains("ffff") && !told.contains("1a1a"), "{told}");
        }
    }
}

#[tokio::test]
async fn nodes_that_start_together_agree_on_the_first_keys() {
    for fresh in migrated().await {
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let database = fresh.database.clone();
            starts.spawn(async move { ring(key("e", "1a"), key("p", "2b")).verify(&database).await });
        }
        while let Some(start) = starts.join_next().await {
            start.unwrap().unwrap();
        }
    }
}

#[test]
fn a_key_is_an_id_and_32_bytes() {
    let parse = |text: &str| ServerKey::parse(&SecretText::new(text.to_owned()));
    let digits = "0f".repeat(32);
    let good = parse(&format!(" k-1_a:{digits}\n")).unwrap();
    assert_eq!(good.id(), "k-1_a");
    assert_eq!(good.to_text().expose(), format!("k-1_a:{digits}"));
    assert!(!format!("{good:?}").contains("0f0f"));
    let long_id = format!("{}:{digits}", "k".repeat(33));
    for bad in [
        "",
        "k1",
        ":",
        &format!(":{digits}"),
        &format!("K1:{digits}"),
        "k1:0f",
        &long_id,
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    let (first, second) = (ServerKey::generate(), ServerKey::generate());
    assert_ne!(first.id(), second.id());
    assert_ne!(first.hmac(b"m"), second.hmac(b"m"));
}
