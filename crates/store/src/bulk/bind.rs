//! The values of rows, as each way of talking to a database wants them.

use sea_orm::{Value, sea_query::ArrayType};
use sqlx::{
    Arguments as _, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo},
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
        arguments.reserve(self.columns.len(), self.encoded_bytes());
        for (_, column) in &self.columns {
            match column {
                Column::EveryUuid(value) => arguments.add(value),
                Column::EveryI64(value) => arguments.add(value),
                Column::EveryText(value) => arguments.add(value.as_str()),
                column => arguments.add(ArrayOf(column)),
            }?;
        }
        Ok(())
    }

    /// About how many bytes they are when encoded.
    fn encoded_bytes(&self) -> usize {
        self.columns.iter().map(|(_, column)| 4 + ArrayOf(column).bytes()).sum()
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
            Self::Bytes(values) => array(ArrayType::Bytes, values.iter().map(|bytes| Value::from(bytes.to_vec()))),
            Self::EveryUuid(value) => (*value).into(),
            Self::EveryI64(value) => (*value).into(),
            Self::EveryText(value) => value.as_str().into(),
        }
    }

    /// What differs from row to row; identifiers and byte strings in hexadecimal digits.
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
            Self::Bytes(values) => Some(values.iter().map(|bytes| hex::encode(bytes).into()).collect()),
            Self::EveryUuid(_) | Self::EveryI64(_) | Self::EveryText(_) => None,
        }
    }
}

/// A column as an array of PostgreSQL's binary format. sqlx encodes arrays too, an element at a time and each with its
/// own growth of the buffer, which was the largest cost of a batch.
struct ArrayOf<'a>(&'a Column);

/// Fixed by PostgreSQL (`pg_type.dat`).
const BYTEA_OID: u32 = 17;
const INT8_OID: u32 = 20;
const TEXT_OID: u32 = 25;
const UUID_OID: u32 = 2950;
/// Dimensions, whether there are NULLs, type, length, lower bound.
const HEADER_BYTES: usize = 20;

impl ArrayOf<'_> {
    const fn element_oid(&self) -> u32 {
        match self.0 {
            Column::I64(_) | Column::EveryI64(_) => INT8_OID,
            Column::Text(_) | Column::OptionalText(_) | Column::EveryText(_) => TEXT_OID,
            Column::Bytes(_) => BYTEA_OID,
            Column::Uuid(_) | Column::OptionalUuid(_) | Column::EveryUuid(_) => UUID_OID,
        }
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES
            + match self.0 {
                Column::I64(values) => values.len() * 12,
                Column::Uuid(values) | Column::OptionalUuid(values) => values.len() * 20,
                Column::Text(texts) | Column::OptionalText(texts) => texts.packed.len() + texts.ends.len() * 4,
                Column::Bytes(blobs) => blobs.packed.len() + blobs.ends.len() * 4,
                Column::EveryI64(_) | Column::EveryUuid(_) | Column::EveryText(_) => 0,
            }
    }
}

impl Type<Postgres> for ArrayOf<'_> {
    fn type_info() -> PgTypeInfo {
        <[i64] as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for ArrayOf<'_> {
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(match self.element_oid() {
            INT8_OID => <[i64] as Type<Postgres>>::type_info(),
            TEXT_OID => <[String] as Type<Postgres>>::type_info(),
            BYTEA_OID => <[Vec<u8>] as Type<Postgres>>::type_info(),
            _ => <[Uuid] as Type<Postgres>>::type_info(),
        })
    }

    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let length = i32::try_from(self.0.len().unwrap_or_default())?;
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        buffer.extend_from_slice(&0_i32.to_be_bytes());
        buffer.extend_from_slice(&self.element_oid().to_be_bytes());
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        match self.0 {
            Column::I64(values) => {
                for value in values {
                    buffer.extend_from_slice(&8_i32.to_be_bytes());
                    buffer.extend_from_slice(&value.to_be_bytes());
                }
            }
            Column::Uuid(values) | Column::OptionalUuid(values) => {
                for value in values {
                    buffer.extend_from_slice(&16_i32.to_be_bytes());
                    buffer.extend_from_slice(value.as_bytes());
                }
            }
            Column::Text(texts) | Column::OptionalText(texts) => {
                for text in texts.iter() {
                    buffer.extend_from_slice(&i32::try_from(text.len())?.to_be_bytes());
                    buffer.extend_from_slice(text.as_bytes());
                }
            }
            Column::Bytes(blobs) => {
                for bytes in blobs.iter() {
                    buffer.extend_from_slice(&i32::try_from(bytes.len())?.to_be_bytes());
                    buffer.extend_from_slice(bytes);
                }
            }
            Column::EveryI64(_) | Column::EveryUuid(_) | Column::EveryText(_) => {}
        }
        Ok(IsNull::No)
    }
}
