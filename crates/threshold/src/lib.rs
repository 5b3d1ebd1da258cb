//! threshold.
