//! Lists that a file gives as a list and the environment as text with commas.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Reads a list of things that have a text form.
pub fn comma_separated<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    deserializer.deserialize_any(ListVisitor(PhantomData))
}

struct ListVisitor<T>(PhantomData<T>);

impl<T> ListVisitor<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn parse<E: Error>(text: &str) -> Result<T, E> {
        text.trim()
            .parse()
            .map_err(|error| E::custom(format!("`{}`: {error}", text.trim())))
    }
}

impl<'de, T> Visitor<'de> for ListVisitor<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or text with commas")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        text.split(',').map(Self::parse).collect()
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Vec<T>, E> {
        Ok(vec![Self::parse(&number.to_string())?])
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Vec<T>, E> {
        Ok(vec![Self::parse(&number.to_string())?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        // numbers and text alike become text: the source's own types differ between file and environment
        while let Some(item) = items.next_element::<String>()? {
            list.push(Self::parse(&item)?);
        }
        Ok(list)
    }
}
