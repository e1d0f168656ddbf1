//! Write tokens: proof that whoever announces can receive at the address it sends from.

use std::{net::IpAddr, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::Sha256;

use super::id::{ID_LEN, Id};

/// Length of a token in bytes.
pub const TOKEN_LEN: usize = 8;

/// How long a secret issues tokens; they are accepted for as long again (BEP 5).
pub const ROTATION: Duration = Duration::from_secs(5 * 60);

/// The same of those for hourly announcements: the token of one is good for the next.
pub const HOURLY_ROTATION: Duration = Duration::from_secs(70 * 60);

/// Issues and checks tokens: `HMAC-SHA-256(secret, address || key)[..8]` under two rotating secrets.
pub struct Tokens {
    rng: StdRng,
    secrets: [[u8; 32]; 2],
    rotation: Duration,
    rotated: Duration,
}

impl Tokens {
    /// Draws the first secrets.
    pub fn new(rotation: Duration, seed: u64, now: Duration) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut secrets = [[0; 32]; 2];
        secrets.iter_mut().for_each(|secret| rng.fill_bytes(secret));
        Self { rng, secrets, rotation, rotated: now }
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
        let tag = hmac(&self.secrets[0], ip, key).finalize().into_bytes();
        *tag.first_chunk().expect("a SHA-256 has more than 8 bytes")
    }

    /// Whether a token was issued to that address for that key of late. Takes the same time for every wrong token.
    pub fn accepts(&mut self, token: &[u8], ip: IpAddr, key: &Id, now: Duration) -> bool {
        self.rotate(now);
        let right = |secret| hmac(secret, ip, key).verify_truncated_left(token).is_ok();
        token.len() == TOKEN_LEN && (right(&self.secrets[0]) | right(&self.secrets[1]))
    }

    fn rotate(&mut self, now: Duration) {
        let steps = now.saturating_sub(self.rotated).as_secs() / self.rotation.as_secs();
        for _ in 0..steps.min(2) {
            self.secrets[1] = self.secrets[0];
            self.rng.fill_bytes(&mut self.secrets[0]);
        }
        self.rotated += self.rotation * u32::try_from(steps).unwrap_or(u32::MAX);
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
    use super::*;

    #[test]
    fn a_token_is_good_for_one_address_and_key_and_some_minutes() {
        let at = Duration::from_secs;
        let mut tokens = Tokens::new(ROTATION, 1, at(0));
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
        let mut tokens = Tokens::new(ROTATION, 1, at(0));
        let here = "2600::1".parse().unwrap();
        let token = tokens.issue(here, &Id::new([1; 20]), at(0));
        assert!(!tokens.accepts(&token, here, &Id::new([1; 20]), at(100_000)));
    }
}
