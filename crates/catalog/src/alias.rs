//! Other names under which clients may ask for a model: unique over all ids and aliases, compared without case.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter, QueryOrder};
use store::{Tx, audit::Actor};

use crate::{
    CatalogError, ModelView, change,
    entities::{model, model_alias},
    model::get_model,
    wording,
};

/// Gives a model another name.
///
/// # Errors
/// [`CatalogError::NotFound`] for the model, [`CatalogError::Invalid`], [`CatalogError::Taken`] when the name stands
/// for a model already.
pub async fn add_alias(tx: &Tx, actor: &Actor, model_id: &str, alias: &str) -> Result<ModelView, CatalogError> {
    change::take_turn(tx).await?;
    let before = get_model(tx.connection(), model_id).await?;
    insert_alias(tx, model_id, alias).await?;
    let after = get_model(tx.connection(), model_id).await?;
    change::record(tx, actor, "model.add_alias", model_id, Some(&before), Some(&after)).await?;
    Ok(after)
}

/// Takes a name away from a model.
///
/// # Errors
/// [`CatalogError::NotFound`] when it is no alias of that model.
pub async fn remove_alias(tx: &Tx, actor: &Actor, model_id: &str, alias: &str) -> Result<ModelView, CatalogError> {
    change::take_turn(tx).await?;
    let before = get_model(tx.connection(), model_id).await?;
    let row = model_alias::Entity::find_by_id(wording::folded(alias).into_owned())
        .one(tx.connection())
        .await?
        .filter(|row| row.model_id == model_id)
        .ok_or_else(|| CatalogError::not_found("alias of this model", alias))?;
    row.delete(tx.connection()).await?;
    let after = get_model(tx.connection(), model_id).await?;
    change::record(tx, actor, "model.remove_alias", model_id, Some(&before), Some(&after)).await?;
    Ok(after)
}

/// The model that a name stands for, as its id or an alias, whatever its case.
///
/// # Errors
/// What the database says.
pub async fn find_model(connection: &impl ConnectionTrait, name: &str) -> Result<Option<ModelView>, CatalogError> {
    let folded = wording::folded(name).into_owned();
    let id = match model_alias::Entity::find_by_id(folded.clone()).one(connection).await? {
        Some(alias) => alias.model_id,
        None => folded,
    };
    match get_model(connection, &id).await {
        Ok(view) => Ok(Some(view)),
        Err(CatalogError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a name that stands for a model already. Only meaningful once the caller has taken its turn.
pub(crate) async fn refuse_taken(tx: &Tx, field: &'static str, name: &str) -> Result<(), CatalogError> {
    let folded = wording::folded(name).into_owned();
    let is_id = model::Entity::find_by_id(folded.clone())
        .one(tx.connection())
        .await?
        .is_some();
    if is_id
        || model_alias::Entity::find_by_id(folded)
            .one(tx.connection())
            .await?
            .is_some()
    {
        return Err(CatalogError::Taken(format!(
            "`{field}`: the name `{name}` stands for a model already"
        )));
    }
    Ok(())
}

/// Checks and stores one alias.
pub(crate) async fn insert_alias(tx: &Tx, model_id: &str, alias: &str) -> Result<(), CatalogError> {
    wording::check_model_name("aliases", alias)?;
    refuse_taken(tx, "aliases", alias).await?;
    let row = model_alias::Model {
        alias: wording::folded(alias).into_owned(),
        spelling: alias.to_owned(),
        model_id: model_id.to_owned(),
    };
    model_alias::Entity::insert(row.into_active_model())
        .exec_without_returning(tx.connection())
        .await?;
    Ok(())
}

/// The aliases of some models, as they are spelled, in alphabetical order.
pub(crate) async fn aliases_of(
    connection: &impl ConnectionTrait,
    models: Vec<String>,
) -> Result<HashMap<String, Vec<String>>, CatalogError> {
    let rows = model_alias::Entity::find()
        .filter(model_alias::Column::ModelId.is_in(models))
        .order_by_asc(model_alias::Column::Alias)
        .all(connection)
        .await?;
    let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
    for row in rows {
        aliases.entry(row.model_id).or_default().push(row.spelling);
    }
    Ok(aliases)
}
