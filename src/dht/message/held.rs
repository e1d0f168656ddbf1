//! What one host says in one datagram that it holds: keys, each with its claim.

use crate::dht::id::{ID_LEN, Id};

use super::MAX_CLAIM;

/// Most keys in one datagram.
pub const MAX_HELD: usize = 40;

/// Keys and claims out of the bytes that [`write_held`] wrote: `key, 20 bytes | length, 1 byte | claim`, again and again.
///
/// Ends at the first that is cut short or whose claim is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'a>(pub &'a [u8]);

impl<'a> Iterator for Held<'a> {
    type Item = (Id, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = self.0.split_at_checked(ID_LEN)?;
        let (&len, rest) = rest.split_first()?;
        let (claim, rest) = rest.split_at_checked(usize::from(len)).filter(|_| usize::from(len) <= MAX_CLAIM)?;
        self.0 = rest;
        Some((Id::read(key)?, (!claim.is_empty()).then_some(claim)))
    }
}

/// Adds a key and its claim.
pub fn write_held(held: &mut Vec<u8>, key: &Id, claim: Option<&[u8]>) {
    let claim = claim.unwrap_or_default();
    held.extend_from_slice(key.as_bytes());
    held.push(u8::try_from(claim.len()).expect("a claim has at most 97 bytes"));
    held.extend_from_slice(claim);
}

/// Whether these are keys and claims to the last byte, at least one and not too many.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    let mut held = Held(bytes);
    let count = held.by_ref().take(MAX_HELD + 1).count();
    held.0.is_empty() && (1..=MAX_HELD).contains(&count)
}

/// One bit for each key that was announced.
pub fn kept_bits(kept: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| bits.iter().zip(0..8).fold(0, |byte, (kept, nth)| byte | u8::from(*kept) << (7 - nth));
    kept.chunks(8).map(byte).collect()
}

/// Whether the bit of the nth key is set.
pub fn is_kept(kept: &[u8], nth: usize) -> bool {
    kept.get(nth / 8).is_some_and(|byte| byte >> (7 - nth % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_claims_come_back_and_nothing_else_is_taken() {
        let all = [(Id::new([1; 20]), None), (Id::new([2; 20]), Some(&[9; MAX_CLAIM][..])), (Id::new([3; 20]), None)];
        let mut bytes = Vec::new();
        all.iter().for_each(|(key, claim)| write_held(&mut bytes, key, *claim));
        assert_eq!(Held(&bytes).collect::<Vec<_>>(), all);
        assert!(is_sound(&bytes) && !is_sound(&[]));
        for len in 0..bytes.len() {
            assert_eq!(is_sound(&bytes[..len]), [21, 21 + 21 + MAX_CLAIM].contains(&len), "{len}");
        }
        let mut long = vec![0; 20];
        long.push(MAX_CLAIM as u8 + 1);
        long.extend([0; MAX_CLAIM + 1]);
        assert!(!is_sound(&long));
        assert!(is_sound(&[0; 21 * MAX_HELD]) && !is_sound(&[0; 21 * (MAX_HELD + 1)]));
    }

    #[test]
    fn each_key_has_its_bit() {
        let kept: Vec<bool> = (0..MAX_HELD).map(|nth| nth % 3 == 0 || nth == 8).collect();
        let bits = kept_bits(&kept);
        assert_eq!(bits.len(), 5);
        assert_eq!((0..MAX_HELD).map(|nth| is_kept(&bits, nth)).collect::<Vec<_>>(), kept);
        assert!(!is_kept(&bits, 40) && !is_kept(&[], 0));
    }
}
