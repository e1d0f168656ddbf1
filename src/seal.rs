//! Seals: what shows a peer of a private network that a question on its public port comes from a member.
//!
//! ```text
//!  X-Huddle-Seal: <seconds since 1970, decimal>-<64 hexadecimal digits>
//!  the digits     HMAC-SHA-256(secret, "apt-huddle/1 http" 0 method 0 path 0 seconds 0 SHA-256(body))      0: a NUL byte
//! ```
//!
//! **Security.** Who sees a question on its way may send it again, at this peer or another, for as long as clocks may
//! differ, [`SKEW`]: he learns what the answer to him whom he saw ask was, or whether another peer has that one file. Nothing
//! else can be asked with it: method, path and body are under the code. A range is not, since it is of the same file. A nonce of
//! the peer's would end even that, at the price of one round trip more on each connection. Codes of datagrams are made
//! with the same secret over what begins otherwise, so that none is the other. Answers carry no code: bytes prove themselves.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The field of a question.
pub const HEADER: &str = "x-huddle-seal";

/// By how many seconds the clocks of two members may differ.
pub const SKEW: u64 = 300;

/// Bytes of the longest field that is looked at.
const MAX_LEN: usize = 96;

/// Makes and checks the codes of one private network.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal(Arc<[u8]>);

/// Without the secret.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seal").finish_non_exhaustive()
    }
}

impl Seal {
    /// By the secret of the network; `None` when it is empty.
    pub fn new(secret: &str) -> Option<Self> {
        (!secret.is_empty()).then(|| Self(secret.as_bytes().into()))
    }

    /// What the field says of a question at that second since 1970. The path is as in the request line.
    pub fn write(&self, method: &str, path: &str, body: &[u8], at: u64) -> String {
        let tag = self.hmac(method, path, body, at).finalize().into_bytes();
        let digits: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{at}-{digits}")
    }

    /// Whether a question of a member says so. Takes the same time for every wrong code.
    pub fn accepts(&self, field: &str, method: &str, path: &str, body: &[u8], now: u64) -> bool {
        let Some((at, tag)) = read(field).filter(|(at, _)| at.abs_diff(now) <= SKEW) else { return false };
        self.hmac(method, path, body, at).verify_slice(&tag).is_ok()
    }

    fn hmac(&self, method: &str, path: &str, body: &[u8], at: u64) -> Hmac<Sha256> {
        let hmac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        let head = format!("apt-huddle/1 http\0{method}\0{path}\0{at}\0");
        hmac.chain_update(head).chain_update(Sha256::digest(body))
    }
}

fn read(field: &str) -> Option<(u64, [u8; 32])> {
    let (at, digits) = field.split_once('-').filter(|_| field.len() <= MAX_LEN)?;
    let nibble = |digit: u8| (digit as char).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| match pair {
        [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    });
    Some((at.parse().ok()?, bytes.collect::<Option<Vec<_>>>()?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_seals_and_only_this_question_at_about_this_time() {
        let [seal, other] = ["one", "two"].map(|secret| Seal::new(secret).unwrap());
        let field = seal.write("POST", "/~/have", b"body", 10_000);
        for now in [10_000 - SKEW, 10_000, 10_000 + SKEW] {
            assert!(seal.accepts(&field, "POST", "/~/have", b"body", now), "{now}");
        }
        for now in [10_000 - SKEW - 1, 10_001 + SKEW] {
            assert!(!seal.accepts(&field, "POST", "/~/have", b"body", now), "{now}");
        }
        assert!(!other.accepts(&field, "POST", "/~/have", b"body", 10_000));
        assert!(!seal.accepts(&field, "GET", "/~/have", b"body", 10_000));
        assert!(!seal.accepts(&field, "POST", "/~/had", b"body", 10_000));
        assert!(!seal.accepts(&field, "POST", "/~/have", b"bodies", 10_000));
        assert!(!seal.accepts(&field.replacen("10000", "10001", 1), "POST", "/~/have", b"body", 10_000));
        assert!(Seal::new("").is_none());
        assert!(!format!("{seal:?}").contains("one"));
    }

    #[test]
    fn fields_that_are_none_are_no_seals() {
        let seal = Seal::new("one").unwrap();
        let good = seal.write("GET", "/", b"", 5);
        let cut = &good[..good.len() - 1];
        for field in ["", "-", "5-", "5", cut, &format!("{good}00"), &format!("-{good}"), &good.replace('-', "é")] {
            assert!(!seal.accepts(field, "GET", "/", b"", 5), "{field}");
        }
        assert!(seal.accepts(&good.to_uppercase(), "GET", "/", b"", 5));
    }
}
