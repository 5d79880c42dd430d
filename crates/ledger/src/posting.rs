//! A transaction being put together: entries are summed per account, and it must balance.

use std::collections::BTreeMap;

use domain::{Amount, TenantId};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::chart::Account;

/// Entries of one transaction. Debits are positive, credits negative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Posting {
    sums: BTreeMap<Account, i128>,
}

/// The transaction cannot be posted: an error of ours, never of a customer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostingError {
    /// Debits and credits differ.
    #[error("the transaction does not balance")]
    Unbalanced,
    /// An entry does not fit.
    #[error("an entry exceeds the largest amount")]
    TooLarge,
}

impl Posting {
    /// Moves an amount: debits one account and credits another. Nothing happens for nothing.
    pub fn transfer(&mut self, debit: Account, credit: Account, amount: Amount) {
        if amount.is_zero() {
            return;
        }
        *self.sums.entry(debit).or_default() += i128::from(amount.nanos());
        *self.sums.entry(credit).or_default() -= i128::from(amount.nanos());
    }

    /// Whether there is nothing to post.
    pub fn is_empty(&self) -> bool {
        self.sums.values().all(|sum| *sum == 0)
    }

    /// What moves, by account. It fits once the posting was checked, by [`Posting::entries`].
    pub(crate) fn sums(&self) -> impl Iterator<Item = (&Account, i64)> {
        let sums = self.sums.iter().filter(|(_, sum)| **sum != 0);
        sums.map(|(account, sum)| (account, i64::try_from(*sum).unwrap_or(i64::MAX)))
    }

    /// The entries, checked once more to sum to zero.
    ///
    /// # Errors
    /// See [`PostingError`].
    pub fn entries(&self) -> Result<Vec<(String, Amount)>, PostingError> {
        if self.sums.values().sum::<i128>() != 0 {
            return Err(PostingError::Unbalanced);
        }
        self.sums
            .iter()
            .filter(|(_, sum)| **sum != 0)
            .map(|(account, sum)| {
                let nanos = i64::try_from(*sum).map_err(|_| PostingError::TooLarge)?;
                Ok((account.to_string(), Amount::from_nanos(nanos)))
            })
            .collect()
    }
}

/// One transaction of the ledger, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Derived from what caused it, so that the same cause cannot be posted twice.
    pub id: Uuid,
    /// `usage`, `operator_cost`, `grant`, ...
    pub kind: &'static str,
    /// The tenant whose credit moves, if one.
    pub tenant: Option<TenantId>,
    /// What caused it.
    pub reference: String,
    /// The entries.
    pub posting: Posting,
}

/// An id made from what caused the transaction: the same parts give the same id (UUIDv8 over SHA-256).
pub fn transaction_id(parts: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        // lengths keep ("ab","c") apart from ("a","bc")
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}
