//! Reading what was copied, and naming what cannot be read.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    CopiedRound, EXTENSION,
    frames::{self, Part},
};

/// The files of copies in a folder, oldest boot first; none when there is no such folder.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == EXTENSION));
    files.sort();
    Ok(files)
}

/// Where a round stands, and its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    path: PathBuf,
    body: Range<usize>,
    sum: u32,
}

/// What was read of a file.
enum Read {
    Round(Location, CopiedRound),
    /// What is wrong, with file and byte.
    Damage(String),
}

/// Goes through every round in a folder, file after file. Answers what is damaged, by file and byte; what follows it is read
/// where it can be found again.
///
/// # Errors
/// What the disk says, and what `each` does.
pub fn read_all(
    folder: &Path,
    mut each: impl FnMut(Location, CopiedRound) -> io::Result<()>,
) -> io::Result<Vec<String>> {
    let mut damage = Vec::new();
    let files = files(folder)?;
    for boot in files.chunk_by(|one, next| boot_of(one) == boot_of(next)) {
        for path in boot {
            for read in read_file(path, boot.last() == Some(path))? {
                match read {
                    Read::Round(at, round) => each(at, round)?,
                    Read::Damage(what) => damage.push(what),
                }
            }
        }
    }
    Ok(damage)
}

/// Reads a round again.
///
/// # Errors
/// What the disk says; it is damaged meanwhile.
pub fn read_at(location: &Location) -> io::Result<CopiedRound> {
    let mut file = File::open(&location.path)?;
    let from = u64::try_from(location.body.start).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(from))?;
    let mut body = vec![0; location.body.len()];
    file.read_exact(&mut body)?;
    let round = (crc32fast::hash(&body) == location.sum).then(|| postcard::from_bytes(&body).ok());
    let damaged = || io::Error::other("a round that was there is damaged now");
    round.flatten().ok_or_else(damaged)
}

/// How the copies of a boot end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The last whole round, whichever file has it.
    pub newest: Option<CopiedRound>,
    /// What is damaged behind it: rounds that had been published may have been there.
    pub damage_behind: Vec<String>,
}

/// How the copies of each boot in a folder end. A file without a whole round says nothing, so the one before it is read too.
///
/// # Errors
/// What the disk says.
pub fn newest_of_boots(folder: &Path) -> io::Result<Vec<Boot>> {
    let files = files(folder)?;
    let boots = files.chunk_by(|one, next| boot_of(one) == boot_of(next));
    boots.map(end_of_boot).collect()
}

fn end_of_boot(files: &[PathBuf]) -> io::Result<Boot> {
    let mut end = Boot {
        newest: None,
        damage_behind: Vec::new(),
    };
    for path in files.iter().rev() {
        for read in read_file(path, files.last() == Some(path))?.into_iter().rev() {
            match read {
                Read::Damage(what) => end.damage_behind.push(what),
                Read::Round(_, round) => {
                    end.newest = Some(round);
                    return Ok(end);
                }
            }
        }
    }
    Ok(end)
}

/// The boot that wrote a file: its name begins with a UUID of 36 characters.
fn boot_of(file: &Path) -> &str {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.get(..36).unwrap_or(name)
}

fn read_file(path: &Path, is_last_of_boot: bool) -> io::Result<Vec<Read>> {
    let file = fs::read(path)?;
    let damage = |what: &str, at: usize| Read::Damage(format!("{}: {what} at byte {at}", path.display()));
    let read = |part| match part {
        Part::Body(body) => {
            let bytes = file.get(body.clone()).unwrap_or_default();
            let round = postcard::from_bytes(bytes).map(|round| {
                let at = Location {
                    path: path.to_path_buf(),
                    body: body.clone(),
                    sum: crc32fast::hash(bytes),
                };
                Read::Round(at, round)
            });
            Some(round.unwrap_or_else(|_| damage("it is damaged", body.start)))
        }
        Part::Damaged(0) => Some(damage("it is no copy of a log, or damaged", 0)),
        Part::Damaged(at) => Some(damage("it is damaged", at)),
        Part::Torn(at) => {
            (!is_last_of_boot).then(|| damage("it ends within a round, and another file follows it,", at))
        }
    };
    Ok(frames::parts(&file).into_iter().filter_map(read).collect())
}
