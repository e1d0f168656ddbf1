//! What outlives a restart: the node's id and whom it knew.
//!
//! ```text
//!  { id: 20 bytes, nodes: n * 26 bytes, nodes6: n * 38 bytes }    bencoded, those heard of last first
//! ```

use super::{
    bencode::{Value, Writer},
    contact::{Contact, Family},
    id::Id,
};

/// Most contacts of one family that are saved.
const MAX_CONTACTS: usize = 100;

/// Longest saved state that is read, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// The id and contacts of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its id.
    pub id: Id,
    /// Whom it knew.
    pub contacts: Vec<Contact>,
}

impl Saved {
    /// Reads what was written; `None` when it is anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let top = Value::parse(bytes).ok()?;
        let field = |key: &[u8]| top.key(key).and_then(Value::bytes);
        let contacts = [(&b"nodes"[..], Family::V4), (b"nodes6", Family::V6)]
            .map(|(key, family)| Contact::read_all(field(key).unwrap_or_default(), family).take(MAX_CONTACTS));
        Some(Self { id: Id::read(field(b"id")?)?, contacts: contacts.into_iter().flatten().collect() })
    }

    /// The bytes to write.
    pub fn encode(&self) -> Vec<u8> {
        let compact = |family: Family| {
            let of_family = self.contacts.iter().filter(|contact| Family::of(&contact.addr) == family);
            let mut out = Vec::new();
            of_family.take(MAX_CONTACTS).for_each(|contact| contact.write(&mut out));
            out
        };
        let mut writer = Writer::new();
        writer.key(b"id").bytes(self.id.as_bytes());
        writer.key(b"nodes").bytes(&compact(Family::V4)).key(b"nodes6").bytes(&compact(Family::V6));
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_comes_back() {
        let contact = |text: &str| Contact { id: Id::new([1; 20]), addr: text.parse().unwrap() };
        let saved = Saved { id: Id::new([9; 20]), contacts: vec![contact("5.6.7.8:1"), contact("[2600::1]:2")] };
        assert_eq!(Saved::decode(&saved.encode()), Some(saved.clone()));
        let many = Saved { contacts: vec![contact("5.6.7.8:1"); 1000], ..saved };
        let bytes = many.encode();
        assert!(bytes.len() < MAX_LEN);
        assert_eq!(Saved::decode(&bytes).unwrap().contacts.len(), MAX_CONTACTS);
        assert_eq!(Saved::decode(&bytes[1..]), None);
        assert_eq!(Saved::decode(b"de"), None);
    }
}
