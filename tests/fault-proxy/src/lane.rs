//! One direction of a connection: reads, lets it wait as the faults say, and writes.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    faults::{CutKind, Lane},
    meter::Meter,
    proxy::{Counts, InForce},
};

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;
/// Reads that may be on their way; beyond, the sender is held back by TCP.
const READS_UNDER_WAY: usize = 64;
/// Slices per second of a limited rate.
const SLICES_PER_S: u64 = 50;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToClient,
    ToServer,
}

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The sender's end was passed on.
    InOrder,
    /// The whole connection must break.
    Broken(CutKind),
}

enum Arrival {
    Bytes(Bytes),
    Fin,
    Reset,
}

/// The state of one direction.
pub(crate) struct LaneState {
    direction: Direction,
    changes: watch::Receiver<Arc<InForce>>,
    in_force: Arc<InForce>,
    counts: watch::Sender<Counts>,
    meter: Meter,
    connection: u64,
    dice: StdRng,
}

impl LaneState {
    pub(crate) fn new(
        direction: Direction,
        connection: u64,
        mut changes: watch::Receiver<Arc<InForce>>,
        counts: watch::Sender<Counts>,
    ) -> Self {
        let in_force = Arc::clone(&changes.borrow_and_update());
        Self {
            direction,
            dice: dice(&in_force, connection, direction),
            changes,
            in_force,
            counts,
            meter: Meter::default(),
            connection,
        }
    }

    /// Passes everything on until one side ends or a fault breaks the connection.
    pub(crate) async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Ended {
        let (sender, receiver) = mpsc::channel(READS_UNDER_WAY);
        let reading = pin!(read_all(from, sender));
        let delivering = pin!(self.deliver(receiver, to));
        match select(reading, delivering).await {
            Either::Left(((), delivering)) => delivering.await,
            Either::Right((ended, _)) => ended,
        }
    }

    async fn deliver(mut self, mut arrived: mpsc::Receiver<(Instant, Arrival)>, mut to: WriteHalf<'_>) -> Ended {
        while let Some((at, arrival)) = arrived.recv().await {
            self.wait_for_latency(at).await;
            match arrival {
                Arrival::Bytes(bytes) => {
                    if let Err(how) = self.write(&mut to, bytes).await {
                        return Ended::Broken(how);
                    }
                }
                Arrival::Fin => {
                    self.wait_while_stalled().await;
                    // a receiver that is gone needs no end
                    to.shutdown().await.ok();
                    return Ended::InOrder;
                }
                Arrival::Reset => break,
            }
        }
        self.wait_while_stalled().await;
        Ended::Broken(CutKind::Rst)
    }

    fn lane(&self) -> &Lane {
        match self.direction {
            Direction::ToClient => &self.in_force.faults.to_client,
            Direction::ToServer => &self.in_force.faults.to_server,
        }
    }

    /// Takes the newest faults; with new ones, all counts begin anew.
    fn refresh(&mut self) {
        let newest = Arc::clone(&self.changes.borrow_and_update());
        if newest.number != self.in_force.number {
            self.dice = dice(&newest, self.connection, self.direction);
            self.in_force = newest;
            self.meter = Meter::default();
        }
    }

    async fn wait_for_latency(&mut self, arrived: Instant) {
        loop {
            self.refresh();
            let jitter = match self.lane().jitter_ms {
                0 => 0,
                most => self.dice.random_range(0..=most),
            };
            let wait = Duration::from_millis(self.lane().latency_ms.saturating_add(jitter));
            if self.pause_until(arrived + wait).await {
                return;
            }
        }
    }

    async fn wait_while_stalled(&mut self) {
        self.refresh();
        while self.lane().stalled {
            // without its proxy the connection is dropped anyway
            self.changes.changed().await.ok();
            self.refresh();
        }
    }

    /// Whether the time came before a change of the faults did.
    async fn pause_until(&mut self, until: Instant) -> bool {
        if until <= Instant::now() {
            return true;
        }
        tokio::select! {
            () = sleep_until(until) => true,
            changed = self.changes.changed() => changed.is_err(),
        }
    }

    async fn write(&mut self, to: &mut WriteHalf<'_>, mut bytes: Bytes) -> Result<(), CutKind> {
        while !bytes.is_empty() {
            self.wait_while_stalled().await;
            let (slice, pause) = pace(self.lane());
            let slice = slice.min(bytes.len());
            let cut = self.cut_within(bytes.get(..slice).unwrap_or_default());
            let passing = bytes.split_to(cut.map_or(slice, |(room, _)| room));
            self.pass(to, &passing).await?;
            if let Some((_, how)) = cut {
                return Err(how);
            }
            if !bytes.is_empty() || !pause.is_zero() {
                self.pause_until(Instant::now() + pause).await;
            }
        }
        Ok(())
    }

    /// Where among these bytes the connection breaks, and how. Answering that uses the cut up.
    fn cut_within(&self, bytes: &[u8]) -> Option<(usize, CutKind)> {
        let cut = self.lane().cut.as_ref()?;
        let room = self.meter.room(&cut.after, bytes)?;
        self.in_force.take_cut(self.direction).then_some((room, cut.how))
    }

    async fn pass(&mut self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), CutKind> {
        let corrupt = self
            .lane()
            .corrupt_byte
            .and_then(|offset| self.meter.place_of(offset, bytes));
        self.meter.pass(bytes);
        let written = match corrupt {
            Some(place) => {
                let mut changed = BytesMut::from(bytes);
                if let Some(byte) = changed.get_mut(place) {
                    *byte = !*byte;
                }
                to.write_all(&changed).await
            }
            None => to.write_all(bytes).await,
        };
        written.map_err(|_| CutKind::Rst)?;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.counts.send_modify(|counts| match self.direction {
            Direction::ToClient => counts.bytes_to_client += count,
            Direction::ToServer => counts.bytes_to_server += count,
        });
        Ok(())
    }
}

fn dice(in_force: &InForce, connection: u64, direction: Direction) -> StdRng {
    let lane = connection.wrapping_mul(2) + u64::from(direction == Direction::ToServer);
    StdRng::seed_from_u64(in_force.faults.seed.wrapping_add(lane))
}

/// The size of a slice and the pause after it.
fn pace(lane: &Lane) -> (usize, Duration) {
    if let Some(drip) = lane.drip {
        return (drip.bytes.max(1), Duration::from_millis(drip.every_ms));
    }
    match lane.bytes_per_s.unwrap_or(0) {
        0 => (usize::MAX, Duration::ZERO),
        rate => {
            let slice = (rate / SLICES_PER_S).max(1);
            let pause = Duration::from_micros(slice.saturating_mul(1_000_000) / rate);
            (usize::try_from(slice).unwrap_or(usize::MAX), pause)
        }
    }
}

async fn read_all(mut from: ReadHalf<'_>, arrived: mpsc::Sender<(Instant, Arrival)>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        let arrival = match from.read_buf(&mut buffer).await {
            Ok(0) => Arrival::Fin,
            Ok(_) => Arrival::Bytes(buffer.split().freeze()),
            Err(_) => Arrival::Reset,
        };
        let is_last = !matches!(arrival, Arrival::Bytes(_));
        if arrived.send((Instant::now(), arrival)).await.is_err() || is_last {
            return;
        }
    }
}
