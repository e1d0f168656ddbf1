//! What: Debian's formats and trust. From the bytes of a signed Release to what every file must hash to.
//!
//! Pure: bytes in, [`Vouched`] out.
//!
//! ```text
//!  sources + keyrings -> Trust
//!  Trust + InRelease --verify--> Release --members--> Vouched (an index) --its bytes, hashed--> entries --> Vouched (a file)
//! ```

mod by_hash;
mod checksums;
mod clearsign;
mod compression;
pub mod date;
pub mod deb822;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod index;
mod keyring;
mod location;
mod passwords;
pub mod path;
mod pins;
mod release;
mod repository;
mod scope;
mod signature;
mod sources;
mod suite_name;
#[cfg(test)]
pub(crate) mod testing;
mod trust;
mod validity;
mod vouched;

pub use by_hash::{Digest, Hex, by_hash};
pub use compression::{Compression, decompress};
pub use index::{Entries, Entry, IndexKind, MAX_UNPACKED, Package, entries, index_kind};
pub use keyring::{BadFingerprint, BadKeyring, Fingerprint, Keyring, MAX_KEYRING, Pick, Signers};
pub use location::{BadLocation, Location};
pub use passwords::password_hosts;
pub use pins::Pin;
pub use release::{BadRelease, MAX_RELEASE, NoKey, Place, Release, Verdict, verify_detached, verify_inrelease};
pub use repository::{Repository, is_release};
pub use scope::{Scope, is_global};
pub use signature::Signer;
pub use sources::{
    BadSource, Bases, Proxies, SignedBy, Signing, Source, SourceType, Sources, Surroundings, mirror_lists,
};
pub use suite_name::SuiteName;
pub use trust::Trust;
pub use validity::{Validity, is_no};
pub use vouched::{Privacy, Shareable, Vouched};

#[cfg(test)]
mod tests;
