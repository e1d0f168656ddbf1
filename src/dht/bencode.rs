//! Bencode (BEP 3), read without copying and written in canonical order.
//!
//! ```text
//!  i42e   5:bytes   l <value>* e   d (<bytes> <value>)* e
//! ```
//!
//! **Security.** Input is a stranger's: nesting and the number of values are bounded, lengths are checked before they are
//! used, numbers have one spelling, and a key may come once. Keys in any order are read; [`Value::is_canonical`] says
//! whether they came in the order that BEP 44 asks of stored values.

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 10;

/// Most values, keys not counted, that are read from one input.
const MAX_VALUES: usize = 500;

/// The input is not bencode, or goes beyond the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not bencode")]
pub struct BadBencode;

/// One value, with the very bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<'a> {
    kind: Kind<'a>,
    raw: &'a [u8],
    start: usize,
    canonical: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    /// Sorted by key.
    Dict(Vec<(&'a [u8], Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads one value that fills the input to its end.
    pub fn parse(input: &'a [u8]) -> Result<Self, BadBencode> {
        let mut reader = Reader { input, at: 0, values: 0 };
        let value = reader.value(0)?;
        if reader.at == input.len() { Ok(value) } else { Err(BadBencode) }
    }

    /// The number, if it is one.
    pub fn int(&self) -> Option<i64> {
        if let Kind::Int(number) = self.kind { Some(number) } else { None }
    }

    /// The byte string, if it is one.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        if let Kind::Bytes(bytes) = self.kind { Some(bytes) } else { None }
    }

    /// The items, none if it is no list.
    pub fn list(&self) -> &[Value<'a>] {
        if let Kind::List(items) = &self.kind { items } else { &[] }
    }

    /// The value under a key, if it is a dictionary that has it.
    pub fn key(&self, key: &[u8]) -> Option<&Value<'a>> {
        let Kind::Dict(entries) = &self.kind else { return None };
        entries.binary_search_by(|(name, _)| (*name).cmp(key)).ok().map(|index| &entries[index].1)
    }

    /// The bytes that the value was read from.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Where in the input the value begins.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Whether every key in it came in sorted order.
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    /// Recurses at most [`MAX_DEPTH`] deep.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, BadBencode> {
        self.values += 1;
        if depth >= MAX_DEPTH || self.values > MAX_VALUES {
            return Err(BadBencode);
        }
        let start = self.at;
        let mut canonical = true;
        let kind = match self.peek()? {
            b'i' => {
                self.at += 1;
                Kind::Int(self.number(b'e')?)
            }
            b'l' => {
                self.at += 1;
                let mut items = Vec::new();
                while self.peek()? != b'e' {
                    let item = self.value(depth + 1)?;
                    canonical &= item.canonical;
                    items.push(item);
                }
                self.at += 1;
                Kind::List(items)
            }
            b'd' => {
                self.at += 1;
                let mut entries: Vec<(&[u8], Value)> = Vec::new();
                while self.peek()? != b'e' {
                    let key = self.string()?;
                    let value = self.value(depth + 1)?;
                    canonical &= value.canonical && entries.last().is_none_or(|(last, _)| *last < key);
                    entries.push((key, value));
                }
                self.at += 1;
                entries.sort_by_key(|(key, _)| *key);
                if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return Err(BadBencode);
                }
                Kind::Dict(entries)
            }
            _ => Kind::Bytes(self.string()?),
        };
        Ok(Value { kind, raw: &self.input[start..self.at], start, canonical })
    }

    fn peek(&self) -> Result<u8, BadBencode> {
        self.input.get(self.at).copied().ok_or(BadBencode)
    }

    fn string(&mut self) -> Result<&'a [u8], BadBencode> {
        if !self.peek()?.is_ascii_digit() {
            return Err(BadBencode);
        }
        let len = usize::try_from(self.number(b':')?).map_err(|_| BadBencode)?;
        let rest = &self.input[self.at..];
        let bytes = rest.get(..len).ok_or(BadBencode)?;
        self.at += len;
        Ok(bytes)
    }

    /// A number in its only spelling, up to and with the byte that ends it.
    fn number(&mut self, end: u8) -> Result<i64, BadBencode> {
        let rest = &self.input[self.at..];
        // The longest is i64::MIN, of 20 characters.
        let len = rest.iter().take(21).position(|byte| *byte == end).ok_or(BadBencode)?;
        let digits = rest[..len].strip_prefix(b"-").unwrap_or(&rest[..len]);
        let zero = digits == b"0";
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || (digits[0] == b'0' && (!zero || len > 1)) {
            return Err(BadBencode);
        }
        self.at += len + 1;
        let text = std::str::from_utf8(&rest[..len]).expect("a sign and digits are ASCII");
        text.parse().map_err(|_| BadBencode)
    }
}

/// Writes one dictionary. Keys are to be given in sorted order.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    /// The last key of each open dictionary; `None` in a list.
    open: Vec<Option<Vec<u8>>>,
}

impl Writer {
    /// Opens the outermost dictionary.
    pub fn new() -> Self {
        Self { out: vec![b'd'], open: vec![Some(Vec::new())] }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Writes the key that the next value stands under.
    pub fn key(&mut self, key: &[u8]) -> &mut Self {
        let last = self.open.last_mut().and_then(Option::as_mut).expect("keys are written in dictionaries");
        debug_assert!(last.as_slice() < key, "keys are written in sorted order");
        last.clear();
        last.extend_from_slice(key);
        self.bytes(key)
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        write_bytes(&mut self.out, bytes);
        self
    }

    /// Writes a number.
    pub fn int(&mut self, number: i64) -> &mut Self {
        self.out.extend_from_slice(format!("i{number}e").as_bytes());
        self
    }

    /// Writes a value that is bencode already.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(value);
        self
    }

    /// Opens a dictionary.
    pub fn dict(&mut self) -> &mut Self {
        self.out.push(b'd');
        self.open.push(Some(Vec::new()));
        self
    }

    /// Opens a list.
    pub fn list(&mut self) -> &mut Self {
        self.out.push(b'l');
        self.open.push(None);
        self
    }

    /// Closes what was opened last.
    pub fn end(&mut self) -> &mut Self {
        self.out.push(b'e');
        self.open.pop().expect("what is closed was opened");
        self
    }

    /// Closes the outermost dictionary.
    pub fn finish(mut self) -> Vec<u8> {
        self.end();
        debug_assert!(self.open.is_empty(), "what was opened is closed");
        self.out
    }
}

/// A byte string as bencode.
pub fn byte_string(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(string_len(bytes.len()));
    write_bytes(&mut out, bytes);
    out
}

/// Bytes that a byte string of `len` bytes takes as bencode.
pub const fn string_len(len: usize) -> usize {
    let digits = match len.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    };
    digits + 1 + len
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_keep_the_bytes_they_came_from() {
        let input = b"d1:al1:xi-7ee1:vd1:zi0eee";
        let value = Value::parse(input).unwrap();
        assert!(value.is_canonical());
        let list = value.key(b"a").unwrap();
        assert_eq!(list.list()[0].bytes(), Some(&b"x"[..]));
        assert_eq!(list.list()[1].int(), Some(-7));
        let v = value.key(b"v").unwrap();
        assert_eq!(v.raw(), b"d1:zi0ee");
        assert_eq!(&input[v.start()..v.start() + v.raw().len()], v.raw());
    }

    #[test]
    fn keys_in_any_order_are_read_and_known_as_not_canonical() {
        let value = Value::parse(b"d1:bi1e1:ai2ee").unwrap();
        assert_eq!(value.key(b"a").and_then(Value::int), Some(2));
        assert!(!value.is_canonical());
        assert!(!Value::parse(b"ld1:bi1e1:ai2eee").unwrap().is_canonical());
    }

    #[test]
    fn what_is_not_bencode_is_refused() {
        let bad: &[&[u8]] = &[
            b"",
            b"i",
            b"ie",
            b"i-e",
            b"i-0e",
            b"i01e",
            b"i1",
            b"i1x",
            b"i99999999999999999999e",
            b"01:a",
            b"2:a",
            b":",
            b"-1:a",
            b"9223372036854775807:a",
            b"99999999999999999999999:a",
            b"l",
            b"d",
            b"d1:ae",
            b"d1:a",
            b"di1ei2ee",
            b"d1:ai1e1:ai2ee",
            b"i1ei2e",
            b"e",
            b"x",
            b"i+1e",
            b"+1:a",
            b"i1 e",
        ];
        for input in bad {
            assert_eq!(Value::parse(input), Err(BadBencode), "{}", input.escape_ascii());
        }
        assert_eq!(Value::parse(b"i-9223372036854775808e").unwrap().int(), Some(i64::MIN));
    }

    #[test]
    fn nesting_and_number_of_values_are_bounded() {
        let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
        assert!(Value::parse(&nested(MAX_DEPTH)).is_ok());
        assert!(Value::parse(&nested(MAX_DEPTH + 1)).is_err());
        assert!(Value::parse(&nested(100_000)).is_err());
        let long = |items: usize| [&b"l"[..], &b"0:".repeat(items), b"e"].concat();
        assert!(Value::parse(&long(MAX_VALUES - 1)).is_ok());
        assert!(Value::parse(&long(MAX_VALUES)).is_err());
    }

    #[test]
    fn what_is_written_is_canonical() {
        let mut writer = Writer::new();
        writer.key(b"a").dict().key(b"id").bytes(b"me").end();
        writer.key(b"l").list().int(-3).bytes(b"").end();
        writer.key(b"v").raw(b"i5e");
        let out = writer.finish();
        assert_eq!(out, b"d1:ad2:id2:mee1:lli-3e0:e1:vi5ee");
        assert!(Value::parse(&out).unwrap().is_canonical());
    }

    proptest! {
        #[test]
        fn no_input_panics(input in proptest::collection::vec(prop_oneof![Just(b'd'), Just(b'l'), Just(b'e'), Just(b'i'), Just(b':'), Just(b'1'), any::<u8>()], 0..200)) {
            let _ = Value::parse(&input);
        }

        #[test]
        fn byte_strings_come_back_and_their_length_is_known(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let out = byte_string(&bytes);
            prop_assert_eq!(out.len(), string_len(bytes.len()));
            prop_assert_eq!(Value::parse(&out).unwrap().bytes(), Some(&bytes[..]));
        }
    }
}
