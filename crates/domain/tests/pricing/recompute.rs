//! The script that customers recompute a charge with, against the code that charges: 10,000 random requests.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
};

use domain::{
    Amount,
    pricing::{Circumstances, FrozenPrice, Multiplier, PriceEntry, charge},
    request::PricedBy,
    usage::{Units, Usage},
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::generate::{circumstances, entries, instants, multipliers, usages};

const REQUESTS: usize = 10_000;

/// Reads a case a line and prints the number of each that the script computes otherwise.
const HARNESS: &str = r#"
import json, sys
sys.path.insert(0, sys.argv[1])
from recompute import charge
lines = [json.loads(line) for line in sys.stdin]
for number, case in enumerate(lines):
    cost = charge(case["statement"], case["offer"])
    if cost != case["statement"]["amount_nano_usd"]:
        print("case", number, "script", cost, json.dumps(case))
print("compared", len(lines))
"#;

/// What can be met by a chat request: no batch, no images or time priced by the piece.
fn of_chat(mut usage: Usage, mut met: Circumstances) -> (Usage, Circumstances) {
    usage.units = Units {
        web_searches: usage.units.web_searches,
        requests: usage.units.requests,
        ..Units::default()
    };
    met.batch = false;
    met.image_variant = None;
    (usage, met)
}

fn case(runner: &mut TestRunner) -> Value {
    let strategy = (entries(), multipliers(), instants(), usages(), circumstances(), 0_u8..8);
    let (entry, multipliers, admitted_at, usage, met, cut) = strategy.new_tree(runner).unwrap().current();
    let (usage, met) = of_chat(usage, met);
    let price = FrozenPrice {
        version: 1,
        entry: Arc::new(serde_json::from_value::<PriceEntry>(entry).unwrap()),
        multipliers,
        cost: Multiplier::ONE,
        admitted_at,
    };
    let charged = charge(std::slice::from_ref(&price), &usage, &met).unwrap().amount();
    // some holds are too small: the customer pays no more than was held
    let held = if cut == 0 {
        Amount::from_nanos(charged.nanos() / 2)
    } else {
        charged
    };
    let priced_by = PricedBy {
        tier: String::new(),
        multipliers,
        service_tier: met.service_tier,
        region: met.region,
        thinking: met.thinking,
        search_context: met.search_context,
        completed_at: met.completed_at,
    };
    json!({
        "statement": {
            "held_nano_usd": held.nanos(),
            "amount_nano_usd": charged.min(held).nanos(),
            "record": { "usage": usage, "started_at": admitted_at, "priced_by": priced_by },
        },
        "offer": { "list_price": &*price.entry, "multipliers": multipliers },
    })
}

#[test]
fn the_script_for_customers_agrees_on_ten_thousand_random_requests() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[42; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let cases: Vec<String> = (0..REQUESTS).map(|_| case(&mut runner).to_string()).collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    let python = std::env::var("TRUERELAY_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut script = Command::new(python)
        .args(["-B", "-c", HARNESS, folder])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs: it is needed for the script that customers are given");
    let mut stdin = script.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(cases.join("\n").as_bytes()));
    let output = script.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "the script failed");
    assert_eq!(
        said.trim(),
        format!("compared {REQUESTS}"),
        "the script computes other charges"
    );
}
