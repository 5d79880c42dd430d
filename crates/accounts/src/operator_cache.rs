//! From the hash of a presented operator token to the operator. Unknown and revoked look the same.

use store::Database;

use crate::{
    AccountsError, KeyHash, Operator,
    lookup_cache::{Answer, LookupCache},
    operator_tokens,
};

/// Who presented an operator token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachedOperator {
    /// An operator.
    Known(Operator),
    /// Nobody: the token was never issued or has been revoked.
    Unknown,
}

/// Operators by full token hash: at most 10 seconds old (2 for unknown tokens), bounded, and emptied by
/// [`OperatorCache::invalidate_all`] whenever the version of [`store::changes::Topic::Operators`] has moved.
pub struct OperatorCache {
    operators: LookupCache<Operator>,
}

impl Default for OperatorCache {
    fn default() -> Self {
        Self::new()
    }
}

impl OperatorCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            operators: LookupCache::new(),
        }
    }

    /// The answer if it is at hand; otherwise ask [`OperatorCache::resolve`].
    pub fn lookup(&self, hash: &KeyHash) -> Option<CachedOperator> {
        self.operators.lookup(hash).map(CachedOperator::from)
    }

    /// The answer at hand, or the database's. Those who ask for the same token at once share one query.
    ///
    /// # Errors
    /// [`AccountsError::Lookup`] when the database failed; nothing is remembered then.
    pub async fn resolve(&self, database: &Database, hash: KeyHash) -> Result<CachedOperator, AccountsError> {
        let answer = self
            .operators
            .resolve(hash, || operator_tokens::authenticate(database.readers(), hash))
            .await;
        answer.map(CachedOperator::from).map_err(AccountsError::Lookup)
    }

    /// Forgets everything, lookups under way included.
    pub fn invalidate_all(&self) {
        self.operators.invalidate_all();
    }
}

impl From<Answer<Operator>> for CachedOperator {
    fn from(answer: Answer<Operator>) -> Self {
        answer.map_or(Self::Unknown, |operator| Self::Known(*operator))
    }
}
