//! Write tokens: proof that whoever announces can receive at the address it sends from.

use std::{fmt, net::IpAddr, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use sha2::Sha256;

use super::id::{ID_LEN, Id};

/// Length of a token in bytes.
pub const TOKEN_LEN: usize = 8;

/// How long a secret issues tokens; they are accepted for as long again (BEP 5).
pub const ROTATION: Duration = Duration::from_secs(5 * 60);

/// The same of those for hourly announcements: the token of one is good for the next.
pub const HOURLY_ROTATION: Duration = Duration::from_secs(70 * 60);

/// Length of a secret in bytes.
pub const SECRET_LEN: usize = 32;

/// What all tokens of a node are made from. It outlives a restart, so that a token given out before is good after.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    key: [u8; SECRET_LEN],
    /// Since it was drawn.
    age: Duration,
}

/// Without the key.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("age", &self.age).finish_non_exhaustive()
    }
}

impl Secret {
    /// Draws one.
    pub fn drawn(rng: &mut impl Rng) -> Self {
        let mut key = [0; SECRET_LEN];
        rng.fill_bytes(&mut key);
        Self { key, age: Duration::ZERO }
    }

    /// One that was drawn so long ago; `None` unless it has 32 bytes.
    pub fn read(key: &[u8], age: Duration) -> Option<Self> {
        Some(Self { key: key.try_into().ok()?, age })
    }

    /// The 32 bytes.
    pub fn key(&self) -> &[u8; SECRET_LEN] {
        &self.key
    }

    /// Since it was drawn.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// The same so much later.
    pub fn after(self, time: Duration) -> Self {
        Self { age: self.age.saturating_add(time), ..self }
    }

    /// The key of one rotation.
    fn of(&self, rotation: Duration, nth: u64) -> [u8; SECRET_LEN] {
        let hmac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let numbers = [rotation.as_secs(), nth].map(u64::to_be_bytes);
        hmac.chain_update(numbers.concat()).finalize().into_bytes().into()
    }
}

/// Issues and checks tokens: `HMAC-SHA-256(key, address || key of the record)[..8]`, where the key is another one in each
/// rotation: `HMAC-SHA-256(secret, seconds of a rotation || number of the rotation)`, numbers of 8 bytes, big-endian.
pub struct Tokens {
    secret: Secret,
    began: Duration,
    rotation: Duration,
    nth: u64,
    /// Of this rotation and the one before.
    keys: [[u8; SECRET_LEN]; 2],
}

impl Tokens {
    /// Goes on with a secret.
    pub fn new(rotation: Duration, secret: Secret, now: Duration) -> Self {
        let mut tokens = Self { secret, began: now, rotation, nth: u64::MAX, keys: [[0; SECRET_LEN]; 2] };
        tokens.rotate(now);
        tokens
    }

    /// The token for writing under any key from an address. Never of one that issues tokens for single keys as well.
    pub fn issue_for_all(&mut self, ip: IpAddr, now: Duration) -> [u8; TOKEN_LEN] {
        self.issue(ip, &Id::new([0; ID_LEN]), now)
    }

    /// Whether such a token was issued to that address of late.
    pub fn accepts_for_all(&mut self, token: &[u8], ip: IpAddr, now: Duration) -> bool {
        self.accepts(token, ip, &Id::new([0; ID_LEN]), now)
    }

    /// The token for writing under a key from an address.
    pub fn issue(&mut self, ip: IpAddr, key: &Id, now: Duration) -> [u8; TOKEN_LEN] {
        self.rotate(now);
        let tag = hmac(&self.keys[0], ip, key).finalize().into_bytes();
        *tag.first_chunk().expect("a SHA-256 has more than 8 bytes")
    }

    /// Whether a token was issued to that address for that key of late. Takes the same time for every wrong token.
    pub fn accepts(&mut self, token: &[u8], ip: IpAddr, key: &Id, now: Duration) -> bool {
        self.rotate(now);
        let right = |secret| hmac(secret, ip, key).verify_truncated_left(token).is_ok();
        token.len() == TOKEN_LEN && (right(&self.keys[0]) | right(&self.keys[1]))
    }

    fn rotate(&mut self, now: Duration) {
        let age = self.secret.age + now.saturating_sub(self.began);
        let nth = age.as_secs() / self.rotation.as_secs();
        if nth != self.nth {
            self.nth = nth;
            self.keys = [nth, nth.wrapping_sub(1)].map(|nth| self.secret.of(self.rotation, nth));
        }
    }
}

fn hmac(secret: &[u8; 32], ip: IpAddr, key: &Id) -> Hmac<Sha256> {
    let hmac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    let hmac = match ip {
        IpAddr::V4(ip) => hmac.chain_update(ip.octets()),
        IpAddr::V6(ip) => hmac.chain_update(ip.octets()),
    };
    hmac.chain_update(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn secret() -> Secret {
        Secret::drawn(&mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_token_is_good_for_one_address_and_key_and_some_minutes() {
        let at = Duration::from_secs;
        let mut tokens = Tokens::new(ROTATION, secret(), at(0));
        let [here, there]: [IpAddr; 2] = ["5.6.7.8".parse().unwrap(), "5.6.7.9".parse().unwrap()];
        let [key, other] = [Id::new([1; 20]), Id::new([2; 20])];
        let token = tokens.issue(here, &key, at(10));
        assert!(tokens.accepts(&token, here, &key, at(10)));
        assert!(!tokens.accepts(&token, there, &key, at(10)));
        assert!(!tokens.accepts(&token, here, &other, at(10)));
        assert!(!tokens.accepts(&token[..7], here, &key, at(10)));
        assert!(!tokens.accepts(&[], here, &key, at(10)));
        assert!(tokens.accepts(&token, here, &key, at(599)));
        assert!(!tokens.accepts(&token, here, &key, at(601)));
    }

    #[test]
    fn tokens_die_during_a_long_sleep() {
        let at = Duration::from_secs;
        let mut tokens = Tokens::new(ROTATION, secret(), at(0));
        let here = "2600::1".parse().unwrap();
        let token = tokens.issue(here, &Id::new([1; 20]), at(0));
        assert!(!tokens.accepts(&token, here, &Id::new([1; 20]), at(100_000)));
    }

    #[test]
    fn tokens_outlive_a_restart_and_no_more_than_that() {
        let at = Duration::from_secs;
        let (here, key) = ("5.6.7.8".parse().unwrap(), Id::new([1; 20]));
        let token = Tokens::new(ROTATION, secret(), at(0)).issue(here, &key, at(200));
        let reborn = |away: u64| Tokens::new(ROTATION, secret().after(at(200 + away)), at(7));
        assert!(reborn(60).accepts(&token, here, &key, at(7)));
        assert!(reborn(60).accepts(&token, here, &key, at(7 + 339)));
        assert!(!reborn(60).accepts(&token, here, &key, at(7 + 341)));
        assert!(!reborn(3600).accepts(&token, here, &key, at(7)));
        let mut hourly = Tokens::new(HOURLY_ROTATION, secret(), at(0));
        assert!(!hourly.accepts(&token, here, &key, at(200)), "of another kind");
    }
}
