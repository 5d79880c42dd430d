//! The tokens with which operators sign in to the admin API.

use domain::{OperatorTokenId, clock::UnixMs};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Set,
};
use serde::{Deserialize, Serialize};
use store::{StoreError, Tx, audit::Actor, changes::Topic, keyring::ServerKey};

use crate::{AccountsError, KeyHash, PlainToken, entities::operator_token, settings::valid_name, trail::Write};

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// See and change everything.
    Full,
    /// See everything, change nothing.
    ReadOnly,
}

impl OperatorRole {
    /// The stable name, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
        }
    }

    /// Whether the role may change anything.
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Full)
    }

    fn from_stored(text: &str) -> Option<Self> {
        [Self::Full, Self::ReadOnly]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// An authenticated operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    /// The token that was used; also the operator's name in audit rows.
    pub id: OperatorTokenId,
    /// What the operator may do.
    pub role: OperatorRole,
}

impl Operator {
    /// The operator as the author of changes.
    pub fn actor(&self) -> Actor {
        Actor::operator(self.id)
    }
}

/// An operator's token as it is shown after its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorToken {
    /// Its id.
    pub id: OperatorTokenId,
    /// Its name, for people.
    pub name: String,
    /// What it permits.
    pub role: OperatorRole,
    /// The last four characters of the secret.
    pub last4: String,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixMs>,
    /// When it was created.
    pub created_at: UnixMs,
}

impl TryFrom<operator_token::Model> for OperatorToken {
    type Error = StoreError;

    fn try_from(row: operator_token::Model) -> Result<Self, StoreError> {
        let id = OperatorTokenId::from_uuid(row.id);
        let role = OperatorRole::from_stored(&row.role).ok_or_else(|| StoreError::damaged(format!("role of {id}")))?;
        Ok(Self {
            id,
            name: row.name,
            role,
            last4: row.last4,
            revoked_at: row.revoked_at_ms.map(UnixMs),
            created_at: UnixMs(row.created_at_ms),
        })
    }
}

/// Creates a token. The plain token is in the answer and nowhere else: it cannot be shown again.
///
/// # Errors
/// [`AccountsError::Invalid`] for a name out of bounds; what the database says.
pub async fn create(
    tx: &Tx,
    actor: &Actor,
    pepper: &ServerKey,
    name: &str,
    role: OperatorRole,
) -> Result<(OperatorToken, PlainToken), AccountsError> {
    let plain = PlainToken::generate();
    let token = OperatorToken {
        id: OperatorTokenId::generate(),
        name: valid_name(name)?,
        role,
        last4: plain.last4().to_owned(),
        revoked_at: None,
        created_at: tx.now().await?,
    };
    let row = operator_token::ActiveModel {
        id: Set(token.id.as_uuid()),
        name: Set(token.name.clone()),
        role: Set(role.as_str().to_owned()),
        hash: Set(plain.hash(pepper).to_hex()),
        pepper_id: Set(pepper.id().to_owned()),
        last4: Set(token.last4.clone()),
        revoked_at_ms: Set(None),
        created_at_ms: Set(token.created_at.0),
    };
    operator_token::Entity::insert(row)
        .exec_without_returning(tx.connection())
        .await?;
    leave_trail(tx, actor, "operator_token.create", None, &token).await?;
    Ok((token, plain))
}

/// A page of tokens, newest first, older than `before` when given.
///
/// # Errors
/// What the database says.
pub async fn list(
    connection: &impl ConnectionTrait,
    before: Option<OperatorTokenId>,
    limit: u64,
) -> Result<Vec<OperatorToken>, AccountsError> {
    let mut query = operator_token::Entity::find()
        .order_by_desc(operator_token::Column::Id)
        .limit(limit);
    if let Some(before) = before {
        query = query.filter(operator_token::Column::Id.lt(before.as_uuid()));
    }
    let rows = query.all(connection).await?;
    Ok(rows
        .into_iter()
        .map(OperatorToken::try_from)
        .collect::<Result<_, _>>()?)
}

/// Takes a token back for good. Doing it again changes nothing.
///
/// # Errors
/// [`AccountsError::NotFound`]; what the database says.
pub async fn revoke(tx: &Tx, actor: &Actor, id: OperatorTokenId) -> Result<OperatorToken, AccountsError> {
    let row = operator_token::Entity::find_by_id(id.as_uuid())
        .lock_exclusive()
        .one(tx.connection())
        .await?
        .ok_or(AccountsError::NotFound("operator token"))?;
    let before = OperatorToken::try_from(row.clone())?;
    if before.revoked_at.is_some() {
        return Ok(before);
    }
    let mut row = row.into_active_model();
    row.revoked_at_ms = Set(Some(tx.now().await?.0));
    let after = OperatorToken::try_from(row.update(tx.connection()).await?)?;
    leave_trail(tx, actor, "operator_token.revoke", Some(&before), &after).await?;
    Ok(after)
}

/// The operator behind a hash. Unknown and revoked look the same. [`crate::OperatorCache`] answers faster.
///
/// # Errors
/// What the database says.
pub async fn authenticate(connection: &impl ConnectionTrait, hash: KeyHash) -> Result<Option<Operator>, StoreError> {
    let row = operator_token::Entity::find()
        .filter(operator_token::Column::Hash.eq(hash.to_hex()))
        .filter(operator_token::Column::RevokedAtMs.is_null())
        .one(connection)
        .await?;
    let token = row.map(OperatorToken::try_from).transpose()?;
    Ok(token.map(|token| Operator {
        id: token.id,
        role: token.role,
    }))
}

async fn leave_trail(
    tx: &Tx,
    actor: &Actor,
    action: &str,
    before: Option<&OperatorToken>,
    after: &OperatorToken,
) -> Result<(), AccountsError> {
    let write = Write {
        topic: Topic::Operators,
        action,
        subject: after.id.to_string(),
        before,
        after,
    };
    Ok(write.leave_trail(tx, actor).await?)
}
