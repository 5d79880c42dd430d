//! The ledger against a sequential model and against real databases.
//!
//! Every case of [`on_every_database`] runs on SQLite as `..::sqlite::..` and on PostgreSQL as `..::postgres::..`. The
//! latter needs `TRUERELAY_TEST_POSTGRES_URL`, an address under which databases may be created; without it those
//! cases say that they were skipped.

macro_rules! on_every_database {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let world = $crate::tests::world::World::sqlite().await;
                    super::$case(&world).await;
                    world.end().await;
                }
            )+
        }
        on_postgres! { $($case),+ }
    };
}

macro_rules! on_postgres {
    ($($case:ident),+ $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let Some(world) = $crate::tests::world::World::postgres().await else {
                        eprintln!("skipped: TRUERELAY_TEST_POSTGRES_URL is not set");
                        return;
                    };
                    super::$case(&world).await;
                    world.end().await;
                }
            )+
        }
    };
}

mod archive;
mod audit;
mod batches;
mod budgets;
mod contention;
mod corrections;
mod expiry;
mod grants;
mod lifetimes;
mod memory;
mod model;
mod nodes;
mod outage;
mod plans;
mod recovery;
mod spool_survey;
mod withdrawals;
mod world;
mod writing;
