//! Shared words and pure arithmetic of the product. No IO, no async, no framework.
//!
//! Every other crate may depend on this one; this one depends on nothing of ours.

pub mod clock;
pub mod ids;
pub mod money;
pub mod pricing;
pub mod refund_rules;
pub mod request;
pub mod scope;
pub mod secret;
pub mod served_names;
pub mod upstream_failure;
pub mod usage;

pub use ids::{
    CredentialId, GrantId, IncidentId, KeyId, LotId, NodeId, OfferId, OperatorTokenId, PoolId, ProviderId, RequestId,
    StatementId, TenantId, WithdrawalId,
};
pub use money::Amount;
