//! What a spool holds, of whatever a crash and a bad disk left of it: never a record that was not appended, and every
//! record that is whole. Twice through the file: first which generation is the last and where it ends, then its
//! records in order.

use std::{
    fmt,
    io::{self, Cursor, Read, Seek, SeekFrom},
};

use uuid::Uuid;

use super::{
    frame::{MARKER, Seal},
    scan::{Scan, Sighting},
};

/// Part of a spool that cannot be read, with a readable record behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the first damaged byte in the file.
    pub from: u64,
    /// Offset of the next whole record; the same as `from` if records are missing without a trace.
    pub to: u64,
    /// How many records are lost; none if only the opening of the file is damaged.
    pub lost: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, lost } = self;
        write!(
            formatter,
            "bytes {from} to {to} cannot be read, {lost} records are lost"
        )
    }
}

/// What comes next in a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A record as it was appended.
    Record(Vec<u8>),
    /// Something before the next record is lost.
    Damage(Damage),
}

/// All of a small spool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// The records in the order in which they were appended.
    pub payloads: Vec<Vec<u8>>,
    /// What could not be read between them.
    pub damaged: Vec<Damage>,
    /// Whether a record was begun behind the last one and is not whole.
    pub tail_cut: bool,
}

/// What the first way through the file found.
#[derive(Debug, Clone, Copy, Default)]
struct Survey {
    generation: u64,
    records: u64,
    end: u64,
    tail_cut: bool,
}

/// The records of a spool in order. Bounded memory: that of the longest record. Ends after an error.
pub struct Reading<R> {
    scan: Scan<R>,
    survey: Survey,
    /// Where the next frame should begin.
    expected_offset: u64,
    /// Which one it should be.
    expected_sequence: u64,
    /// Sighted behind a damage that was just reported.
    waiting: Option<Vec<u8>>,
    finished: bool,
}

/// Opens a spool to read what `boot` wrote. The source is read from its beginning.
pub fn read<R: Read + Seek>(mut source: R, boot: Uuid) -> io::Result<Reading<R>> {
    source.seek(SeekFrom::Start(0))?;
    let mut scan = Scan::new(source, Seal::new(boot));
    let (mut survey, followed) = survey(&mut scan)?;
    let (mut source, seal) = scan.into_parts();
    source.seek(SeekFrom::Start(survey.end))?;
    let mut next = Vec::new();
    source.by_ref().take(1).read_to_end(&mut next)?;
    survey.tail_cut = !followed && next.first() == MARKER.first();
    source.seek(SeekFrom::Start(0))?;
    Ok(Reading {
        scan: Scan::new(source, seal),
        survey,
        expected_offset: 0,
        expected_sequence: 0,
        waiting: None,
        finished: false,
    })
}

/// Reads a spool that is in memory.
pub fn read_all(bytes: &[u8], boot: Uuid) -> io::Result<Contents> {
    let reading = read(Cursor::new(bytes), boot)?;
    let mut contents = Contents {
        tail_cut: reading.tail_cut(),
        ..Contents::default()
    };
    for found in reading {
        match found? {
            Found::Record(payload) => contents.payloads.push(payload),
            Found::Damage(damage) => contents.damaged.push(damage),
        }
    }
    Ok(contents)
}

/// Finds the last generation, and whether its end is followed by a whole frame of an earlier one.
fn survey<R: Read>(scan: &mut Scan<R>) -> io::Result<(Survey, bool)> {
    let mut survey = Survey::default();
    let mut followed = false;
    while let Some(Sighting { offset, end, header }) = scan.next()? {
        if header.generation > survey.generation {
            survey = Survey {
                generation: header.generation,
                ..Survey::default()
            };
        }
        if header.generation == survey.generation {
            survey.records += u64::from(header.sequence > 0);
            survey.end = end;
            followed = false;
        } else if offset == survey.end {
            followed = true;
        }
    }
    Ok((survey, followed))
}

impl<R> Reading<R> {
    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.survey.records
    }

    /// Whether a record was begun behind the last one and is not whole. Only a hint: a beginning may be lost too, and
    /// what is left of an earlier generation may look like one.
    pub fn tail_cut(&self) -> bool {
        self.survey.tail_cut
    }
}

impl<R: Read> Reading<R> {
    fn find(&mut self) -> io::Result<Option<Found>> {
        if let Some(payload) = self.waiting.take() {
            return Ok(Some(Found::Record(payload)));
        }
        while self.expected_offset < self.survey.end {
            let Some(sighting) = self.scan.next()? else {
                break;
            };
            let Sighting { offset, end, header } = sighting;
            // left over from before, in a place that this generation should have overwritten
            if header.generation != self.survey.generation || header.sequence < self.expected_sequence {
                continue;
            }
            let damage = Damage {
                from: self.expected_offset,
                to: offset,
                lost: header.sequence.saturating_sub(self.expected_sequence.max(1)),
            };
            let undamaged = offset == self.expected_offset && header.sequence == self.expected_sequence;
            self.expected_offset = end;
            self.expected_sequence = header.sequence + 1;
            let payload = (header.sequence > 0).then(|| self.scan.payload(&sighting));
            match payload {
                _ if !undamaged => {
                    self.waiting = payload;
                    return Ok(Some(Found::Damage(damage)));
                }
                Some(payload) => return Ok(Some(Found::Record(payload))),
                None => {}
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Reading<R> {
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let found = self.find().transpose();
        self.finished = !matches!(found, Some(Ok(_)));
        found
    }
}
