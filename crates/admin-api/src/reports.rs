//! Reports that read much of the database: one at a time on a node, so that they leave it to those who pay.

use std::sync::atomic::{AtomicBool, Ordering};

use domain::clock::UnixMs;
use request_log::Window;

use crate::error::{AdminError, Answer, ErrorCode};

/// The longest window of a report, in milliseconds: 31 days.
const LONGEST_WINDOW_MS: i64 = 31 * 86_400_000;

/// Whether a report runs on this node.
#[derive(Debug, Default)]
pub struct Reports {
    is_running: AtomicBool,
}

/// A report that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Reports);

impl Reports {
    /// Begins a report; 503 while another one runs.
    pub(crate) fn begin(&self) -> Answer<Turn<'_>> {
        if self.is_running.swap(true, Ordering::AcqRel) {
            return Err(AdminError::new(
                ErrorCode::Unavailable,
                "another margin report or price preview runs on this node: try again when it has ended",
            ));
        }
        Ok(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release);
    }
}

/// The window of a report.
pub(crate) fn window(from: UnixMs, to: UnixMs) -> Answer<Window> {
    let length_ms = to.0.saturating_sub(from.0);
    if !(0..=LONGEST_WINDOW_MS).contains(&length_ms) {
        return Err(AdminError::invalid(
            "to",
            "give an instant after `from`, at most 31 days",
        ));
    }
    Ok(Window { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_report_at_a_time() {
        let reports = Reports::default();
        let turn = reports.begin().unwrap();
        assert!(reports.begin().is_err());
        drop(turn);
        assert!(reports.begin().is_ok());
    }

    #[test]
    fn windows_are_bounded() {
        let from = UnixMs(1_000);
        assert!(window(from, from.plus_ms(LONGEST_WINDOW_MS)).is_ok());
        assert!(window(from, from.plus_ms(LONGEST_WINDOW_MS + 1)).is_err());
        assert!(window(from, from.plus_ms(-1)).is_err());
    }
}
