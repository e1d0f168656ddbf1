//! Give: the public port, what peers may have of us.
