//! One keep-alive connection of HTTP/1.1 without TLS, as cheap as it gets: whoever measures a machine
//! from itself must leave it to what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long an answer may take: far longer than any deadline.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection that is opened when it is needed.
pub(super) struct Plain {
    authority: String,
    stream: Option<TcpStream>,
}

/// An answer, and how long it took from the request's first byte.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: bool,
    pub(super) body: Vec<u8>,
    pub(super) took: Duration,
}

impl Plain {
    /// A connection to the host and port of an `http://` URL.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let authority = url
            .strip_prefix("http://")
            .context("the URL must begin with http://")?;
        Ok(Self {
            authority: authority.trim_end_matches('/').to_owned(),
            stream: None,
        })
    }

    /// Posts JSON, and reads the answer.
    pub(super) async fn post(&mut self, path: &str, body: &str) -> anyhow::Result<Answer> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.authority,
            body.len()
        );
        let asking = self.ask(request.as_bytes());
        let answer = tokio::time::timeout(PATIENCE, asking)
            .await
            .context("no answer")
            .flatten();
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.authority).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let began = Instant::now();
        stream.write_all(request).await?;
        let mut bytes = Vec::with_capacity(1024);
        let (head, length) = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let (head, _) = bytes.split_at(end);
                let head = String::from_utf8_lossy(head).to_ascii_lowercase();
                break (head, end.saturating_add(4));
            }
            read(&mut stream, &mut bytes).await?;
        };
        let took = began.elapsed();
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(key, value)| (key == name).then(|| value.trim().to_owned()))
        };
        let body_bytes: usize = header("content-length")
            .context("an answer without a length")?
            .parse()?;
        ensure!(
            body_bytes <= ANSWER_BYTES_MAX,
            "an answer of {body_bytes} bytes"
        );
        while bytes.len() < length.saturating_add(body_bytes) {
            read(&mut stream, &mut bytes).await?;
        }
        let status = head
            .split(' ')
            .nth(1)
            .context("an answer without a status")?;
        let status = status.parse()?;
        let retry_after = header("retry-after").is_some();
        if header("connection").as_deref() != Some("close") {
            self.stream = Some(stream);
        }
        let body = bytes.split_off(length);
        Ok(Answer {
            status,
            retry_after,
            body,
            took,
        })
    }
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    if bytes.len() > ANSWER_BYTES_MAX.saturating_mul(2) {
        bail!("an answer without an end");
    }
    match stream.read_buf(bytes).await? {
        0 => bail!("the connection was closed"),
        _ => Ok(()),
    }
}
