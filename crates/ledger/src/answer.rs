//! The answer to a hold. Good news waits until somebody asks for it; bad news wakes its reader.
//!
//! Nearly every hold is placed, and long before its provider answers: waking each request for that would cost more than
//! the news is worth. A refusal cannot wait, for it ends what has been sent meanwhile.

use tokio::sync::oneshot;

use crate::{error::LedgerError, hold::Hold};

/// Tells what became of a hold. Dropped, it tells that the writer has stopped.
pub struct HoldTeller {
    // closes before `placed` does: whoever finds that closed looks here
    refused: oneshot::Sender<LedgerError>,
    placed: oneshot::Sender<Placed>,
}

/// A hold, and the way on which nothing will come any more: dropped by the teller, it would wake the reader.
type Placed = (Hold, oneshot::Sender<LedgerError>);

/// Hears what became of a hold. Dropped, it gives back what is placed.
pub struct HoldNews {
    placed: oneshot::Receiver<Placed>,
    refused: oneshot::Receiver<LedgerError>,
}

/// Both ends.
pub fn answer() -> (HoldTeller, HoldNews) {
    let (placed, placed_news) = oneshot::channel();
    let (refused, refused_news) = oneshot::channel();
    let news = HoldNews {
        placed: placed_news,
        refused: refused_news,
    };
    (HoldTeller { refused, placed }, news)
}

impl HoldTeller {
    /// Tells it. A reader that has left drops the hold, which voids it.
    pub fn tell(self, outcome: Result<Hold, LedgerError>) {
        match outcome {
            Ok(hold) => drop(self.placed.send((hold, self.refused))),
            // before the other way closes
            Err(error) => drop(self.refused.send(error)),
        }
    }
}

impl HoldNews {
    /// Waits until the hold is placed or refused. The wait may be given up and taken up again; the answer comes once.
    pub async fn outcome(&mut self) -> Result<Hold, LedgerError> {
        match (&mut self.placed).await {
            Ok((hold, _)) => Ok(hold),
            // not awaited, so that nothing can give the wait up in between
            Err(_) => Err(self.refused.try_recv().unwrap_or(LedgerError::Stopped)),
        }
    }

    /// Ends when the hold is refused, and never if it is placed. Comes once, here or as the outcome.
    pub async fn refusal(&mut self) -> LedgerError {
        (&mut self.refused).await.unwrap_or(LedgerError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::{Context, Poll, Wake},
    };

    use domain::{Amount, KeyId, RequestId, TenantId};
    use futures_util::FutureExt;
    use smallvec::SmallVec;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{HoldRequest, queue::Queue};

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn placed() -> Hold {
        let request = HoldRequest {
            request: RequestId::generate(),
            tenant: TenantId::generate(),
            key: KeyId::generate(),
            amount: Amount::ZERO,
            budgets: SmallVec::new(),
            price_version: 1,
            provider: String::new(),
            provider_estimate: Amount::ZERO,
        };
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Hold::new(&request, place, Queue::new(1).0)
    }

    #[test]
    fn good_news_wakes_nobody_and_is_there_when_asked_for() {
        let (teller, mut news) = answer();
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut context = Context::from_waker(&waker);
        {
            let mut refusal = std::pin::pin!(news.refusal());
            assert!(refusal.as_mut().poll(&mut context).is_pending());
            teller.tell(Ok(placed()));
            assert!(!woken.0.load(Ordering::Relaxed), "nobody is woken for it");
            assert!(refusal.poll(&mut context).is_pending());
        }
        assert!(matches!(news.outcome().now_or_never(), Some(Ok(_))));
    }

    #[test]
    fn bad_news_wakes_its_reader_and_is_the_outcome_too() {
        let (teller, mut news) = answer();
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut context = Context::from_waker(&waker);
        {
            let mut refusal = std::pin::pin!(news.refusal());
            assert!(refusal.as_mut().poll(&mut context).is_pending());
            teller.tell(Err(LedgerError::Overloaded));
            assert!(woken.0.load(Ordering::Relaxed));
            assert!(matches!(
                refusal.poll(&mut context),
                Poll::Ready(LedgerError::Overloaded)
            ));
        }
        let (teller, mut news) = answer();
        teller.tell(Err(LedgerError::Overloaded));
        let outcome = news.outcome().now_or_never();
        assert!(matches!(outcome, Some(Err(LedgerError::Overloaded))));
    }

    #[test]
    fn a_teller_that_is_gone_has_stopped() {
        let (teller, mut news) = answer();
        drop(teller);
        assert!(matches!(news.outcome().now_or_never(), Some(Err(LedgerError::Stopped))));
    }
}
