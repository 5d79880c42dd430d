//! The data plane: takes a customer's request, finds an offer, reserves credit, relays, charges.
//!
//! Follow a request from `routes` through `handlers::chat` to `pipeline::relay`, which reads from top to bottom.
//! What is charged is decided in `verdict` (pure), what may be spent in `admission`, and `settlement` ends every
//! request exactly once. It writes no table: holds and charges go through the ledger's writer.

mod admission;
mod answer;
mod background;
mod body;
mod budgets;
mod caller;
mod credit;
mod dispatch;
mod error;
mod exchange;
mod gate;
mod handlers;
mod pacing;
mod parking;
mod parts;
mod patience;
mod pipeline;
mod price_list;
mod public_reading;
mod reply;
mod retry_budget;
mod routes;
mod routing;
mod sending;
mod settings;
mod settlement;
mod upstream;
mod verdict;
mod whole_answer;

pub use background::Background;
pub use budgets::BudgetView;
pub use gate::Gate;
pub use parts::RelayParts;
pub use price_list::PriceList;
pub use public_reading::PublicReadings;
pub use retry_budget::RetryBudget;
pub use routes::{configure, no_such_route};
pub use settings::RelaySettings;
