//! A node from its first boot to the end of the run: booted, killed, paused, drained, and booted again.

use std::sync::Arc;

use domain::NodeId;
use ledger::{Foundation, Ledger, LedgerError, LedgerSettings, NodeIdentity, WriterEnd};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{JoinError, JoinHandle, JoinSet},
    time::{Duration, timeout},
};
use uuid::Uuid;

use crate::{
    connection::Connection,
    crash::{Death, demand_drained, end_life},
    disks::Folder,
    plan::MAX_REQUEST_MS,
    sim::{Life, LifeId, Sim, State},
    traffic::{keep_books, serve},
};

/// With a database that answers, draining and stopping take no longer than this.
const LIMIT: Duration = Duration::from_secs(200);

/// What is to become of a life.
#[derive(Debug, Clone, Copy)]
struct Plot {
    /// Killed then, in milliseconds.
    kill_at: Option<u64>,
    /// Drained from then on, in milliseconds.
    drain_at: u64,
    /// Stopped at an instant, for so many milliseconds.
    pause: Option<(u64, u64)>,
}

/// A running node.
struct Running {
    ledger: Ledger,
    writer: JoinHandle<WriterEnd>,
    tasks: JoinSet<()>,
}

/// Runs a node until the troubles are over and it has drained.
pub async fn keep(sim: Arc<Sim>, node: usize) {
    let late_by = sim.with(|s| s.rng.between(0, 1_500));
    sim.pause(late_by).await;
    loop {
        let (life, plot) = sim.with(|s| begin(s, node));
        let was_calm = sim.with(|s| s.now >= s.plan.chaos_ms);
        let is_done = live(&sim, life, plot).await;
        sim.with(|s| after_life(s, life, is_done));
        if is_done && plot.drain_at >= sim.with(|s| s.plan.chaos_ms) {
            return;
        }
        if was_calm && !is_done {
            sim.with(|s| s.violate(format!("node {node} does not run though all is well")));
            return;
        }
        let away_ms = sim.with(|s| s.rng.mostly_small(50, 20_000));
        sim.pause(away_ms).await;
    }
}

fn begin(s: &mut State, node: usize) -> (LifeId, Plot) {
    let (rates, chaos_ms, now) = (s.plan.rates, s.plan.chaos_ms, s.now);
    let is_calm = now >= chaos_ms;
    let mut often = |rate: u64| !is_calm && s.rng.chance(rate);
    let (is_killed, in_write, is_paused) = (often(rates.kill), often(rates.kill_in_write), often(rates.pause));
    let life = Life {
        node,
        id: s.drives[node].name,
        // later boots sort later, as UUIDv7 do
        boot: Uuid::from_u128((7 << 76) | (s.lives.len() as u128 + 1)),
        is_dead: false,
        paused_until: 0,
        disturbed_at: now,
        has_broken_disk: false,
        writes_until_death: in_write.then(|| s.rng.mostly_small(0, 12)),
        killed: Arc::new(Notify::new()),
        holds_in_hand: 0,
        refused_at: None,
    };
    s.lives.push(life);
    let end = now + s.rng.mostly_small(100, 90_000);
    let pause_at = now + s.rng.between(0, 30_000);
    let kill_at = (is_killed && end < chaos_ms).then_some(end);
    let drain_at = if is_killed { chaos_ms } else { end.min(chaos_ms) }.max(now);
    let to_come = |at: Option<u64>| at.filter(|at| *at > now);
    let (all_killed_at, all_drained_at) = (to_come(s.plan.all_killed_at), to_come(s.plan.all_drained_at));
    let plot = Plot {
        kill_at: kill_at.into_iter().chain(all_killed_at).min(),
        drain_at: drain_at.min(all_drained_at.unwrap_or(drain_at)),
        pause: is_paused.then(|| (pause_at, s.rng.mostly_small(500, 200_000))),
    };
    let life = s.lives.len() - 1;
    s.note("boots", node, life as i64);
    (life, plot)
}

/// One life; whether it ended in good order.
async fn live(sim: &Arc<Sim>, life: LifeId, plot: Plot) -> bool {
    let killed = sim.with(|s| Arc::clone(&s.lives[life].killed));
    let mut running = tokio::select! {
        biased;
        () = killed.notified() => return false,
        () = sim.until(plot.kill_at.unwrap_or(u64::MAX / 2_000)) => return false,
        started = start(sim, life) => match started {
            Some(running) => running,
            None => return false,
        },
    };
    let ledger = running.ledger.clone();
    running
        .tasks
        .spawn(serve(Arc::clone(sim), life, ledger.clone(), plot.drain_at));
    let books = tokio::spawn(keep_books(Arc::clone(sim), life, ledger));
    let stop_books = books.abort_handle();
    let is_done = tokio::select! {
        biased;
        () = killed.notified() => false,
        () = sim.until(plot.kill_at.unwrap_or(u64::MAX / 2_000)) => false,
        end = &mut running.writer => {
            judge_end(sim, life, end, false);
            false
        }
        joined = books => {
            judge_panic(sim, joined);
            false
        }
        () = stop_for_a_while(sim, life, plot.pause) => false,
        is_done = serve_and_drain(sim, life, &mut running.tasks, &running.ledger) => is_done,
    };
    stop_books.abort();
    if is_done {
        stop(sim, life, running).await
    } else {
        drop_all(sim, life, running);
        false
    }
}

/// Everything that this process still does is void.
fn drop_all(sim: &Arc<Sim>, life: LifeId, running: Running) {
    sim.with(|s| s.lives[life].is_dead = true);
    running.writer.abort();
    drop(running);
}

async fn start(sim: &Arc<Sim>, life: LifeId) -> Option<Running> {
    let (node, capacity) = sim.with(|s| {
        let node = NodeIdentity {
            id: NodeId::from_uuid(s.lives[life].id),
            boot: s.lives[life].boot,
        };
        (node, s.plan.queue_capacity)
    });
    let foundation = Foundation {
        store: Arc::new(Connection {
            sim: Arc::clone(sim),
            life,
        }),
        spools: Arc::new(Folder {
            sim: Arc::clone(sim),
            life,
        }),
        node,
        settings: LedgerSettings {
            queue_capacity: capacity,
            max_request_time: Duration::from_millis(MAX_REQUEST_MS),
        },
    };
    match Ledger::start(foundation, &Handle::current()).await {
        Ok((ledger, writer)) => {
            sim.with(|s| s.disturb(life));
            Some(Running {
                ledger,
                writer,
                tasks: JoinSet::new(),
            })
        }
        Err(error) => {
            let may_fail = matches!(
                error,
                LedgerError::Store(_) | LedgerError::Spool(_) | LedgerError::Stopped
            );
            sim.with(|s| {
                s.note("does not start", s.lives[life].node, 0);
                s.demand(may_fail, || format!("a node does not start: {error}"));
            });
            None
        }
    }
}

/// Never ends: the pause does not end a life.
async fn stop_for_a_while(sim: &Arc<Sim>, life: LifeId, pause: Option<(u64, u64)>) {
    if let Some((at, for_ms)) = pause {
        sim.until(at).await;
        sim.with(|s| {
            s.lives[life].paused_until = s.now + for_ms;
            s.lives[life].disturbed_at = s.now + for_ms;
            s.note("stands still", s.lives[life].node, for_ms.cast_signed());
            s.truth.count("paused");
        });
    }
    std::future::pending::<()>().await;
}

/// Serves until all requests have ended, then waits until everything is durable.
async fn serve_and_drain(sim: &Arc<Sim>, life: LifeId, tasks: &mut JoinSet<()>, ledger: &Ledger) -> bool {
    while let Some(joined) = tasks.join_next().await {
        judge_panic(sim, joined);
    }
    let is_drained = timeout(LIMIT, ledger.drain()).await.is_ok();
    sim.gate(life).await;
    sim.with(|s| {
        s.note("drained", s.lives[life].node, i64::from(is_drained));
        if is_drained {
            demand_drained(s, life);
        } else {
            let is_calm = s.now > s.plan.chaos_ms.max(s.lives[life].paused_until) + 150_000;
            s.demand(!is_calm, || "a node does not drain though all is well".to_owned());
        }
    });
    is_drained
}

/// After the drain a process may wait for its writer to stop, or not.
async fn stop(sim: &Arc<Sim>, life: LifeId, running: Running) -> bool {
    let Running { ledger, writer, tasks } = running;
    if sim.with(|s| s.rng.chance(500)) {
        drop_all(sim, life, Running { ledger, writer, tasks });
        return true;
    }
    drop(ledger);
    let killed = sim.with(|s| Arc::clone(&s.lives[life].killed));
    let stopped = tokio::select! {
        biased;
        () = killed.notified() => return true,
        stopped = timeout(LIMIT, writer) => stopped,
    };
    match stopped {
        Ok(end) => judge_end(sim, life, end, true),
        Err(_) => sim.with(|s| {
            let is_calm = s.now > s.plan.chaos_ms.max(s.lives[life].paused_until) + 150_000;
            s.demand(!is_calm, || "the writer does not stop though all is well".to_owned());
        }),
    }
    true
}

/// A writer ends for a stated reason only.
fn judge_end(sim: &Arc<Sim>, life: LifeId, end: Result<WriterEnd, JoinError>, may_close: bool) {
    sim.with(|s| {
        let has_reason = match &end {
            Ok(WriterEnd::Closed) => may_close,
            Ok(WriterEnd::SpoolFailed(_)) => s.lives[life].has_broken_disk,
            Ok(WriterEnd::Failed(_)) | Err(_) => false,
        };
        s.demand(has_reason, || format!("the writer has ended: {end:?}"));
    });
}

/// Nothing panics.
pub fn judge_panic(sim: &Arc<Sim>, joined: Result<(), JoinError>) {
    if let Err(error) = joined
        && error.is_panic()
    {
        sim.with(|s| s.violate(format!("a task has panicked: {error}")));
    }
}

/// What is left of the machine.
fn after_life(s: &mut State, life: LifeId, is_done: bool) {
    let rates = s.plan.rates;
    let was_disk_lost = !is_done && s.rng.chance(rates.wipe);
    let death = match () {
        () if is_done || s.rng.chance(500) => Death::Process,
        () if was_disk_lost => Death::Disk,
        () => Death::Machine,
    };
    end_life(s, life, death, is_done);
    let is_retired = death == Death::Disk && s.rng.chance(rates.retire);
    let (boot, now) = (s.lives[life].boot, s.now);
    if is_retired && let Some(row) = s.database.nodes.get_mut(&boot) {
        row.retired_at = Some(now);
        s.note("is retired", s.lives[life].node, 0);
    }
}

/// The last life of all, on the first node: it closes what has been left open until nothing is.
pub async fn keep_last(sim: &Arc<Sim>) {
    let (life, _) = sim.with(|s| begin(s, 0));
    let Some(running) = start(sim, life).await else { return };
    // a minute and twice the longest request: then every hold is too old
    for _ in 0..(2 * MAX_REQUEST_MS + 60_000) / 10_000 {
        if sim.with(|s| s.database.holds.is_empty()) {
            break;
        }
        sim.pause(10_000).await;
        if let Err(error) = running.ledger.close_abandoned_holds().await {
            sim.with(|s| s.violate(format!("holds that nobody ends cannot be closed: {error}")));
        }
    }
    sim.with(|s| s.lives[life].writes_until_death = None);
    let mut tasks = JoinSet::new();
    if serve_and_drain(sim, life, &mut tasks, &running.ledger).await {
        stop(sim, life, running).await;
    }
    sim.with(|s| after_life(s, life, true));
}
