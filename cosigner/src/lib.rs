//! cosigner.
