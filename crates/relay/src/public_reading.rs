//! What everybody may ask the database without a key, and how much of it at once.

use store::Backend;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::RelayError;

/// What is read. Each has places of its own, so that asking for one keeps nobody from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Past and announced prices.
    Prices,
    /// The transparency log, which is needed to check any receipt.
    Log,
    /// Incidents.
    Incidents,
}

/// The readings that are under way.
#[derive(Debug)]
pub struct PublicReadings {
    prices: Semaphore,
    log: Semaphore,
    incidents: Semaphore,
}

/// Readings of a subject that may be under way at once: they cost the database time. SQLite has four connections for reading,
/// which requests need too, and ends no statement that takes long.
const fn most(backend: Backend) -> usize {
    match backend {
        Backend::Sqlite => 1,
        Backend::Postgres => 3,
    }
}

impl PublicReadings {
    /// None under way.
    pub fn new(backend: Backend) -> Self {
        let places = || Semaphore::new(most(backend));
        Self {
            prices: places(),
            log: places(),
            incidents: places(),
        }
    }

    /// Permission to read, until it is dropped.
    ///
    /// # Errors
    /// `RelayError::Overloaded` while too many others read the same.
    pub fn permit(&self, subject: Subject) -> Result<SemaphorePermit<'_>, RelayError> {
        let places = match subject {
            Subject::Prices => &self.prices,
            Subject::Log => &self.log,
            Subject::Incidents => &self.incidents,
        };
        places.try_acquire().map_err(|_| RelayError::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_past_prices_keeps_nobody_from_anything_else() {
        let readings = PublicReadings::new(Backend::Sqlite);
        let reading = readings.permit(Subject::Prices).unwrap();
        assert!(readings.permit(Subject::Prices).is_err());
        assert!(readings.permit(Subject::Log).is_ok());
        assert!(readings.permit(Subject::Incidents).is_ok());
        drop(reading);
        assert!(readings.permit(Subject::Prices).is_ok());
    }
}
