//! What waits in a node's spools, for whoever looks from outside. Changes nothing; the node may be writing meanwhile.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::Path,
};

use uuid::Uuid;

use crate::{
    batch::Item,
    spool::{Damage, Found, SpoolFolder, read},
    spooled,
};

/// A spool that is written while it is read may look damaged for a moment: it is read again before that is believed.
const READINGS: usize = 3;

/// One boot's spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSurvey {
    /// The boot that wrote it.
    pub boot: Uuid,
    /// Ends of requests that wait for the database.
    pub ends: u64,
    /// Notes of how far answers have come that wait for the database.
    pub progress: u64,
    /// Whole records that no version of ours has written.
    pub unknown: u64,
    /// What cannot be read.
    pub damaged: Vec<Damage>,
}

impl SpoolSurvey {
    /// Whether everything in it can be applied.
    pub fn is_whole(&self) -> bool {
        self.unknown == 0 && self.damaged.is_empty()
    }
}

/// Surveys every spool in a data folder, oldest boot first; none where there is no folder of spools.
///
/// # Errors
/// When the folder or a file in it cannot be read, or a file is not named as a spool is.
pub fn survey_spools(data_folder: &Path) -> io::Result<Vec<SpoolSurvey>> {
    let Some(folder) = SpoolFolder::existing(data_folder) else {
        return Ok(Vec::new());
    };
    let mut surveys = Vec::new();
    for (boot, path) in folder.earlier(Uuid::nil())? {
        match survey(boot, &path) {
            Ok(survey) => surveys.push(survey),
            // all of it came to the database meanwhile
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(surveys)
}

fn survey(boot: Uuid, path: &Path) -> io::Result<SpoolSurvey> {
    let mut last = read_once(boot, path)?;
    for _ in 1..READINGS {
        if last.is_whole() {
            break;
        }
        last = read_once(boot, path)?;
    }
    Ok(last)
}

fn read_once(boot: Uuid, path: &Path) -> io::Result<SpoolSurvey> {
    let mut survey = SpoolSurvey {
        boot,
        ends: 0,
        progress: 0,
        unknown: 0,
        damaged: Vec::new(),
    };
    for found in read(File::open(path)?, boot)? {
        match found? {
            Found::Damage(damage) => survey.damaged.push(damage),
            Found::Record(bytes) => match spooled::decode(&bytes) {
                Some(Item::Close(_)) => survey.ends += 1,
                Some(Item::Progress(_)) => survey.progress += 1,
                Some(Item::Hold(_)) | None => survey.unknown += 1,
            },
        }
    }
    Ok(survey)
}
