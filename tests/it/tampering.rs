//! History that somebody changed in the database, past the triggers: each change is named by the audit of the log.

use std::time::{Duration, Instant};

use support::{Backend, TestApp, openai_body};

/// What is done to the database, which tables that touches, and what the audit then says.
struct Tampering {
    what: &'static str,
    statements: &'static [&'static str],
    /// In the order in which their rows can be put back.
    tables: &'static [Table],
    /// The check that fails, and a word of what it names.
    found: (&'static str, &'static str),
}

/// A table with the statements that keep and put back its rows.
#[derive(Clone, Copy)]
enum Table {
    Charge,
    Request,
    Entry,
    Batch,
    LogEntry,
    Node,
    Head,
    Signature,
    Retirement,
}

impl Table {
    const fn keep(self) -> [&'static str; 3] {
        macro_rules! table {
            ($name:literal) => {
                [
                    concat!("CREATE TABLE kept_", $name, " AS SELECT * FROM ", $name),
                    concat!("DELETE FROM ", $name),
                    concat!("INSERT INTO ", $name, " SELECT * FROM kept_", $name),
                ]
            };
        }
        match self {
            Self::Charge => table!("charge"),
            Self::Request => table!("request"),
            Self::Entry => table!("entry"),
            Self::Batch => table!("log_batch"),
            Self::LogEntry => table!("log_entry"),
            Self::Node => table!("log_node"),
            Self::Head => table!("log_head"),
            Self::Signature => table!("log_signature"),
            Self::Retirement => table!("log_key_retirement"),
        }
    }

    const fn forget(self) -> &'static str {
        match self {
            Self::Charge => "DROP TABLE kept_charge",
            Self::Request => "DROP TABLE kept_request",
            Self::Entry => "DROP TABLE kept_entry",
            Self::Batch => "DROP TABLE kept_log_batch",
            Self::LogEntry => "DROP TABLE kept_log_entry",
            Self::Node => "DROP TABLE kept_log_node",
            Self::Head => "DROP TABLE kept_log_head",
            Self::Signature => "DROP TABLE kept_log_signature",
            Self::Retirement => "DROP TABLE kept_log_key_retirement",
        }
    }
}

const TAMPERINGS: &[Tampering] = &[
    Tampering {
        what: "an amount changed",
        statements: &["UPDATE charge SET amount = amount - 1 WHERE amount > 0"],
        tables: &[Table::Charge],
        found: ("L1", "states something else"),
    },
    Tampering {
        what: "a record changed",
        statements: &["UPDATE request SET record_json = REPLACE(record_json, '\"status\":200', '\"status\":201')"],
        tables: &[Table::Request],
        found: ("L1", "states something else"),
    },
    Tampering {
        what: "a record gone",
        statements: &["DELETE FROM request"],
        tables: &[Table::Request],
        found: ("L1", "states something else"),
    },
    Tampering {
        what: "a charge back-dated",
        statements: &["UPDATE charge SET closed_at_ms = closed_at_ms - 86400000"],
        tables: &[Table::Charge],
        found: ("L1", "states something else"),
    },
    Tampering {
        what: "a charge gone",
        statements: &[
            "DELETE FROM charge WHERE request_id = (SELECT c.request_id FROM charge c ORDER BY c.request_id LIMIT 1)",
        ],
        tables: &[Table::Charge],
        found: ("L3", "does not exist"),
    },
    Tampering {
        what: "charges of each other's batch",
        statements: &["UPDATE charge SET log_batch = (SELECT b.batch_id FROM log_entry b WHERE b.idx = 0)"],
        tables: &[Table::Charge],
        found: ("L1", "has no leaf of it"),
    },
    Tampering {
        what: "a charge that denies its batch",
        statements: &["UPDATE charge SET log_batch = NULL"],
        tables: &[Table::Charge],
        found: ("L1", "names no batch"),
    },
    Tampering {
        what: "an account of an entry changed",
        statements: &["UPDATE entry SET account = 'goodwill' WHERE account = 'promo_expense'"],
        tables: &[Table::Entry],
        found: ("L2", "states something else"),
    },
    Tampering {
        what: "leaves of a batch changed",
        statements: &["UPDATE log_batch SET root = (SELECT h.root FROM log_head h ORDER BY h.size LIMIT 1)"],
        tables: &[Table::Batch],
        found: ("L5", "its root is not that of its"),
    },
    Tampering {
        what: "salts changed",
        statements: &["UPDATE log_batch SET salts = ids, ids = salts"],
        tables: &[Table::Batch],
        found: ("L5", "cannot be read"),
    },
    Tampering {
        what: "an entry gone",
        statements: &["DELETE FROM log_entry WHERE idx = 1"],
        tables: &[Table::LogEntry],
        found: ("L4", "entry 1 is missing"),
    },
    Tampering {
        what: "entries in another order",
        statements: &[
            "UPDATE log_entry SET idx = 101 - idx WHERE idx IN (0, 1)",
            "UPDATE log_entry SET idx = idx - 100 WHERE idx >= 100",
        ],
        tables: &[Table::LogEntry],
        found: ("L6", "is not that of its entries"),
    },
    Tampering {
        what: "a subtree changed",
        statements: &[
            "UPDATE log_node SET hash = (SELECT b.root FROM log_batch b ORDER BY b.id LIMIT 1) \
             WHERE level = 1 AND idx = 0",
        ],
        tables: &[Table::Node],
        found: ("L6", "the subtree 0 of level 1"),
    },
    Tampering {
        what: "the head back-dated",
        statements: &["UPDATE log_head SET at_ms = 5 WHERE size = (SELECT MAX(h.size) FROM log_head h)"],
        tables: &[Table::Head, Table::Signature],
        found: ("L7", "earlier instant"),
    },
    Tampering {
        what: "a head back-dated that was the first",
        statements: &["UPDATE log_head SET at_ms = at_ms - 1 WHERE size = (SELECT MIN(h.size) FROM log_head h)"],
        tables: &[Table::Head, Table::Signature],
        found: ("L8", "is not of this head"),
    },
    Tampering {
        what: "a head of a forked log",
        statements: &["UPDATE log_head SET root = (SELECT b.root FROM log_batch b ORDER BY b.id LIMIT 1)"],
        tables: &[Table::Head, Table::Signature],
        found: ("L7", "its root is not that of the entries"),
    },
    Tampering {
        what: "a signature by a key that was old",
        statements: &["INSERT INTO log_key_retirement (key_id, retired_at_ms) SELECT id, 1 FROM log_key"],
        tables: &[Table::Retirement],
        found: ("L8", "was retired"),
    },
    Tampering {
        what: "the end of the log cut off",
        statements: &[
            "DELETE FROM log_signature WHERE size = (SELECT MAX(h.size) FROM log_head h)",
            "DELETE FROM log_head WHERE size = (SELECT MAX(h.size) FROM log_head h)",
            "DELETE FROM log_entry WHERE idx >= (SELECT MAX(h.size) FROM log_head h)",
            "DELETE FROM log_node WHERE (idx + 1) * (1 << CAST(level AS INTEGER)) > (SELECT MAX(h.size) FROM log_head h)",
        ],
        tables: &[Table::Head, Table::Signature, Table::LogEntry, Table::Node],
        found: ("L10", "the database has no such head"),
    },
];

async fn run(app: &TestApp, statement: &str) {
    app.execute(Box::leak(statement.to_owned().into_boxed_str())).await;
}

/// Whoever tampers has the rights to switch the guards off.
async fn switch_guards_off(app: &TestApp) {
    for table in [
        "charge",
        "entry",
        "tx",
        "log_batch",
        "log_entry",
        "log_node",
        "log_head",
        "log_signature",
        "log_key_retirement",
    ] {
        if Backend::run_is_shared() {
            run(app, &format!("ALTER TABLE {table} DISABLE TRIGGER {table}_insert_only")).await;
        } else {
            run(app, &format!("DROP TRIGGER {table}_no_UPDATE")).await;
            run(app, &format!("DROP TRIGGER {table}_no_DELETE")).await;
        }
    }
}

async fn wait_until_published(app: &TestApp) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let waiting = "SELECT (SELECT COUNT(*) FROM log_pending) + (SELECT COUNT(*) FROM log_head) - \
                   (SELECT COUNT(*) FROM log_signature) + (SELECT COUNT(*) FROM hold)";
    while app.number(waiting).await != 0 {
        assert!(Instant::now() < deadline, "the log does not catch up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_history_is_named() {
    let mut app = TestApp::start().await;
    for _ in 0..3 {
        let request = app.client().openai(&openai_body(false)).await.request_id();
        app.closed(&request).await;
        wait_until_published(&app).await;
    }
    let (status, report) = app.command(&["ledger", "verify", "--log"]);
    assert!(status.success(), "{report}");
    assert!(!report.contains("(0 rows)"), "every check looks at something: {report}");
    // it would make good some of it
    app.process().signal("TERM");
    assert!(app.process().wait(Duration::from_secs(60)).success());
    switch_guards_off(&app).await;
    for tampering in TAMPERINGS {
        for table in tampering.tables {
            run(&app, table.keep()[0]).await;
        }
        for statement in tampering.statements {
            run(&app, statement).await;
        }
        let (status, report) = app.command(&["ledger", "verify", "--log"]);
        let (check, word) = tampering.found;
        let named =
            |line: &str| line.starts_with("FAILED") && line.contains(&format!(" {check} ")) && line.contains(word);
        assert!(
            !status.success() && report.lines().any(named),
            "{}:\n{report}",
            tampering.what
        );
        for table in tampering.tables.iter().rev() {
            run(&app, table.keep()[1]).await;
        }
        for table in tampering.tables {
            run(&app, table.keep()[2]).await;
            run(&app, table.forget()).await;
        }
        let (status, report) = app.command(&["ledger", "verify", "--log"]);
        assert!(status.success(), "it was put back, {}:\n{report}", tampering.what);
    }
}

/// Statements that slip a row in, past the product and dated before the log, the one that takes it out again, and the check.
const SLIPPED_IN: &[(&str, &str, &str)] = &[
    (
        "INSERT INTO tx (id, kind, reference, actor, at_ms) \
         SELECT tenant_id, 'grant', 'slipped in', 'nobody', 1 FROM charge LIMIT 1",
        "DELETE FROM tx WHERE actor = 'nobody'",
        "L2",
    ),
    (
        "INSERT INTO tx (seq, id, kind, reference, actor, at_ms) {numbered} \
         SELECT -5, tenant_id, 'grant', 'slipped in', 'nobody', 1 FROM charge LIMIT 1",
        "DELETE FROM tx WHERE actor = 'nobody'",
        "L2",
    ),
    // it names the transaction of another one
    (
        "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
         price_version, tx_id, closed_at_ms) SELECT tenant_id, tenant_id, key_id, state, reason, held, amount, overrun, \
         provider_cost, unbilled, price_version, tx_id, 1 FROM charge WHERE tx_id IS NOT NULL LIMIT 1",
        "DELETE FROM charge WHERE closed_at_ms = 1",
        "L1",
    ),
    // it names none
    (
        "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
         price_version, closed_at_ms) SELECT tenant_id, tenant_id, key_id, 'voided', 'upstream_failed', held, 0, 0, 0, 0, \
         price_version, 1 FROM charge LIMIT 1",
        "DELETE FROM charge WHERE closed_at_ms = 1",
        "L1",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_slipped_in_is_named_however_old_it_says_it_is() {
    let mut app = TestApp::start().await;
    let request = app.client().openai(&openai_body(false)).await.request_id();
    app.closed(&request).await;
    wait_until_published(&app).await;
    app.process().signal("TERM");
    assert!(app.process().wait(Duration::from_secs(60)).success());
    switch_guards_off(&app).await;
    for (slip_in, take_out, check) in SLIPPED_IN {
        let numbered = if Backend::run_is_shared() {
            "OVERRIDING SYSTEM VALUE"
        } else {
            ""
        };
        run(&app, &slip_in.replace("{numbered}", numbered)).await;
        let (_, report) = app.command(&["ledger", "verify", "--log"]);
        let named = |line: &str| {
            line.starts_with("FAILED")
                && line.contains(&format!(" {check} "))
                && line.contains("names no batch of the log")
        };
        assert!(report.lines().any(named), "{slip_in}:\n{report}");
        run(&app, take_out).await;
        let (status, report) = app.command(&["ledger", "verify", "--log"]);
        assert!(status.success(), "it was taken out, {slip_in}:\n{report}");
    }
}
