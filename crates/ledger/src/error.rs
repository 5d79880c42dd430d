//! Why the ledger could not do what was asked, by what a caller can do.

use domain::Amount;
use store::StoreError;

use crate::items::Refusal;

/// A request to the ledger that was not carried out. Nothing was reserved or charged.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database refused the hold: tell the customer what is affordable.
    #[error("the hold was refused")]
    Refused(Refusal),
    /// The request id was used before: make a new one.
    #[error("the request has been seen before")]
    Duplicate,
    /// Too much waits for the database: try again in a moment.
    #[error("too many requests wait for the ledger")]
    Overloaded,
    /// The database does not answer: try again later.
    #[error("the ledger's database does not answer")]
    Unavailable,
    /// The writer has stopped; the process is ending.
    #[error("the ledger has stopped")]
    Stopped,
    /// The hold could not be written; an error of ours.
    #[error("the ledger could not write the hold")]
    Rejected,
    /// The database said something else.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder that keeps ends while the database is away cannot be read or written: see to its disk.
    #[error("the spool's folder cannot be used: {0}")]
    Spool(#[source] std::io::Error),
    /// The amount asked for makes no sense.
    #[error("{0}")]
    InvalidAmount(&'static str),
    /// The database was restored from a backup and is older than what was archived since.
    #[error(
        "the database is older than what was archived since ({0}): it was restored from a backup. Stop every node, then run \
         `truerelay ledger replay` with the archive folders of all nodes; what cannot be found is declared lost with \
         `truerelay ledger replay --declare-lost --reason TEXT`"
    )]
    AwaitsReplay(String),
    /// The archive cannot be read or written: see to its folder.
    #[error("the ledger's archive cannot be used: {0}")]
    Archive(#[source] std::io::Error),
    /// Credit was to expire at an instant that has passed, by the database's clock.
    #[error("the instant has passed: name one in the future, or none for credit that does not expire")]
    ExpiryPassed,
    /// The tenant has no such lot.
    #[error("the tenant has no such lot: read its balance for those that it has")]
    UnknownLot,
    /// A refund of credit that was given, not bought.
    #[error("promotional credit is never paid back: name a lot of paid credit, or suspend this one")]
    NotRefundable,
    /// More was to be withdrawn from a lot than is left in it and not claimed already.
    #[error("only USD {0} of the lot are left that nothing else has claimed: ask for no more")]
    MoreThanLeft(Amount),
    /// More was to be released than was suspended.
    #[error("only USD {0} of the lot are suspended: ask for no more")]
    MoreThanSuspended(Amount),
    /// The request is open, or there was none: there is no charge that could be corrected.
    #[error("there is no charge of such a request: it has not ended, or its id is wrong")]
    UnknownCharge,
    /// More was to be given back than is left of the charge.
    #[error("only USD {0} of the charge are left that no correction has given back: ask for no more")]
    MoreThanCharged(Amount),
    /// More goodwill was to be given for a request than it could have cost.
    #[error("goodwill for a request is at most what was held for it, of which USD {0} are left: ask for no more")]
    MoreThanHeld(Amount),
    /// An earlier withdrawal of the same purpose still waits on the lot.
    #[error(
        "an earlier withdrawal of this purpose still waits for requests under way to end: try again when they have"
    )]
    ClaimWaits,
}
