//! A question that is asked again while nothing answers. After an outage of the network the first one may hang on a
//! connection that is dead without knowing it; another one gets through.

use std::time::Duration;

use store::StoreError;
use tokio::{
    task::JoinSet,
    time::{Instant, interval_at, timeout},
};

/// An answer takes milliseconds.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The first answer to `ask`, which is asked again each second until `longest` is over.
///
/// # Errors
/// What the last one to fail says; [`StoreError::Busy`] when nothing has answered in time.
pub async fn first_answer<T, F>(longest: Duration, ask: impl Fn() -> F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let answered = async {
        let mut asked = JoinSet::new();
        asked.spawn(ask());
        let mut again = interval_at(Instant::now() + ASK_AGAIN_AFTER, ASK_AGAIN_AFTER);
        loop {
            tokio::select! {
                Some(joined) = asked.join_next() => match joined {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) if asked.is_empty() => return Err(error),
                    // the others may know better
                    Ok(Err(_)) | Err(_) => {}
                },
                _ = again.tick() => drop(asked.spawn(ask())),
            }
        }
    };
    timeout(longest, answered).await.unwrap_or(Err(StoreError::Busy))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONGEST: Duration = Duration::from_secs(5);

    /// Hangs so many times, then answers which time it was.
    async fn asked(hangs: u32) -> (Result<u32, StoreError>, Duration) {
        let times = AtomicU32::new(0);
        let began = Instant::now();
        let answer = first_answer(LONGEST, || {
            let time = times.fetch_add(1, Ordering::Relaxed);
            async move {
                if time < hangs {
                    std::future::pending::<()>().await;
                }
                Ok(time)
            }
        });
        (answer.await, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_does_not_keep_the_next_from_being_answered() {
        assert!(matches!(asked(0).await, (Ok(0), Duration::ZERO)));
        let (answer, taken) = asked(1).await;
        assert!(matches!(answer, Ok(1)));
        assert!(taken < Duration::from_secs(2), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nothing_answers() {
        let (answer, taken) = asked(1_000).await;
        assert!(matches!(answer, Err(StoreError::Busy)));
        assert!(taken < LONGEST + Duration::from_secs(1), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_at_once() {
        let answer = first_answer(LONGEST, || async { Err::<(), _>(StoreError::Fenced("gone")) });
        let began = Instant::now();
        assert!(matches!(answer.await, Err(StoreError::Fenced("gone"))));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
