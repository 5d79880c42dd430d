//! Bringing the records of many segments into the order in which they are replayed, with bounded memory: places are
//! sorted in runs, which are merged from temporary files.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
};

use uuid::Uuid;

use super::reader::Place;

/// Places that are held in memory: 64 MiB.
const RUN_LENGTH: usize = 1 << 20;

/// What kind of record stands at a place. In the order in which they are replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A tenant's forks come before its parts, so that they are known.
    Fork,
    /// A tenant's step.
    Step,
    /// What left the tenant's balance alone, after the step to the same version.
    Beside,
    /// A batch of a boot.
    Batch,
    /// Transactions beside any batch.
    Operator,
}

const KINDS: [Kind; 5] = [Kind::Fork, Kind::Step, Kind::Beside, Kind::Batch, Kind::Operator];

/// A record's place in the order. Tenants come first, then boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Whether it is about a boot, not about a tenant.
    pub is_of_boot: bool,
    /// The tenant or the boot.
    pub subject: Uuid,
    /// Whether it is a fork, which comes first.
    is_no_fork: bool,
    /// The version or the batch's number.
    pub version: i64,
    /// What it is.
    pub kind: Kind,
    /// The boot that has written it.
    pub boot: Uuid,
    /// The segment, counted over all that are read.
    pub segment: u32,
    offset: u64,
    bytes: u32,
}

const ENTRY_BYTES: usize = 1 + 16 + 8 + 16 + 4 + 8 + 4;

impl Entry {
    /// For a record at a place in a segment.
    pub const fn new(kind: Kind, subject: Uuid, version: i64, boot: Uuid, segment: u32, place: Place) -> Self {
        Self {
            is_of_boot: matches!(kind, Kind::Batch | Kind::Operator),
            subject,
            is_no_fork: !matches!(kind, Kind::Fork),
            version,
            kind,
            boot,
            segment,
            offset: place.offset,
            bytes: place.bytes,
        }
    }

    /// Where the record is.
    pub const fn place(&self) -> Place {
        Place {
            offset: self.offset,
            bytes: self.bytes,
        }
    }

    /// Whether it is a fork of the tenant.
    pub fn is_fork_of(&self, tenant: Uuid) -> bool {
        self.kind == Kind::Fork && self.subject == tenant
    }

    fn write(&self, into: &mut impl Write) -> io::Result<()> {
        into.write_all(&[self.kind as u8])?;
        into.write_all(self.subject.as_bytes())?;
        into.write_all(&self.version.to_le_bytes())?;
        into.write_all(self.boot.as_bytes())?;
        into.write_all(&self.segment.to_le_bytes())?;
        into.write_all(&self.offset.to_le_bytes())?;
        into.write_all(&self.bytes.to_le_bytes())
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let kind = take::<1>(from)?;
        let kind = KINDS.get(usize::from(kind[0])).copied();
        let kind = kind.ok_or_else(|| io::Error::other("a temporary file was changed"))?;
        let subject = Uuid::from_bytes(take(from)?);
        let version = i64::from_le_bytes(take(from)?);
        let boot = Uuid::from_bytes(take(from)?);
        let segment = u32::from_le_bytes(take(from)?);
        let offset = u64::from_le_bytes(take(from)?);
        let bytes = u32::from_le_bytes(take(from)?);
        Ok(Self::new(
            kind,
            subject,
            version,
            boot,
            segment,
            Place { offset, bytes },
        ))
    }
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Takes entries in any order.
pub struct Sorter {
    run_length: usize,
    current: Vec<Entry>,
    runs: Vec<(File, usize)>,
}

impl Default for Sorter {
    fn default() -> Self {
        Self::with_runs_of(RUN_LENGTH)
    }
}

impl Sorter {
    /// With as many entries in memory.
    pub const fn with_runs_of(run_length: usize) -> Self {
        Self {
            run_length,
            current: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Takes one more.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.current.push(entry);
        if self.current.len() >= self.run_length {
            self.current.sort_unstable();
            let mut file = BufWriter::with_capacity(64 * ENTRY_BYTES, tempfile::tempfile()?);
            for entry in &self.current {
                entry.write(&mut file)?;
            }
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            self.runs.push((file, self.current.len()));
            self.current.clear();
        }
        Ok(())
    }

    /// All entries in order; the same place comes once.
    ///
    /// # Errors
    /// When a temporary file cannot be read.
    pub fn sorted(mut self) -> io::Result<Sorted> {
        self.current.sort_unstable();
        let mut sources = vec![Source::Memory(self.current.into_iter())];
        sources.extend(
            self.runs
                .into_iter()
                .map(|(file, left)| Source::File(BufReader::new(file), left)),
        );
        let mut sorted = Sorted {
            heap: BinaryHeap::new(),
            sources,
        };
        for index in 0..sorted.sources.len() {
            sorted.refill(index)?;
        }
        Ok(sorted)
    }
}

enum Source {
    Memory(std::vec::IntoIter<Entry>),
    File(BufReader<File>, usize),
}

/// Entries in order.
pub struct Sorted {
    heap: BinaryHeap<Reverse<(Entry, usize)>>,
    sources: Vec<Source>,
}

impl Sorted {
    /// The next entry, which is not taken.
    pub fn peek(&self) -> Option<&Entry> {
        self.heap.peek().map(|Reverse((entry, _))| entry)
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// When a temporary file cannot be read.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let Some(Reverse((entry, source))) = self.heap.pop() else {
            return Ok(None);
        };
        self.refill(source)?;
        Ok(Some(entry))
    }

    fn refill(&mut self, index: usize) -> io::Result<()> {
        let next = match self.sources.get_mut(index) {
            Some(Source::Memory(entries)) => entries.next(),
            Some(Source::File(file, left)) if *left > 0 => {
                *left -= 1;
                Some(Entry::read(file)?)
            }
            _ => None,
        };
        self.heap.extend(next.map(|entry| Reverse((entry, index))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        (0_usize..5, 0_u128..4, 0_i64..6, 0_u128..2, 0_u32..3, 0_u64..9).prop_map(
            |(kind, subject, version, boot, segment, offset)| {
                let place = Place { offset, bytes: 1 };
                let (subject, boot) = (Uuid::from_u128(subject), Uuid::from_u128(boot));
                Entry::new(KINDS[kind], subject, version, boot, segment, place)
            },
        )
    }

    proptest! {
        #[test]
        fn runs_in_files_change_nothing(entries in proptest::collection::vec(entry(), 0..60), run in 1_usize..20) {
            let mut sorter = Sorter::with_runs_of(run);
            for entry in &entries {
                sorter.push(*entry).unwrap();
            }
            let mut sorted = sorter.sorted().unwrap();
            let mut found = Vec::new();
            while let Some(entry) = sorted.next().unwrap() {
                found.push(entry);
            }
            let mut expected = entries;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_tenant_comes_before_boots_its_forks_first_and_its_step_before_what_stands_beside() {
        let (tenant, boot) = (Uuid::max(), Uuid::nil());
        let place = Place { offset: 0, bytes: 0 };
        let at = |kind, version| Entry::new(kind, tenant, version, boot, 0, place);
        let batch = Entry::new(Kind::Batch, boot, 1, boot, 0, place);
        let mut entries = [
            batch,
            at(Kind::Beside, 3),
            at(Kind::Step, 4),
            at(Kind::Step, 3),
            at(Kind::Fork, 9),
        ];
        entries.sort();
        let kinds: Vec<Kind> = entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(
            kinds,
            vec![Kind::Fork, Kind::Step, Kind::Beside, Kind::Step, Kind::Batch]
        );
    }
}
