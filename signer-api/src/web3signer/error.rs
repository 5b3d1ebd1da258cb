//! What is wrong with a request.

use duty::SigningRoot;

/// A request that is refused with 400; its text says what is wrong with which member.
///
/// The texts are bounded: of what the client sent they repeat little.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// No body.
    #[error("the body is empty")]
    Empty,
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// `type` is no signing type.
    #[error("type: {0:?} is not known")]
    UnknownType(String),
    /// A required member is missing or null.
    #[error("{path} is missing")]
    Missing {
        /// The member's path, such as `attestation.target.epoch`.
        path: String,
    },
    /// A member has a wrong form or value.
    #[error("{path}: {problem}")]
    Invalid {
        /// The member's path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The root in the request is not the one of its object.
    #[error("{member}: {given} is not the signing root of this request, which is {computed}")]
    RootMismatch {
        /// `signingRoot` or `signing_root`.
        member: &'static str,
        /// The root in the request.
        given: SigningRoot,
        /// The root of what was sent.
        computed: SigningRoot,
    },
}
