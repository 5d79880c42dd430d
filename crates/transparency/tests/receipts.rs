//! Receipts: one that holds, and every part of it changed, each refused with its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use domain::{KeyId, RequestId, TenantId};
use transparency::{
    BatchContents, BatchProof, Frontier, Head, KeyList, LeafKind, LogKey, LogProof, Place, PublishedKey,
    RECEIPT_FORMAT, Receipt, RequestStatement, SignedHead, TransactionStatement, entry_hash, inclusion_path, key_id,
    salted,
};
use uuid::Uuid;

const SALT: [u8; 16] = [9; 16];

fn statement(amount: i64) -> String {
    RequestStatement {
        request: RequestId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        key: KeyId::from_uuid(Uuid::from_u128(3)),
        state: "settled",
        reason: "completed",
        held: 10,
        amount,
        price_version: 4,
        transaction: Some(Uuid::from_u128(5)),
        closed_at_ms: 6,
        record: Some(r#"{"id":"x"}"#),
    }
    .to_text()
}

fn key() -> LogKey {
    LogKey::from_seed(&[1; 32])
}

fn published(key: &LogKey) -> PublishedKey {
    PublishedKey {
        id: key.id().to_owned(),
        algorithm: "Ed25519".to_owned(),
        public_key: hex::encode(key.public()),
        not_before_ms: 0,
        retired_at_ms: None,
    }
}

fn list(key: PublishedKey) -> KeyList {
    KeyList { keys: vec![key] }
}

fn signed(head: Head, key: &LogKey) -> SignedHead {
    SignedHead {
        head,
        key: key.id().to_owned(),
        signature: hex::encode(key.sign(&head)),
    }
}

/// The receipts of two requests in the second of three batches.
fn receipts() -> [Receipt; 2] {
    let mut contents = BatchContents::with_capacity(3);
    let statements = [statement(7), statement(8), "{}".to_owned()];
    for (number, text) in statements.iter().enumerate() {
        contents.push(LeafKind::Request, Uuid::from_u128(number as u128), SALT, text);
    }
    let id = Uuid::from_u128(77);
    let root = contents.root();
    let mut frontier = Frontier::new();
    let mut nodes = std::collections::BTreeMap::new();
    for hash in [
        entry_hash(Uuid::from_u128(70), 3, &root),
        entry_hash(id, 3, &root),
        entry_hash(Uuid::from_u128(71), 3, &root),
    ] {
        nodes.extend(frontier.push(hash));
    }
    let head = Head {
        log: Uuid::from_u128(99),
        size: 3,
        root: frontier.root(),
        at_ms: 1_000,
    };
    [0, 1].map(|index| Receipt {
        format: RECEIPT_FORMAT.to_owned(),
        statement: statements[index].clone(),
        salt: hex::encode(SALT),
        leaf: salted(&SALT, &statements[index]),
        batch: BatchProof {
            id,
            index: index as u64,
            size: 3,
            root,
            path: contents.path(index).expect("a leaf"),
        },
        log: LogProof {
            index: 1,
            path: inclusion_path(1, 3, &|node| nodes.get(&node).copied()).expect("a batch"),
        },
        head: signed(head, &key()),
        key: published(&key()),
    })
}

#[test]
fn a_receipt_holds_and_survives_its_text() {
    let [receipt, _] = receipts();
    let text = serde_json::to_string(&receipt).expect("JSON");
    let again: Receipt = serde_json::from_str(&text).expect("a receipt");
    assert_eq!(again, receipt);
    let verified = again.verify(Some(&list(published(&key())))).expect("it holds");
    assert!(verified.is_key_known);
    assert_eq!(verified.statement["amount_nano_usd"], 7);
    assert_eq!(verified.statement["record"]["id"], "x");
    assert!(!again.verify(None).expect("it holds").is_key_known);
}

/// What is done to a receipt, and where it must be refused.
type Change = (&'static str, fn(&mut Receipt), Place);

const CHANGES: &[Change] = &[
    ("format", |r| r.format.push('0'), Place::Format),
    (
        "amount",
        |r| r.statement = r.statement.replace(":7,", ":6,"),
        Place::Statement,
    ),
    ("white space", |r| r.statement.push(' '), Place::Statement),
    ("salt", |r| r.salt = hex::encode([8; 16]), Place::Statement),
    ("short salt", |r| r.salt = "00".to_owned(), Place::Statement),
    ("leaf", |r| r.leaf.0[0] ^= 1, Place::Statement),
    ("another's statement", |r| r.statement = statement(8), Place::Statement),
    (
        "another's statement and leaf",
        |r| {
            let [_, other] = receipts();
            r.statement = other.statement;
            r.leaf = other.leaf;
        },
        Place::BatchPath,
    ),
    ("index in the batch", |r| r.batch.index = 1, Place::BatchPath),
    ("size of the batch", |r| r.batch.size = 5, Place::BatchPath),
    (
        "size of the batch, with the same path",
        |r| r.batch.size = 4,
        Place::LogPath,
    ),
    ("path in the batch", |r| r.batch.path[1].0[31] ^= 128, Place::BatchPath),
    ("order in the batch", |r| r.batch.path.swap(0, 1), Place::BatchPath),
    ("root of the batch", |r| r.batch.root.0[5] ^= 1, Place::BatchPath),
    (
        "name of the batch",
        |r| r.batch.id = Uuid::from_u128(78),
        Place::LogPath,
    ),
    ("index in the log", |r| r.log.index = 0, Place::LogPath),
    ("path in the log", |r| r.log.path[0].0[0] ^= 1, Place::LogPath),
    ("a step left out", |r| r.log.path.truncate(1), Place::LogPath),
    ("size of the log", |r| r.head.head.size = 5, Place::LogPath),
    ("root of the log", |r| r.head.head.root.0[0] ^= 1, Place::LogPath),
    ("instant of the head", |r| r.head.head.at_ms -= 1, Place::Signature),
    (
        "another log",
        |r| r.head.head.log = Uuid::from_u128(98),
        Place::Signature,
    ),
    (
        "signature",
        |r| r.head.signature = hex::encode([0; 64]),
        Place::Signature,
    ),
    ("no signature", |r| r.head.signature.clear(), Place::Signature),
    ("name of the key", |r| r.head.key = "00".repeat(16), Place::Key),
];

#[test]
fn every_change_is_refused_with_its_place() {
    let keys = list(published(&key()));
    for (what, change, place) in CHANGES {
        let [mut receipt, _] = receipts();
        change(&mut receipt);
        let refused = receipt.verify(Some(&keys)).expect_err(what);
        assert_eq!(refused.place, *place, "{what}: {refused}");
    }
}

#[test]
fn somebody_elses_key_is_refused() {
    let forger = LogKey::from_seed(&[2; 32]);
    let [mut receipt, _] = receipts();
    receipt.head = signed(receipt.head.head, &forger);
    receipt.key = published(&forger);
    let refused = receipt
        .verify(Some(&list(published(&key()))))
        .expect_err("not published");
    assert_eq!(refused.place, Place::Key);
    // under the published name
    receipt.head.key = key().id().to_owned();
    let refused = receipt.verify(Some(&list(published(&key())))).expect_err("forged");
    assert_eq!(refused.place, Place::Signature);
    // a list that gives the name to another key
    let mut lying = published(&forger);
    lying.id = key().id().to_owned();
    let refused = receipt.verify(Some(&list(lying))).expect_err("not its name");
    assert_eq!(refused.place, Place::Key);
}

#[test]
fn an_old_key_signs_nothing_after_its_retirement() {
    let [receipt, _] = receipts();
    let retired = |at| {
        list(PublishedKey {
            retired_at_ms: Some(at),
            ..published(&key())
        })
    };
    receipt.verify(Some(&retired(1_001))).expect("it was in use then");
    let refused = receipt.verify(Some(&retired(1_000))).expect_err("it was retired then");
    assert_eq!(refused.place, Place::Key);
    assert!(refused.detail.contains("retired"), "{refused}");
}

#[test]
fn statements_are_json_whatever_is_in_them() {
    let entries = [("bank", 5), ("credit_paid:\"x\"\n", -5)];
    let text = TransactionStatement {
        id: Uuid::nil(),
        kind: "grant",
        tenant: None,
        reference: "a \"quoted\" \\ thing\u{1}ü",
        actor: "operator:x",
        at_ms: -1,
        entries: entries.into_iter(),
    }
    .into_text();
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["reference"], "a \"quoted\" \\ thing\u{1}ü");
    assert_eq!(value["entries"][1]["amount_nano_usd"], -5);
    assert!(value["tenant"].is_null());
    let value: serde_json::Value = serde_json::from_str(&statement(7)).expect("JSON");
    assert_eq!(value["held_nano_usd"], 10);
}

#[test]
fn a_key_of_openssl_is_read() {
    // RFC 8410 section 10.3: the example key in PKCS #8
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    let key = LogKey::from_pem(pem).expect("a key");
    let public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    assert_eq!(hex::encode(key.public()), public);
    assert_eq!(key.id(), key_id(&key.public()));
    assert!(LogKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
}

#[test]
fn stored_leaves_are_read_back_or_refused() {
    let mut contents = BatchContents::default();
    contents.push(LeafKind::Request, Uuid::from_u128(1), SALT, "{}");
    contents.push(LeafKind::Transaction, Uuid::from_u128(2), [3; 16], "{}");
    let leaves = contents.leaves().expect("whole");
    assert_eq!(leaves.len(), 2);
    assert_eq!(
        (leaves[1].kind, leaves[1].id),
        (LeafKind::Transaction, Uuid::from_u128(2))
    );
    assert_eq!(leaves[1].value, salted(&[3; 16], "{}"));
    assert_ne!(
        leaves[0].value, leaves[1].value,
        "the salt keeps equal statements apart"
    );
    for spoil in [
        |c: &mut BatchContents| c.ids.truncate(33),
        |c: &mut BatchContents| c.salts.push(0),
        |c: &mut BatchContents| c.values.truncate(63),
        |c: &mut BatchContents| c.ids[0] = b'x',
    ] {
        let mut spoilt = contents.clone();
        spoil(&mut spoilt);
        assert_eq!(spoilt.leaves(), None);
    }
}
