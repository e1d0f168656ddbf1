//! Bencode (BEP 3), as much as a KRPC client needs; written apart from the product's, so that the two check each other.

use std::collections::BTreeMap;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `i-3e`
    Int(i64),
    /// `4:spam`
    Bytes(Vec<u8>),
    /// `l...e`
    List(Vec<Value>),
    /// `d...e`, keys sorted
    Dict(BTreeMap<Vec<u8>, Value>),
}

impl Value {
    /// A byte string.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().to_vec())
    }

    /// A dictionary.
    pub fn dict<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Dict(entries.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value)).collect())
    }

    /// The entry of a dictionary.
    pub fn at(&self, key: &str) -> Option<&Self> {
        if let Self::Dict(entries) = self { entries.get(key.as_bytes()) } else { None }
    }

    /// The bytes of a byte string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The items of a list, none of anything else.
    pub fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// The one spelling of a value.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Int(number) => format!("i{number}e").into_bytes(),
            Self::Bytes(bytes) => [format!("{}:", bytes.len()).as_bytes(), bytes].concat(),
            Self::List(items) => {
                let items = items.iter().flat_map(Self::encode);
                [b'l'].into_iter().chain(items).chain([b'e']).collect()
            }
            Self::Dict(entries) => {
                let entries =
                    entries.iter().flat_map(|(key, value)| [Self::bytes(key).encode(), value.encode()].concat());
                [b'd'].into_iter().chain(entries).chain([b'e']).collect()
            }
        }
    }

    /// Reads one value that is the whole input.
    pub fn decode(input: &[u8]) -> Option<Self> {
        let (value, rest) = Self::read(input)?;
        rest.is_empty().then_some(value)
    }

    fn read(input: &[u8]) -> Option<(Self, &[u8])> {
        match input.first()? {
            b'i' => {
                let end = input.iter().position(|&byte| byte == b'e')?;
                let number = std::str::from_utf8(&input[1..end]).ok()?.parse().ok()?;
                Some((Self::Int(number), &input[end + 1..]))
            }
            b'l' => {
                let (mut items, mut rest) = (Vec::new(), &input[1..]);
                while *rest.first()? != b'e' {
                    let (item, after) = Self::read(rest)?;
                    items.push(item);
                    rest = after;
                }
                Some((Self::List(items), &rest[1..]))
            }
            b'd' => {
                let (mut entries, mut rest) = (BTreeMap::new(), &input[1..]);
                while *rest.first()? != b'e' {
                    let (key, after) = Self::read(rest)?;
                    let (value, after) = Self::read(after)?;
                    entries.insert(key.as_bytes()?.to_vec(), value);
                    rest = after;
                }
                Some((Self::Dict(entries), &rest[1..]))
            }
            _ => {
                let colon = input.iter().position(|&byte| byte == b':')?;
                let length: usize = std::str::from_utf8(&input[..colon]).ok()?.parse().ok()?;
                let end = (colon + 1).checked_add(length).filter(|&end| end <= input.len())?;
                Some((Self::bytes(&input[colon + 1..end]), &input[end..]))
            }
        }
    }
}

#[test]
fn values_read_back_what_they_print_and_broken_ones_are_none() {
    let value = Value::dict([
        ("t", Value::bytes(b"\x00\xff")),
        ("r", Value::List(vec![Value::Int(-7), Value::bytes(""), Value::dict([])])),
    ]);
    assert_eq!(value.encode(), b"d1:rli-7e0:dee1:t2:\x00\xffe");
    assert_eq!(Value::decode(&value.encode()), Some(value));
    for broken in ["", "d", "l", "i5", "3:ab", "99999999999999999999:a", "i1ei2e", "di1ei2ee"] {
        assert_eq!(Value::decode(broken.as_bytes()), None, "{broken}");
    }
}
