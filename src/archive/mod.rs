//! What: Debian's formats and trust. From the bytes of a signed Release to what every file must hash to.
//!
//! Pure: bytes in, [`Vouched`] out.
//!
//! ```text
//!  keyring + InRelease --verify--> Release --members--> Vouched (an index) --its bytes, hashed--> entries: Vouched (a file)
//! ```

mod location;
mod vouched;

pub use location::{BadLocation, Location, Repository};
pub use vouched::{Privacy, Shareable, Vouched};
