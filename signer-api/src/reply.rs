//! What is answered when it is not a signature: the one place where failures become statuses.
//!
//! Web3Signer's version B bodies, `{"code", "message"}`, with `error` repeating the message for the
//! client that shows it. Those of 5xx say the reason's name and a request id, which is in the log
//! with what lies behind it. 500, not 503, where a signature could not be made: one client retries
//! 500 and takes every code that Web3Signer does not use as final.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use threshold::round::{Failure, FailureReason, Refusal, RefusalReason, Verdict};
use tracing::warn;

use crate::{admission::Turned, web3signer::BadRequest};

/// Web3Signer's JSON content type.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// Web3Signer's text content type.
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Requests without an answer that are logged in one second; of the others, how many there were.
const LINES_MAX: u32 = 50;

/// A body and its type.
pub(crate) fn reply(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    status: StatusCode,
    message: Cow<'static, str>,
    /// A name for programs; with 5xx.
    reason: Option<&'static str>,
    /// For the log alone.
    detail: Cow<'static, str>,
    retry_soon: bool,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            reason: None,
            detail: Cow::Borrowed(""),
            retry_soon: false,
        }
    }

    fn unavailable(
        reason: &'static str,
        message: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: Cow::Borrowed(message),
            reason: Some(reason),
            detail: detail.into(),
            retry_soon: false,
        }
    }

    pub(crate) fn bad_request(problem: &BadRequest) -> Self {
        Self::new(StatusCode::BAD_REQUEST, problem.to_string())
    }

    /// A request whose `Host` is missing.
    pub(crate) fn no_host() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "the Host header is missing")
    }

    pub(crate) fn host_not_allowed() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Host not authorized.")
    }

    pub(crate) fn origin_not_allowed() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Origin not authorized.")
    }

    pub(crate) fn unknown_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Resource not found")
    }

    pub(crate) fn unknown_validator() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Public Key not found")
    }

    /// Cosigners that may know the validator were never heard of.
    pub(crate) fn undiscovered() -> Self {
        let message = "the validators are not known yet: too few cosigners were heard of";
        Self::unavailable("undiscovered", message, "")
    }

    /// A question to cosigners that too few of them answered.
    pub(crate) fn unanswered(detail: String) -> Self {
        let message = "too few cosigners say at which heights they stop signing";
        Self::unavailable("unreachable", message, detail)
    }

    pub(crate) fn not_acceptable() -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "Not Acceptable")
    }

    pub(crate) fn reload_running() -> Self {
        let message = "A reload operation is already in progress. Please try again later.";
        Self::new(StatusCode::CONFLICT, message)
    }

    /// The deadline passed before the request was parsed.
    pub(crate) fn too_late() -> Self {
        let message = "no signature could be made by the deadline";
        Self::unavailable(
            FailureReason::Deadline.name(),
            message,
            "was not parsed in time",
        )
    }

    /// The process ends before the request is done.
    pub(crate) fn stopping() -> Self {
        let message = "this signer-api is stopping: ask another, or again";
        Self::unavailable(
            "stopping",
            message,
            "was under way for longer than drain_ms",
        )
    }

    /// The threads that parse are gone.
    pub(crate) fn broken() -> Self {
        Self::unavailable(
            "broken",
            "an internal error",
            "a job ended without a result",
        )
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Turned> for Refused {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::Overloaded => Self {
                retry_soon: true,
                ..Self::unavailable("overloaded", "too many requests at once", "")
            },
            Turned::TooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is longer than 10 MiB",
            ),
            Turned::Broken => Self::new(StatusCode::BAD_REQUEST, "the body did not arrive"),
        }
    }
}

impl From<Verdict> for Refused {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Refused(refusal) => refusal.into(),
            Verdict::Unavailable(failure) => failure.into(),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            RefusalReason::Slashable
            | RefusalReason::Stopped
            | RefusalReason::Disabled
            | RefusalReason::WrongChain
            | RefusalReason::NotAllowed => {
                Self::new(StatusCode::PRECONDITION_FAILED, refusal.message)
            }
            RefusalReason::Invalid => Self::new(StatusCode::BAD_REQUEST, refusal.message),
            RefusalReason::NotFound => Self::unknown_validator(),
        }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let message = match failure.reason {
            FailureReason::BeyondClock => "the duty lies beyond the cosigners' clocks",
            FailureReason::Quarantined => {
                "too many cosigners' ledgers may have forgotten something and are in quarantine"
            }
            FailureReason::Ledger => "too few cosigners' ledgers can be reached",
            FailureReason::Busy => "too many cosigners are busy",
            FailureReason::Starting => "too many cosigners have just started",
            FailureReason::NotLed => "too many cosigners need to promise first",
            FailureReason::TooLate => "too many cosigners were asked too late",
            FailureReason::Faulty => "too many cosigners gave no valid answer",
            FailureReason::TimedOut => "too many cosigners did not answer in time",
            FailureReason::Unreachable => "too many cosigners cannot be reached",
            FailureReason::Contended => "another message for this duty is being signed",
            FailureReason::TooFewShares => "too few cosigners hold a share of this validator",
            FailureReason::Deadline => "no signature could be made by the deadline",
        };
        let retry_soon = failure.reason == FailureReason::Busy;
        Self {
            retry_soon,
            ..Self::unavailable(failure.reason.name(), message, failure.message)
        }
    }
}

/// Logs why there is no answer, within [`LINES_MAX`].
fn log(request_id: &str, reason: &str, detail: &str) {
    static LINES: Mutex<Lines> = Mutex::new(Lines::new());
    let Some(unlogged) = LINES.lock().take(Instant::now()) else {
        return;
    };
    if unlogged > 0 {
        warn!(
            unlogged,
            "more requests than are logged could not be answered"
        );
    }
    warn!(
        request_id,
        reason, detail, "a request could not be answered"
    );
}

/// How much of what cannot be answered is logged: standard error has no queue, and who writes to it
/// waits for who reads it. The metrics count everything.
struct Lines {
    second_began: Option<Instant>,
    logged: u32,
    unlogged: u32,
}

impl Lines {
    const fn new() -> Self {
        Self {
            second_began: None,
            logged: 0,
            unlogged: 0,
        }
    }

    /// Takes one line of this second's, if there is one left; it gets how many had none before, which
    /// is told once.
    fn take(&mut self, now: Instant) -> Option<u32> {
        let is_over = |began: Instant| now.duration_since(began) >= Duration::from_secs(1);
        if self.second_began.is_none_or(is_over) {
            self.second_began = Some(now);
            self.logged = 0;
        }
        if self.logged >= LINES_MAX {
            self.unlogged = self.unlogged.saturating_add(1);
            return None;
        }
        self.logged = self.logged.saturating_add(1);
        Some(std::mem::take(&mut self.unlogged))
    }
}

/// A text as JSON. Most have nothing to escape, and under overload this is a good part of the work.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
    if text.bytes().all(is_plain) {
        return ["\"", text, "\""].concat();
    }
    // Text always becomes JSON.
    serde_json::to_string(text).unwrap_or_default()
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self {
            status,
            message,
            reason,
            detail,
            retry_soon,
        } = self;
        let request_id = reason.map(|reason| {
            let id = const_hex::encode(rand::random::<[u8; 8]>());
            log(&id, reason, &detail);
            id
        });
        let text = quoted(&message);
        let mut body = String::with_capacity(128 + 2 * text.len());
        for part in [r#"{"code":"#, status.as_str(), r#","error":"#, &text] {
            body.push_str(part);
        }
        for part in [r#","message":"#, &text] {
            body.push_str(part);
        }
        if let (Some(reason), Some(id)) = (reason, &request_id) {
            for part in [r#","reason":""#, reason, r#"","request_id":""#, id, r#"""#] {
                body.push_str(part);
            }
        }
        body.push('}');
        let mut response = reply(status, JSON, body);
        if retry_soon {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn bodies_are_the_json_of_their_members() {
        let told = "\"a\\b\u{1}\u{7f}é\n";
        for (refused, reason) in [
            (Refused::new(StatusCode::BAD_REQUEST, told), None),
            (Refused::unknown_validator(), None),
            (Refused::from(Turned::Overloaded), Some("overloaded")),
            (Refused::unanswered(told.to_owned()), Some("unreachable")),
        ] {
            let (status, message) = (refused.status().as_u16(), refused.message.clone());
            let body = refused.into_response().into_body();
            let body = axum::body::to_bytes(body, 1_000).await.unwrap();
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let mut expected = json!({"code": status, "message": message, "error": message});
            if let Some(reason) = reason {
                let id = said["request_id"].as_str().unwrap();
                assert_eq!(id.len(), 16);
                expected["reason"] = reason.into();
                expected["request_id"] = id.into();
            }
            assert_eq!(body, expected.to_string());
        }
    }

    #[test]
    fn a_flood_of_refusals_is_no_flood_of_lines() {
        let mut lines = Lines::new();
        let began = Instant::now();
        let logged = (0..100_000).filter(|_| lines.take(began).is_some());
        assert_eq!(logged.count(), 50);
        let later = began + Duration::from_secs(1);
        assert_eq!(lines.take(later), Some(100_000 - 50));
        assert_eq!(lines.take(later), Some(0));
    }
}
