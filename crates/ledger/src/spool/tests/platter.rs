//! A disk that loses power, has too little room, and breaks: faults that a file cannot be made to show.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::super::Disk;

const SECTOR_BYTES: usize = 512;

enum Unsynced {
    Write { offset: usize, bytes: Vec<u8> },
    Shrink(usize),
}

#[derive(Default)]
pub(super) struct State {
    /// What outlives a loss of power for certain.
    durable: Vec<u8>,
    /// What a reader would see now.
    pub(super) live: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// How long the disk may become; what is in it can always be overwritten.
    pub(super) room: usize,
    /// How many calls still succeed.
    pub(super) calls_left: Option<usize>,
    pub(super) calls: usize,
}

impl State {
    fn call(&mut self) -> bool {
        self.calls += 1;
        match &mut self.calls_left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        overwrite(&mut self.live, offset, bytes);
        self.unsynced.push(Unsynced::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

/// Shared by the test and the spool that writes on it.
#[derive(Clone)]
pub(super) struct Platter(Arc<Mutex<State>>);

impl Platter {
    /// With `reserved` zeros, and `room` bytes more.
    pub(super) fn new(reserved: usize, room: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            durable: vec![0; reserved],
            live: vec![0; reserved],
            room: reserved + room,
            ..State::default()
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the platter")
    }

    /// What is left after a loss of power: of every write since the last sync nothing, all, a beginning, or some
    /// sectors, as `fates` say.
    pub(super) fn lose_power(&self, fates: &[u32]) -> Vec<u8> {
        let state = self.state();
        let mut file = state.durable.clone();
        let mut fates = fates.iter().copied().cycle();
        for unsynced in &state.unsynced {
            let (kind, detail) = (fates.next().unwrap_or(1), fates.next().unwrap_or(0));
            match (unsynced, kind % 4) {
                (_, 0) => {}
                (Unsynced::Shrink(length), _) => file.truncate(*length),
                (Unsynced::Write { offset, bytes }, 1) => overwrite(&mut file, *offset, bytes),
                (Unsynced::Write { offset, bytes }, 2) => {
                    overwrite(&mut file, *offset, &bytes[..detail as usize % (bytes.len() + 1)]);
                }
                (Unsynced::Write { offset, bytes }, _) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let sector = (offset + at) / SECTOR_BYTES;
                        let end = bytes.len().min((sector + 1) * SECTOR_BYTES - offset);
                        if detail >> (sector % 32) & 1 == 1 {
                            overwrite(&mut file, offset + at, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
        file
    }
}

impl Disk for Platter {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let offset = usize::try_from(offset).expect("offsets of tests are small");
        if !state.call() {
            state.write(offset, bytes);
            return Err(io::Error::other("bad sector"));
        }
        let limit = state.room.max(state.live.len());
        if offset + bytes.len() > limit {
            let fitting = limit.saturating_sub(offset);
            state.write(offset, &bytes[..fitting]);
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.write(offset, bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state();
        if !state.call() {
            return Err(io::Error::other("bad sector"));
        }
        state.durable = state.live.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn shrink(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        if !state.call() {
            return Err(io::Error::other("bad sector"));
        }
        let length = usize::try_from(bytes).expect("lengths of tests are small");
        state.live.truncate(length);
        state.unsynced.push(Unsynced::Shrink(length));
        Ok(())
    }
}
