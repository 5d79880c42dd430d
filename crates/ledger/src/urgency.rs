//! Whether somebody waits for the next batch.
//!
//! A batch costs about the same however many items it has, and most of what is queued nobody waits for: a hold is durable
//! long before its provider answers, and an end has no reader. So the writer lets items gather for a moment, and begins at
//! once when somebody says that he waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// How long items gather when nobody waits for them: well below the time in which any provider begins to answer.
pub const GATHERING: Duration = Duration::from_millis(10);

/// Says that somebody waits for what is queued. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Urgency(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_urgent: AtomicBool,
    said: Notify,
}

impl Urgency {
    /// What is queued by now is written at once.
    pub fn hurry(&self) {
        if !self.0.is_urgent.swap(true, Ordering::AcqRel) {
            self.0.said.notify_one();
        }
    }

    /// Returns when somebody waits, or when items have gathered for long enough since the first of them was queued. What is
    /// queued from now on may need to be asked for again.
    pub(crate) async fn gather(&self, since: Instant) {
        let said = self.0.said.notified();
        if self.0.is_urgent.load(Ordering::Acquire) {
            // what was said is heard now, and not by the next batch
            let _heard: Option<()> = said.now_or_never();
        } else {
            // either way it is time
            let _either = timeout_at(since + GATHERING, said).await;
        }
        self.0.is_urgent.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn gathered(urgency: &Urgency) -> Duration {
        let since = Instant::now();
        urgency.gather(since).await;
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn items_gather_until_somebody_waits_and_then_again() {
        let urgency = Urgency::default();
        assert_eq!(gathered(&urgency).await, GATHERING);
        urgency.hurry();
        urgency.hurry();
        assert_eq!(gathered(&urgency).await, Duration::ZERO);
        assert_eq!(gathered(&urgency).await, GATHERING);
        let waiting = urgency.clone();
        let said = tokio::spawn(async move {
            tokio::time::sleep(GATHERING / 2).await;
            waiting.hurry();
        });
        assert_eq!(gathered(&urgency).await, GATHERING / 2);
        said.await.unwrap();
        assert_eq!(gathered(&urgency).await, GATHERING);
    }
}
