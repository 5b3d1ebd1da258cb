//! `GET` and `POST /reload`.

use std::{sync::Arc, time::SystemTime};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{App, guard::accepts};
use crate::reply::{JSON, Refused, reply};

const ACCEPTED: &str = "Reload operation accepted and is running in the background. Use GET \
                        /reload to check status.";

pub(super) async fn start(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if !accepts(&headers, "application", "json") {
        return Refused::not_acceptable().into_response();
    }
    match app.validators.reload().start(&app.validators) {
        Ok(()) => {
            let body = json!({"code": 202, "message": ACCEPTED});
            reply(StatusCode::ACCEPTED, JSON, body.to_string())
        }
        Err(_) => Refused::reload_running().into_response(),
    }
}

pub(super) async fn report(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if !accepts(&headers, "application", "json") {
        return Refused::not_acceptable().into_response();
    }
    let report = app.validators.reload().report();
    let mut body = Map::new();
    body.insert("status".to_owned(), Value::from(report.status));
    if let Some(at) = report.last_operation {
        body.insert("lastOperationTime".to_owned(), Value::from(utc(at)));
    }
    if let Some(error) = report.last_error {
        body.insert("lastError".to_owned(), Value::from(error));
    }
    reply(StatusCode::OK, JSON, Value::Object(body).to_string())
}

/// ISO 8601, UTC, with milliseconds.
fn utc(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_iso_8601_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_796_083_199, "2026-11-30T23:59:59.007Z"),
        ] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1_000 + 7);
            assert_eq!(utc(at), text);
        }
    }
}
