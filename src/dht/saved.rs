//! What outlives a restart: the node's id, whom it knew and whom it told of files, and what its tokens are made from.
//!
//! ```text
//!  { id:         20 bytes
//!    nodes:      n * 26 bytes, nodes6: n * 38 bytes    those heard of last first
//!    secret:     32 bytes, secret_age: seconds         those who hold a token of ours need not ask for another one
//!    told:       see `Neighbourhoods`   }              bencoded
//! ```

use std::time::Duration;

use super::{
    bencode::{Value, Writer},
    contact::{Contact, Family},
    id::Id,
    neighbourhood::Neighbourhoods,
    tokens::Secret,
};

/// Most contacts of one family that are saved.
const MAX_CONTACTS: usize = 400;

/// Longest saved state that is read, in bytes.
pub const MAX_LEN: usize = 1024 * 1024;

/// What a node was and knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its id.
    pub id: Id,
    /// Whom it knew.
    pub contacts: Vec<Contact>,
    /// What its tokens are made from, if it was saved.
    pub secret: Option<Secret>,
    /// Who was told of its files.
    pub told: Neighbourhoods,
}

impl Saved {
    /// Reads what was written; `None` when it is anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let top = Value::parse(bytes).ok()?;
        let field = |key: &[u8]| top.key(key).and_then(Value::bytes);
        let contacts = [(&b"nodes"[..], Family::V4), (b"nodes6", Family::V6)]
            .map(|(key, family)| Contact::read_all(field(key).unwrap_or_default(), family).take(MAX_CONTACTS));
        let age = top.key(b"secret_age").and_then(Value::int).and_then(|seconds| u32::try_from(seconds).ok());
        let secret = field(b"secret").zip(age);
        Some(Self {
            id: Id::read(field(b"id")?)?,
            contacts: contacts.into_iter().flatten().collect(),
            secret: secret.and_then(|(key, age)| Secret::read(key, Duration::from_secs(age.into()))),
            told: Neighbourhoods::read(field(b"told").unwrap_or_default()),
        })
    }

    /// The same so long after it was saved.
    pub fn after(self, away: Duration) -> Self {
        Self { secret: self.secret.map(|secret| secret.after(away)), ..self }
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
        if let Some(secret) = &self.secret {
            let age = u32::try_from(secret.age().as_secs()).unwrap_or(u32::MAX);
            writer.key(b"secret").bytes(secret.key()).key(b"secret_age").int(age.into());
        }
        writer.key(b"told").bytes(&self.told.write());
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::dht::neighbourhood::Neighbourhood;

    #[test]
    fn what_was_saved_comes_back() {
        let contact = |text: &str| Contact { id: Id::new([1; 20]), addr: text.parse().unwrap() };
        let mut told = Neighbourhoods::default();
        told.put(Neighbourhood::found(&Id::new([1; 20]), [vec![contact("5.6.7.8:1")], Vec::new()]));
        let secret = Secret::drawn(&mut StdRng::seed_from_u64(1)).after(Duration::from_secs(99));
        let contacts = vec![contact("5.6.7.8:1"), contact("[2600::1]:2")];
        let saved = Saved { id: Id::new([9; 20]), contacts, secret: Some(secret.clone()), told };
        let later = saved.clone().after(Duration::from_secs(1));
        assert_eq!(later.secret, Some(secret.after(Duration::from_secs(1))));
        assert_eq!(Saved::decode(&saved.encode()), Some(saved.clone()));
        let many = Saved { contacts: vec![contact("5.6.7.8:1"); 1000], ..saved };
        let bytes = many.encode();
        assert!(bytes.len() < MAX_LEN);
        assert_eq!(Saved::decode(&bytes).unwrap().contacts.len(), MAX_CONTACTS);
        assert_eq!(Saved::decode(&bytes[1..]), None);
        assert_eq!(Saved::decode(b"de"), None);
    }
}
