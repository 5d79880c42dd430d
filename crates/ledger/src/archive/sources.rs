//! The segments that a replay reads: found in files and folders, gone through once, then read by place.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    fold::Author,
    losses::{Loss, Losses},
    reader::{SegmentReader, read_at},
    record::{Header, Record},
    segments,
    sorting::{Entry, Kind, Sorted, Sorter},
};

/// Files that are open at a time.
const MOST_OPEN: usize = 200;

/// Segments of any number of nodes.
pub struct Sources {
    segments: Vec<(PathBuf, Option<Header>)>,
    open: HashMap<u32, File>,
    /// Segments that tell of a declaration, and the line that it ended.
    pub declarations: BTreeMap<Uuid, i64>,
    /// The newest line of history that they tell of.
    pub newest_line: i64,
}

impl Sources {
    /// The segments in the given files and folders. A file named directly is taken whatever its name is.
    ///
    /// # Errors
    /// When a path is not there or a folder cannot be read.
    pub fn find(paths: &[PathBuf]) -> io::Result<Self> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for path in paths {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let files = if path.metadata().map_err(named)?.is_dir() {
                segments::list(path)
                    .map_err(named)?
                    .into_iter()
                    .map(|segment| segment.path)
                    .collect()
            } else {
                vec![path.clone()]
            };
            for file in files {
                if seen.insert(file.canonicalize().map_err(named)?) {
                    found.push((file, None));
                }
            }
        }
        // within a boot in the order in which they were written
        found.sort_by_key(|(path, _)| order_of(path));
        Ok(Self {
            segments: found,
            open: HashMap::new(),
            declarations: BTreeMap::new(),
            newest_line: 0,
        })
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Goes through all segments: what is in them, in the order of replay. What cannot be read is a loss.
    ///
    /// # Errors
    /// When a disk fails.
    pub fn index(&mut self, losses: &mut Losses) -> io::Result<Sorted> {
        let mut sorter = Sorter::default();
        for (number, (path, header)) in (0_u32..).zip(&mut self.segments) {
            let mut reader = match SegmentReader::open(path) {
                Ok(reader) => reader,
                Err(error) if is_cut_at_its_beginning(path) => {
                    // a node that dies or has no room leaves such a file
                    tracing::warn!(%error, segment = %path.display(), "an empty segment is left out");
                    continue;
                }
                Err(error) => {
                    let why = error.to_string();
                    losses.add(Loss::Unreadable {
                        segment: path.clone(),
                        why,
                    });
                    continue;
                }
            };
            *header = Some(reader.header());
            let Header { boot, line, .. } = reader.header();
            let declared = index_segment(&mut reader, number, &mut sorter)?;
            self.newest_line = self.newest_line.max(line).max(declared.unwrap_or(0));
            if declared.is_some() {
                self.declarations.insert(boot, line);
            }
            if let Some(offset) = reader.damaged().first() {
                let (segment, places) = (path.clone(), reader.damaged().len());
                losses.add(Loss::Damage {
                    segment,
                    offset: *offset,
                    places,
                });
            }
        }
        sorter.sorted()
    }

    /// Reads the record of an entry.
    ///
    /// # Errors
    /// When it is no longer there.
    pub fn read(&mut self, entry: &Entry) -> io::Result<Record<'static>> {
        if self.open.len() >= MOST_OPEN {
            self.open.clear();
        }
        let file = match self.open.entry(entry.segment) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let path = self
                    .segments
                    .get(entry.segment as usize)
                    .map(|(path, _)| path.as_path());
                place.insert(File::open(path.unwrap_or(Path::new("")))?)
            }
        };
        read_at(file, entry.place())
    }

    /// Who wrote the record of an entry.
    pub fn author(&self, entry: &Entry) -> Author {
        let header = self
            .segments
            .get(entry.segment as usize)
            .and_then(|(_, header)| *header);
        Author {
            node: header.map_or(Uuid::nil(), |header| header.node),
            boot: entry.boot,
        }
    }

    /// The line of history in which the record of an entry was written.
    pub fn line(&self, entry: &Entry) -> i64 {
        let header = self
            .segments
            .get(entry.segment as usize)
            .and_then(|(_, header)| *header);
        header.map_or(0, |header| header.line)
    }

    /// All who wrote something.
    pub fn authors(&self) -> BTreeSet<(Uuid, Uuid)> {
        self.segments
            .iter()
            .filter_map(|(_, header)| header.map(|header| (header.node, header.boot)))
            .collect()
    }
}

fn order_of(path: &Path) -> (String, u32, PathBuf) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (boot, number) = stem.rsplit_once('-').unwrap_or((&stem, ""));
    (boot.to_owned(), number.parse().unwrap_or(0), path.to_path_buf())
}

fn is_cut_at_its_beginning(path: &Path) -> bool {
    const LONGEST_HEADER: u64 = 64;
    path.metadata().is_ok_and(|metadata| metadata.len() < LONGEST_HEADER)
}

/// Notes where every record stands. Parts of a batch count once it is sealed.
fn index_segment(reader: &mut SegmentReader, segment: u32, sorter: &mut Sorter) -> io::Result<Option<i64>> {
    let boot = reader.header().boot;
    let mut declared = None;
    let mut unsealed: Vec<(i64, Entry)> = Vec::new();
    while let Some((place, record)) = reader.next()? {
        let entry = |kind, subject, version| Entry::new(kind, subject, version, boot, segment, place);
        match record {
            Record::Header(_) => {}
            Record::Part(part) => {
                let kind = if part.is_step { Kind::Step } else { Kind::Beside };
                let entry = entry(kind, part.tenant, part.version);
                match part.batch {
                    Some(number) => unsealed.push((number, entry)),
                    None => sorter.push(entry)?,
                }
            }
            Record::Batch(batch) => {
                for (_, part) in unsealed.drain(..).filter(|(number, _)| *number == batch.number) {
                    sorter.push(part)?;
                }
                sorter.push(entry(Kind::Batch, boot, batch.number))?;
            }
            Record::Declaration(line) => declared = Some(line),
            Record::Fork(fork) => sorter.push(entry(Kind::Fork, fork.tenant, fork.to))?,
            Record::Operator(_) => sorter.push(entry(Kind::Operator, boot, 0))?,
        }
    }
    Ok(declared)
}
