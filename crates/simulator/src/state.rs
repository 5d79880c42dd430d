//! What the simulator remembers: the script, the gates, and everything that it was asked and sent.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::script::{Facts, Rule, choose};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended.
    #[default]
    Running,
    /// Everything was sent.
    Finished,
    /// The script broke the connection.
    Cut,
    /// The client left before everything was sent.
    ClientGone,
}

/// One request, as it was seen and as it is answered; it changes while the answer is sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LogEntry {
    /// Counts up from 1.
    pub id: u64,
    /// The HTTP method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The query, empty if there is none.
    pub query: String,
    /// The model that was asked for; empty when the body has none.
    pub model: String,
    /// The last eight characters of the credential; empty when there is none.
    pub credential_suffix: String,
    /// All header names in lower case, with their values; credentials and cookies are replaced by `***`.
    pub headers: BTreeMap<String, String>,
    /// The body; text when it is no JSON; null when bodies are not recorded.
    pub body: Value,
    /// The status of the answer; 0 before its head.
    pub status: u16,
    /// What the request costs as input.
    pub input_tokens: u64,
    /// The tokens generated so far.
    pub tokens_generated: u64,
    /// The usage that the answer reports.
    pub usage: Option<Value>,
    /// The events sent so far.
    pub events_sent: u64,
    /// The bytes of the body sent so far.
    pub bytes_sent: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// Totals since the start or the last reset; the log may forget, these do not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests received.
    pub requests: u64,
    /// Requests that have not ended.
    pub running: u64,
    /// Requests whose answer was sent whole.
    pub finished: u64,
    /// Requests whose connection the script broke.
    pub cut: u64,
    /// Requests whose client left early.
    pub client_gone: u64,
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Requests by status of the answer.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests by the suffix of their credential.
    pub by_credential: BTreeMap<String, u64>,
    /// Requests by model.
    pub by_model: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Log {
    last_id: u64,
    entries: VecDeque<Arc<Mutex<LogEntry>>>,
    counts: Counts,
    /// Requests of an earlier epoch no longer count.
    epoch: u64,
}

/// Everything that requests and controllers share.
pub(crate) struct State {
    rules: Mutex<Vec<Rule>>,
    log: Mutex<Log>,
    keep_entries: usize,
    gates: watch::Sender<HashSet<String>>,
    changes: watch::Sender<u64>,
}

impl State {
    pub(crate) fn new(keep_entries: usize) -> Self {
        Self {
            rules: Mutex::default(),
            log: Mutex::default(),
            keep_entries,
            gates: watch::Sender::default(),
            changes: watch::Sender::default(),
        }
    }

    pub(crate) fn add_rule(&self, rule: Rule) {
        self.rules.lock().push(rule);
    }

    pub(crate) fn choose_rule(&self, facts: &Facts<'_>) -> Rule {
        choose(&mut self.rules.lock(), facts).unwrap_or_default()
    }

    pub(crate) fn release(&self, gate: &str) {
        self.gates.send_modify(|open| {
            open.insert(gate.to_owned());
        });
    }

    pub(crate) async fn pass_gate(&self, gate: &str) {
        // The sender lives as long as this state: waiting cannot fail.
        self.gates.subscribe().wait_for(|open| open.contains(gate)).await.ok();
    }

    /// Forgets script, gates and log. Requests that are running stay as they are, and count no more.
    pub(crate) fn reset(&self) {
        self.rules.lock().clear();
        self.gates.send_modify(HashSet::clear);
        let mut log = self.log.lock();
        *log = Log {
            last_id: log.last_id,
            epoch: log.epoch + 1,
            ..Log::default()
        };
        drop(log);
        self.note_change();
    }

    pub(crate) fn entries(&self) -> Vec<LogEntry> {
        self.log
            .lock()
            .entries
            .iter()
            .map(|entry| entry.lock().clone())
            .collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.log.lock().counts.clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn note_change(&self) {
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Enters a request into the log.
    pub(crate) fn open(self: &Arc<Self>, mut entry: LogEntry) -> Transmission {
        let mut log = self.log.lock();
        log.last_id += 1;
        entry.id = log.last_id;
        log.counts.requests += 1;
        log.counts.running += 1;
        *log.counts.by_model.entry(entry.model.clone()).or_default() += 1;
        *log.counts
            .by_credential
            .entry(entry.credential_suffix.clone())
            .or_default() += 1;
        let entry = Arc::new(Mutex::new(entry));
        log.entries.push_back(Arc::clone(&entry));
        while log.entries.len() > self.keep_entries {
            log.entries.pop_front();
        }
        let epoch = log.epoch;
        drop(log);
        self.note_change();
        Transmission {
            state: Arc::clone(self),
            entry,
            epoch,
            ended: false,
        }
    }
}

/// One request being answered. Dropped before its end, it notes that the client has left.
pub(crate) struct Transmission {
    state: Arc<State>,
    entry: Arc<Mutex<LogEntry>>,
    epoch: u64,
    ended: bool,
}

impl Transmission {
    pub(crate) fn id(&self) -> u64 {
        self.entry.lock().id
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn note_answer(&self, status: u16, input_tokens: u64, usage: Option<Value>) {
        {
            let mut entry = self.entry.lock();
            entry.status = status;
            entry.input_tokens = input_tokens;
            entry.usage = usage;
        }
        self.count(|counts| *counts.by_status.entry(status).or_default() += 1);
    }

    pub(crate) fn note_generated(&self, tokens: u64) {
        if tokens > 0 {
            self.entry.lock().tokens_generated += tokens;
            self.count(|counts| counts.tokens_generated += tokens);
        }
    }

    pub(crate) fn note_sent(&self, bytes: usize, event: bool) {
        let mut entry = self.entry.lock();
        entry.bytes_sent = entry
            .bytes_sent
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        entry.events_sent += u64::from(event);
        drop(entry);
        self.state.note_change();
    }

    pub(crate) fn end(&mut self, outcome: Outcome) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.entry.lock().outcome = outcome;
        self.count(|counts| {
            counts.running = counts.running.saturating_sub(1);
            match outcome {
                Outcome::Running => {}
                Outcome::Finished => counts.finished += 1,
                Outcome::Cut => counts.cut += 1,
                Outcome::ClientGone => counts.client_gone += 1,
            }
        });
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut log = self.state.log.lock();
        if log.epoch == self.epoch {
            change(&mut log.counts);
        }
        drop(log);
        self.state.note_change();
    }
}

impl Drop for Transmission {
    fn drop(&mut self) {
        self.end(Outcome::ClientGone);
    }
}
