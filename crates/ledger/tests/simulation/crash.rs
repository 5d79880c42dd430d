//! The end of a life: what a kill leaves behind, and what must have been durable by then.

use std::collections::BTreeMap;

use domain::RequestId;
use uuid::Uuid;

use crate::{
    disks::{Kept, demand_in_database},
    sim::{LifeId, State},
    truth::Crash,
};

/// What was queued is in the database or on disk after this, in milliseconds: two batches that are each taken for away
/// after three seconds, and a margin.
pub const DURABLE_AFTER_MS: u64 = 7_000;

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The process alone: what it has written is still written by the kernel.
    Process,
    /// The machine: what was not synchronised may be lost, or be there in part.
    Machine,
    /// The machine, and its disk.
    Disk,
}

/// Ends a life. Nothing that it still does reaches anything.
pub fn end_life(s: &mut State, life: LifeId, death: Death, is_drained: bool) {
    s.lives[life].is_dead = true;
    let node = s.lives[life].node;
    s.note("dies", node, death as i64);
    s.truth.count(match death {
        Death::Process => "process killed",
        Death::Machine => "power lost",
        Death::Disk => "disk lost",
    });
    take_stock(s, life, is_drained);
    let boots: Vec<Uuid> = s.drives[node].files.keys().copied().collect();
    for boot in boots {
        crash_file(s, node, boot, death);
    }
    if death == Death::Disk {
        s.drives[node].files.clear();
        s.drives[node].name = s.rng.id();
        for request in s.truth.requests.values_mut() {
            request.disk_lost_it |= s.lives[request.life].node == node;
        }
    }
}

/// What of this life is durable now; and what should be and is not.
fn take_stock(s: &mut State, life: LifeId, is_drained: bool) {
    let (node, boot) = (s.lives[life].node, s.lives[life].boot);
    let kept = s.drives[node]
        .files
        .get(&boot)
        .map(|file| Kept::of(&file.durable, boot))
        .unwrap_or_default();
    let owed_before = s.now.saturating_sub(DURABLE_AFTER_MS);
    let disturbed_at = s.lives[life].disturbed_at;
    let has_room = s.plan.queue_capacity >= 4_000;
    let is_owed = |at: u64| is_drained || (at < owed_before && at > disturbed_at);
    let mut missing = Vec::new();
    for (id, request) in s.truth.requests.iter_mut().filter(|(_, request)| request.life == life) {
        let is_written = request.end_is_written || s.database.quarantined.contains(id);
        let row = s.database.holds.get(id).and_then(|row| row.progress.as_ref());
        let noted = row.map(|progress| progress.so_far.amount().nanos());
        let crash = Crash {
            end_is_durable: is_written || kept.ends.contains(id),
            cost_is_owed: request.cost_is_written
                || kept.costs.contains(id)
                || request.refused_cost.is_some_and(|(at, _)| is_owed(at)),
            noted,
            kept: noted.max(kept.progress.get(id).copied()),
        };
        request.crash = Some(crash);
        if crash.end_is_durable {
            continue;
        }
        if request.end.is_some_and(|end| is_owed(end.at)) {
            missing.push(format!(
                "request {}: its end was long accepted and is nowhere",
                request.number
            ));
        }
        let owed = request.offered.iter().rev().find(|(at, _)| is_owed(*at));
        let is_closed = s.database.charges.contains_key(id);
        if has_room && !is_closed && owed.is_some_and(|(_, amount)| crash.kept < Some(*amount)) {
            missing.push(format!(
                "request {}: its progress was long queued and is nowhere",
                request.number
            ));
        }
    }
    for what in missing {
        s.violate(what);
    }
}

/// What a crash makes of a file.
fn crash_file(s: &mut State, node: usize, boot: Uuid, death: Death) {
    let Some(mut file) = s.drives[node].files.remove(&boot) else {
        return;
    };
    let before = Kept::of(&file.durable, boot);
    let pending = std::mem::take(&mut file.pending);
    for (at, bytes) in pending {
        let survives = match death {
            Death::Process => bytes.len(),
            _ if s.rng.chance(300) => bytes.len(),
            _ if s.rng.chance(500) => s.rng.index(bytes.len() + 1),
            _ => 0,
        };
        file.put(at, &bytes[..survives]);
    }
    let after = Kept::of(&file.durable, boot);
    demand_in_database(s, &lost(&before, &after), "crashed");
    if death == Death::Machine && s.rng.chance(s.plan.rates.damage) && !file.durable.is_empty() {
        let at = s.rng.index(file.durable.len());
        if s.rng.chance(500) {
            file.durable.truncate(at);
        } else {
            file.durable[at] ^= 1 << s.rng.index(8);
        }
        let left = Kept::of(&file.durable, boot);
        let gone = lost(&after, &left);
        for request in gone.ends.iter().chain(gone.progress.keys()) {
            s.truth.of(*request).disk_lost_it = true;
        }
        s.note("its disk is damaged", node, gone.ends.len() as i64);
        s.truth.count("disk damaged");
    }
    s.drives[node].files.insert(boot, file);
}

fn lost(before: &Kept, after: &Kept) -> Kept {
    let is_less = |(request, amount): &(&RequestId, &i64)| after.progress.get(request).is_none_or(|left| left < amount);
    Kept {
        ends: before.ends.difference(&after.ends).copied().collect(),
        costs: before.costs.difference(&after.costs).copied().collect(),
        progress: before
            .progress
            .iter()
            .filter(is_less)
            .map(|(request, amount)| (*request, *amount))
            .collect::<BTreeMap<_, _>>(),
    }
}

/// A node says that all it had accepted is durable.
pub fn demand_drained(s: &mut State, life: LifeId) {
    let (node, boot) = (s.lives[life].node, s.lives[life].boot);
    let kept = s.drives[node]
        .files
        .get(&boot)
        .map(|file| Kept::of(&file.durable, boot))
        .unwrap_or_default();
    let missing: Vec<usize> = s
        .truth
        .requests
        .iter()
        .filter(|(_, request)| request.life == life && request.end.is_some())
        .filter(|(id, request)| {
            let is_written = request.end_is_written || s.database.quarantined.contains(id);
            !is_written && !kept.ends.contains(id)
        })
        .map(|(_, request)| request.number)
        .collect();
    s.demand(missing.is_empty(), || {
        format!("drained, and the ends of {missing:?} are nowhere")
    });
    // what a disk without room could not overwrite stays until there is something new
    let well_since = s.plan.chaos_ms.max(s.lives[life].paused_until);
    let can_overwrite = !s.plan.copies_on_write || s.plan.full.is_empty();
    let must_be_clear = can_overwrite && s.now > well_since + 90_000;
    let is_clear = kept.ends.is_empty() && kept.progress.is_empty();
    s.demand(is_clear || !must_be_clear, || {
        "all is well, and the spool keeps what is in the database".to_owned()
    });
    let in_hand = s.lives[life].holds_in_hand;
    s.demand(in_hand == 0, || format!("drained with {in_hand} holds in hand"));
}
