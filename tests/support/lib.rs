//! What the integration tests stand on: the real binary on a real database, a simulated provider, and verbs that
//! read as sentences.
//!
//! [`TestApp`] starts `truerelay serve` on free ports. Which database and limiter it uses is chosen for the whole
//! run by `TRUERELAY_TEST_BACKEND` (`embedded` or `production`), so the same tests run on both. [`TestApp::finish`]
//! asserts that the world is clean: no open hold, every invariant kept, no secret and no canary anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod admin;
mod app;
mod backend;
mod canary;
mod chat;
mod dice;
mod node;
mod private_postgres;
mod private_redis;
mod process;
mod process_tree;
mod recording;
mod small_disk;

pub use admin::{ANTHROPIC_MODEL, Admin, KeyOptions, OPENAI_MODEL, Seeded};
pub use app::{SecondNode, TestApp, TestAppOptions};
pub use backend::{Backend, Backup, LedgerLock};
pub use canary::{COMPLETION_CANARY, PROMPT_CANARY};
pub use chat::{Answer, Client, anthropic_body, openai_body};
pub use dice::Dice;
pub use node::{Node, free_port};
pub use private_postgres::PrivatePostgres;
pub use private_redis::PrivateRedis;
pub use process::Process;
pub use process_tree::signal;
pub use recording::{Recording, recordings};
pub use small_disk::SmallDisk;
