//! Answers of a signer-api, as a client sees them.

use serde_json::Value;

/// One whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`, empty if there is none.
    pub content_type: String,
    /// All headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Reads a response to its end.
    pub async fn of(response: reqwest::Response) -> Self {
        let headers = response.headers().clone();
        let content_type = headers
            .get("content-type")
            .map(|v| v.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let status = response.status().as_u16();
        Self {
            status,
            content_type,
            headers,
            body: response.text().await.unwrap(),
        }
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the answer {self:?}"))
    }

    /// The signature, whether it came as text or as JSON.
    ///
    /// # Panics
    /// If this is not a 200 with a signature.
    #[must_use]
    pub fn signature(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        if self.content_type.starts_with("application/json") {
            self.json()["signature"].as_str().unwrap().to_owned()
        } else {
            self.body.clone()
        }
    }
}

/// Sends the bytes of one request as they are, for what no client library sends: no `Accept`, no `Host`.
/// The request should say `Connection: close`.
pub async fn raw(address: &str, request: &[u8]) -> Answer {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let mut headers = reqwest::header::HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let name: reqwest::header::HeaderName = name.parse().unwrap();
        headers.append(name, value.trim().parse().unwrap());
    }
    let content_type = headers
        .get("content-type")
        .map(|v| v.to_str().unwrap().to_owned())
        .unwrap_or_default();
    Answer {
        status,
        content_type,
        headers,
        body: body.to_owned(),
    }
}
