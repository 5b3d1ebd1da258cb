//! signer-api.
