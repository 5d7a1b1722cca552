//! Strict JSON: what two readers could understand differently is refused.
//!
//! `serde_json` keeps the last of two equal keys and rounds large integers. A checkpoint that reads
//! `{"record_count":1,"record_count":9999}` as one thing while the system behind it reads another is no
//! checkpoint, so both are errors here.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The deepest nesting that is accepted in a payload.
pub const MAX_DEPTH: usize = 64;

/// A JSON value without duplicate keys, without integers that lose digits, nested at most [`MAX_DEPTH`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strict(pub Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Seed { depth: 0 }.deserialize(d).map(Strict)
    }
}

/// For `#[serde(deserialize_with)]` on a `Value` field.
///
/// # Errors
/// On duplicate keys, nesting over [`MAX_DEPTH`], and integers that lose digits.
pub fn strict<'de, D: Deserializer<'de>>(d: D) -> Result<Value, D::Error> {
    Strict::deserialize(d).map(|s| s.0)
}

/// A deserializer that takes an object where a struct is expected. Serde would take a list of its fields in
/// order too, which nobody has documented and no reader of a log would understand.
#[derive(Debug)]
pub struct Named<D>(pub D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Named<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

struct Seed {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        // An integer too large for 64 bits arrives here already rounded.
        if v.fract() == 0.0 && v.abs() >= 9_007_199_254_740_992.0 {
            return Err(E::custom(format_args!(
                "the number {v} cannot be kept exactly; send it as a string"
            )));
        }
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = deeper(self.depth)?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Seed { depth })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = deeper(self.depth)?;
        let mut entries = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.contains_key(&key) {
                return Err(de::Error::custom(format_args!(
                    "the key `{}` appears twice",
                    key.escape_debug()
                )));
            }
            let value = map.next_value_seed(Seed { depth })?;
            entries.insert(key, value);
        }
        Ok(Value::Object(entries))
    }
}

fn deeper<E: de::Error>(depth: usize) -> Result<usize, E> {
    if depth >= MAX_DEPTH {
        return Err(E::custom(format_args!("JSON is nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(depth + 1)
}

/// Appends `value` to `out` in one canonical form: keys sorted by code point, no white space.
/// Equal values give equal bytes.
pub fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => write_canonical_list(items, out),
        Value::Object(entries) => {
            // `serde_json::Map` is sorted unless another crate turns on `preserve_order`; do not rely on it.
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push(b'{');
            for (i, (key, item)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_scalar(key, out);
                out.push(b':');
                write_canonical(item, out);
            }
            out.push(b'}');
        }
        scalar => write_scalar(scalar, out),
    }
}

/// [`write_canonical`] for a list.
pub fn write_canonical_list(items: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_canonical(item, out);
    }
    out.push(b']');
}

/// [`write_canonical`] for a text.
pub fn write_canonical_text(text: &str, out: &mut Vec<u8>) {
    write_scalar(text, out);
}

fn write_scalar<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Writing a scalar into a Vec has no way to fail: no I/O, no map with foreign keys.
    let _infallible = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, String> {
        serde_json::from_str::<Strict>(text).map(|s| s.0).map_err(|e| e.to_string())
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        assert!(parse(r#"{"a":1,"a":2}"#).unwrap_err().contains("`a` appears twice"));
        assert!(parse(r#"{"x":{"a":1,"\u0061":2}}"#).unwrap_err().contains("appears twice"));
        assert!(parse("18446744073709551617").unwrap_err().contains("string"));
        assert!(parse("1e400").is_err());
        assert!(parse("NaN").is_err());
        assert!(parse(&("[".repeat(65) + &"]".repeat(65))).unwrap_err().contains("deeper"));
        assert!(parse(&("[".repeat(64) + &"]".repeat(64))).is_ok());
        assert!(parse(r#"{"a":"#).is_err());
        assert_eq!(parse("18446744073709551615").unwrap(), Value::from(u64::MAX));
    }

    #[test]
    fn canonical_form_does_not_depend_on_order_or_space() {
        let canonical = |text: &str| {
            let mut out = Vec::new();
            write_canonical(&parse(text).unwrap(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            canonical(r#"{ "b": [1, null], "a": {"d":"é", "c":1.5} }"#),
            r#"{"a":{"c":1.5,"d":"é"},"b":[1,null]}"#
        );
        assert_ne!(canonical("1"), canonical("\"1\""));
    }
}
