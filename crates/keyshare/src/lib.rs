//! keyshare.
