//! Who may use the relay: tenants, their virtual keys, and the tokens of operators.
//!
//! Owns the tables `tenant`, `virtual_key` and `operator_token`, and the caches that answer for them on the request
//! path. A secret exists in memory only, as [`PlainKey`] or [`PlainToken`]; what is stored is its keyed hash.
//! Writing functions take the caller's transaction and never commit it; each writes its audit row and its change
//! notice. Modules named `operator_*` see every tenant and are for operators only; everything else asks for a
//! [`domain::scope::TenantScope`]. Knows nothing of credit: a budget is described here and enforced by the ledger.

mod budget;
mod caller;
mod caller_cache;
mod entities;
mod error;
mod key_format;
mod lookup_cache;
mod operator_cache;
pub mod operator_keys;
pub mod operator_tenants;
pub mod operator_tokens;
mod settings;
mod tenant;
pub mod tenant_keys;
mod trail;
mod virtual_key;

pub use budget::{Budget, BudgetPeriod, period_start};
pub use caller::{Caller, KeyLimits, KeyState, KnownKey};
pub use caller_cache::{CachedLookup, CallerCache};
pub use error::AccountsError;
pub use key_format::{InvalidKey, KeyHash, PlainKey, PlainToken};
pub use operator_cache::{CachedOperator, OperatorCache};
pub use operator_tokens::{Operator, OperatorRole, OperatorToken};
pub use settings::{KeySettings, KeyUpdate, NewTenant, TenantUpdate};
pub use tenant::Tenant;
pub use virtual_key::VirtualKey;
