//! The composition root: builds every station, starts it, and stops it in order.
