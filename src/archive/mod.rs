//! What: Debian's formats and trust. From the bytes of a signed Release to what every file must hash to.
//!
//! Pure: bytes in, [`Vouched`] out.
//!
//! ```text
//!  keyring + InRelease --verify--> Release --members--> Vouched (an index) --its bytes, hashed--> entries: Vouched (a file)
//! ```

mod date;
pub mod deb822;
mod location;
pub mod path;
mod repository;
mod scope;
mod vouched;

pub use location::{BadLocation, Location};
pub use repository::{Repository, by_hash, is_release};
pub use scope::{Scope, is_global};
pub use vouched::{Privacy, Shareable, Vouched};
