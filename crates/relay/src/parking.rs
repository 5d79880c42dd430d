//! Where an answer waits while its client has bytes to read. A client that does not read is never polled again, so
//! somebody else has to be able to end its answer: or its hold and the upstream's work would be pinned for as long as
//! it likes.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// A place for one thing, and since when it has been there.
#[derive(Debug)]
pub struct Parking<T> {
    slot: Mutex<Option<(T, Instant)>>,
}

impl<T> Parking<T> {
    /// An empty place.
    pub const fn empty() -> Self {
        Self { slot: Mutex::new(None) }
    }

    /// Puts it there.
    pub fn park(&self, parked: T) {
        *self.slot.lock() = Some((parked, Instant::now()));
    }

    /// Takes it out; `None` when somebody else has.
    pub fn leave(&self) -> Option<T> {
        self.slot.lock().take().map(|(parked, _)| parked)
    }

    /// Counts the time from now on: the client has read something.
    pub fn renew(&self) {
        if let Some((_, since)) = self.slot.lock().as_mut() {
            *since = Instant::now();
        }
    }

    /// Takes it out when it has been there for so long; else says when to ask again.
    pub fn leave_after(&self, longest: Duration) -> Result<T, Duration> {
        let mut slot = self.slot.lock();
        let waited = slot.as_ref().map(|(_, since)| since.elapsed()).unwrap_or_default();
        match longest.checked_sub(waited) {
            Some(left) if !left.is_zero() => Err(left),
            _ => slot.take().map(|(parked, _)| parked).ok_or(longest),
        }
    }
}

/// Drops what is parked once it has been there for so long. Ends with the place.
pub async fn evict<T>(place: Weak<Parking<T>>, longest: Duration) {
    let mut wait = longest;
    loop {
        tokio::time::sleep(wait).await;
        match place.upgrade().map(|place: Arc<Parking<T>>| place.leave_after(longest)) {
            Some(Err(left)) => wait = left,
            Some(Ok(stalled)) => {
                metrics::counter!("truerelay_stalled_clients_total").increment(1);
                drop(stalled);
                return;
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_waited_is_taken_by_another() {
        let place = Parking::empty();
        assert_eq!(place.leave_after(Duration::ZERO), Err(Duration::ZERO));
        place.park(1);
        let hour = Duration::from_secs(3_600);
        assert!(
            place
                .leave_after(hour)
                .is_err_and(|left| left <= hour && !left.is_zero())
        );
        place.renew();
        assert_eq!(place.leave_after(Duration::ZERO), Ok(1));
        assert_eq!(place.leave(), None, "it is gone for its owner");
        place.park(2);
        assert_eq!(place.leave(), Some(2));
    }
}
