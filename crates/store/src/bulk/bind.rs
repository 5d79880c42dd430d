//! The values of rows, as each way of talking to a database wants them.

use sea_orm::{Value, sea_query::ArrayType};
use sqlx::{
    Arguments as _,
    error::BoxDynError,
    postgres::{PgArguments, PgBindIterExt as _},
};
use uuid::Uuid;

use super::{Column, Rows, Texts};
use crate::Backend;

impl Rows {
    /// For sea-orm: the parameters in the order in which [`super::texts`] numbers them.
    pub(super) fn values(&self, backend: Backend) -> Vec<Value> {
        match backend {
            Backend::Postgres => self.columns.iter().map(|(_, column)| column.to_value()).collect(),
            Backend::Sqlite => {
                let same = self.columns.iter().filter(|(_, column)| column.len().is_none());
                std::iter::once(self.to_json().into())
                    .chain(same.map(|(_, column)| column.to_value()))
                    .collect()
            }
        }
    }

    /// For PostgreSQL without sea-orm in between.
    pub(super) fn add_to(&self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        for (_, column) in &self.columns {
            match column {
                Column::Uuid(values) | Column::OptionalUuid(values) => arguments.add(values.as_slice()),
                Column::I64(values) => arguments.add(values.as_slice()),
                Column::Text(values) | Column::OptionalText(values) => arguments.add(values.iter().bind_iter()),
                Column::EveryUuid(value) => arguments.add(value),
                Column::EveryI64(value) => arguments.add(value),
                Column::EveryText(value) => arguments.add(value.as_str()),
            }?;
        }
        Ok(())
    }

    fn to_json(&self) -> String {
        let columns: Vec<Vec<serde_json::Value>> =
            self.columns.iter().filter_map(|(_, column)| column.to_json()).collect();
        let rows: Vec<Vec<&serde_json::Value>> = (0..self.len())
            .map(|row| columns.iter().filter_map(|column| column.get(row)).collect())
            .collect();
        serde_json::json!(rows).to_string()
    }
}

impl Column {
    fn to_value(&self) -> Value {
        fn array(kind: ArrayType, values: impl Iterator<Item = Value>) -> Value {
            Value::Array(kind, Some(Box::new(values.collect())))
        }
        match self {
            Self::Uuid(values) | Self::OptionalUuid(values) => {
                array(ArrayType::Uuid, values.iter().map(|id| Value::from(*id)))
            }
            Self::I64(values) => array(ArrayType::BigInt, values.iter().map(|number| Value::from(*number))),
            Self::Text(values) | Self::OptionalText(values) => array(ArrayType::String, values.iter().map(Value::from)),
            Self::EveryUuid(value) => (*value).into(),
            Self::EveryI64(value) => (*value).into(),
            Self::EveryText(value) => value.as_str().into(),
        }
    }

    /// What differs from row to row; identifiers in hexadecimal digits.
    fn to_json(&self) -> Option<Vec<serde_json::Value>> {
        let hex = |id: &Uuid| id.as_simple().to_string();
        let texts = |values: &Texts, absent: fn(&str) -> bool| {
            let json = |text| (!absent(text)).then_some(text).into();
            values.iter().map(json).collect()
        };
        match self {
            Self::Uuid(values) => Some(values.iter().map(|id| hex(id).into()).collect()),
            Self::OptionalUuid(values) => {
                let present = |id: &Uuid| (!id.is_nil()).then(|| hex(id));
                Some(values.iter().map(|id| present(id).into()).collect())
            }
            Self::I64(values) => Some(values.iter().map(|number| (*number).into()).collect()),
            Self::Text(values) => Some(texts(values, |_| false)),
            Self::OptionalText(values) => Some(texts(values, str::is_empty)),
            Self::EveryUuid(_) | Self::EveryI64(_) | Self::EveryText(_) => None,
        }
    }
}
