//! The nodes' disks: what was not synchronised may be lost or torn, there may be no room, and a synchronisation may fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Cursor},
    sync::Arc,
};

use domain::RequestId;
use ledger::{
    SpoolRecords, Spools,
    items::{Closing, Progress},
    spool::{Disk, Spool, read, read_all},
};
use serde::Deserialize;
use uuid::Uuid;

use crate::sim::{LifeId, Sim, State};

/// One node's disk.
#[derive(Debug, Default)]
pub struct Drive {
    /// The node's name, kept on it.
    pub name: Uuid,
    pub files: BTreeMap<Uuid, File>,
}

/// A spool's file.
#[derive(Debug, Default)]
pub struct File {
    /// What outlives everything.
    pub durable: Vec<u8>,
    /// What was written since.
    pub pending: Vec<(usize, Vec<u8>)>,
    /// A record was there when it was last synchronised.
    pub keeps_something: bool,
}

/// What a spool keeps.
#[derive(Debug, Default)]
pub struct Kept {
    pub ends: BTreeSet<RequestId>,
    /// Those ends that say what was spent before a refusal.
    pub costs: BTreeSet<RequestId>,
    pub progress: BTreeMap<RequestId, i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Progress(Progress),
    Close(Closing),
}

impl Kept {
    /// Of the bytes of a boot's spool.
    pub fn of(bytes: &[u8], boot: Uuid) -> Self {
        let mut kept = Self::default();
        for payload in read_all(bytes, boot).unwrap().payloads {
            match serde_json::from_slice(&payload).unwrap() {
                Record::Progress(progress) => {
                    kept.progress.insert(progress.request, progress.so_far.amount().nanos());
                }
                Record::Close(closing) => {
                    kept.ends.insert(closing.request);
                    if !closing.unbilled.is_empty() {
                        kept.costs.insert(closing.request);
                    }
                }
            }
        }
        kept
    }
}

impl File {
    /// Writes what is pending, all of it.
    pub fn settle(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.pending) {
            self.put(at, &bytes);
        }
    }

    /// Writes one thing.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[at..end].copy_from_slice(bytes);
    }

    fn len(&self) -> usize {
        let ends = self.pending.iter().map(|(at, bytes)| at + bytes.len());
        ends.fold(self.durable.len(), usize::max)
    }
}

/// Whatever a spool has kept must be in the database when it is given up.
pub fn demand_in_database(s: &mut State, kept: &Kept, when: &str) {
    for request in &kept.ends {
        let is_there = s.truth.of(*request).end_is_written || s.database.quarantined.contains(request);
        let number = s.truth.number(*request);
        s.demand(is_there, || {
            format!("request {number}: its end was only in the spool that {when}")
        });
    }
    for (request, kept) in &kept.progress {
        let Some(row) = s.database.holds.get(request) else {
            continue;
        };
        let noted = row
            .progress
            .as_ref()
            .map_or(0, |progress| progress.so_far.amount().nanos());
        let is_there = noted >= *kept || s.database.quarantined.contains(request);
        let number = s.truth.number(*request);
        s.demand(is_there, || {
            format!("request {number}: its progress was only in the spool that {when}")
        });
    }
}

/// A life's view of its node's disk.
pub struct Folder {
    pub sim: Arc<Sim>,
    pub life: LifeId,
}

impl Folder {
    fn with<R>(&self, change: impl FnOnce(&mut State, usize) -> R) -> R {
        self.sim.with(|s| {
            let node = s.lives[self.life].node;
            change(s, node)
        })
    }
}

impl Spools for Folder {
    fn create(&self, boot: Uuid) -> io::Result<Spool> {
        let reserved = self.with(|s, node| {
            if s.plan.is_full(node, s.now) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let reserved = s.plan.reserved_bytes;
            let file = File {
                durable: vec![0; usize::try_from(reserved).unwrap()],
                ..File::default()
            };
            s.drives[node].files.insert(boot, file);
            Ok(reserved)
        })?;
        let file = SpoolFile {
            sim: Arc::clone(&self.sim),
            life: self.life,
            boot,
        };
        Ok(Spool::new(Box::new(file), boot, reserved))
    }

    fn earlier(&self, boot: Uuid) -> io::Result<Vec<Uuid>> {
        Ok(self.with(|s, node| {
            s.drives[node]
                .files
                .keys()
                .copied()
                .filter(|other| *other != boot)
                .collect()
        }))
    }

    fn read(&self, boot: Uuid) -> io::Result<SpoolRecords> {
        let bytes = self.with(|s, node| s.drives[node].files[&boot].durable.clone());
        Ok(Box::new(read(Cursor::new(bytes), boot)?))
    }

    fn remove(&self, boot: Uuid) -> io::Result<()> {
        self.with(|s, node| {
            if s.lives[self.life].is_dead {
                return;
            }
            let file = s.drives[node].files.remove(&boot).unwrap_or_default();
            demand_in_database(s, &Kept::of(&file.durable, boot), "was removed");
            s.note("a spool is removed", node, 0);
        });
        Ok(())
    }
}

struct SpoolFile {
    sim: Arc<Sim>,
    life: LifeId,
    boot: Uuid,
}

impl SpoolFile {
    fn change<R: Default>(&self, change: impl FnOnce(&mut State, usize) -> io::Result<R>) -> io::Result<R> {
        self.sim.with(|s| {
            let life = &s.lives[self.life];
            let (node, is_dead) = (life.node, life.is_dead);
            // the last thing that the process did was before this
            if is_dead { Ok(R::default()) } else { change(s, node) }
        })
    }
}

impl Disk for SpoolFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|s, node| {
            s.note("the spool is written", node, offset.cast_signed());
            let at = usize::try_from(offset).unwrap();
            let dies = s.lives[self.life].writes_until_death == Some(0);
            let has_no_room = s.plan.is_full(node, s.now);
            let copies_on_write = s.plan.copies_on_write;
            let file = s.drives[node].files.get_mut(&self.boot).unwrap();
            let room = match () {
                () if !has_no_room => usize::MAX,
                () if copies_on_write => 0,
                () => file.len().saturating_sub(at),
            };
            let written = if dies { bytes.len() / 2 } else { bytes.len().min(room) };
            file.pending.push((at, bytes[..written].to_vec()));
            if dies {
                let life = &mut s.lives[self.life];
                life.is_dead = true;
                life.killed.notify_one();
                s.note("killed in a write", node, 0);
                return Ok(());
            }
            if let Some(left) = &mut s.lives[self.life].writes_until_death {
                *left -= 1;
            }
            if written < bytes.len() {
                s.disturb(self.life);
                s.truth.count("no room on disk");
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.change(|s, node| {
            let fails = s.now < s.plan.chaos_ms && s.rng.chance(s.plan.rates.broken_disk);
            let file = s.drives[node].files.get_mut(&self.boot).unwrap();
            let before = file
                .pending
                .iter()
                .any(|(at, _)| *at == 0)
                .then(|| Kept::of(&file.durable, self.boot));
            if fails {
                // what could not be written is forgotten, and a second try would say that all is well
                file.pending.clear();
                s.lives[self.life].has_broken_disk = true;
                s.note("the disk fails", node, 0);
                s.truth.count("broken disk");
                return Err(io::Error::other("injected"));
            }
            file.settle();
            let kept = Kept::of(&file.durable, self.boot);
            file.keeps_something = !kept.ends.is_empty() || !kept.progress.is_empty();
            s.note("the spool is synchronised", node, 0);
            s.truth.count("spool synchronised");
            if let Some(before) = before {
                demand_in_database(s, &before, "was cleared");
            }
            Ok(())
        })
    }

    fn shrink(&mut self, bytes: u64) -> io::Result<()> {
        self.change(|s, node| {
            let file = s.drives[node].files.get_mut(&self.boot).unwrap();
            file.durable.truncate(usize::try_from(bytes).unwrap());
            Ok(())
        })
    }
}
