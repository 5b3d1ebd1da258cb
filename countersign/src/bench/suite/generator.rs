//! The load: HTTP/1.1 over raw sockets, as cheap as it gets, because it shares the machine with what
//! it measures. Requests are bytes that were made before; answers are kept as they come.

use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    net::{SocketAddr, TcpStream as BlockingStream},
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

use super::{duties::Asked, usage};

/// How long an answer may take: longer than any deadline.
const PATIENCE: Duration = Duration::from_secs(90);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What a connection is tried with before its first request counts.
const GREETING: &[u8] = b"GET /upcheck HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// What came back.
#[derive(Default, Clone)]
pub(super) struct Answer {
    /// When the last byte was there, since the burst began; of single requests, since it was sent.
    pub(super) after: Duration,
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// A burst's answers, in the order of its requests.
pub(super) struct Burst {
    pub(super) answers: Vec<Answer>,
    /// From the first request's first byte to the last answer's last.
    pub(super) elapsed: Duration,
    /// What the load itself cost.
    pub(super) own_cpu: Duration,
}

/// Sends all requests at once over so many connections, from one thread.
///
/// # Errors
/// If a connection fails, or an answer is no HTTP or does not come.
pub(super) fn at_once(
    host: SocketAddr,
    asked: &[Asked],
    connections: usize,
) -> anyhow::Result<Burst> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let burst = async {
        tokio::time::timeout(
            PATIENCE,
            LocalSet::new().run_until(send(host, asked, connections)),
        )
        .await
        .context("the burst was not answered")?
    };
    runtime.block_on(burst)
}

async fn send(host: SocketAddr, asked: &[Asked], connections: usize) -> anyhow::Result<Burst> {
    let mut streams = Vec::new();
    for _ in 0..connections.min(asked.len()) {
        let mut stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        stream.write_all(GREETING).await?;
        let greeted = read(&mut stream, &mut Vec::new()).await?;
        ensure!(greeted.status == 200, "/upcheck says {}", greeted.status);
        streams.push(stream);
    }
    let requests: Rc<Vec<Vec<u8>>> = Rc::new(asked.iter().map(|one| one.bytes.clone()).collect());
    let answers = Rc::new(RefCell::new(vec![Answer::default(); asked.len()]));
    let next = Rc::new(Cell::new(0_usize));
    let cpu_before = usage::thread_cpu()?;
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut stream in streams {
        let (requests, answers) = (Rc::clone(&requests), Rc::clone(&answers));
        let next = Rc::clone(&next);
        tasks.spawn_local(async move {
            let mut bytes = Vec::with_capacity(1024);
            loop {
                let number = next.get();
                let Some(request) = requests.get(number) else {
                    return anyhow::Ok(());
                };
                next.set(number.saturating_add(1));
                stream.write_all(request).await?;
                let mut answer = read(&mut stream, &mut bytes).await?;
                answer.after = began.elapsed();
                if let Some(place) = answers.borrow_mut().get_mut(number) {
                    *place = answer;
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a connection's task failed")??;
    }
    let elapsed = began.elapsed();
    let own_cpu = usage::thread_cpu()?.saturating_sub(cpu_before);
    let answers = answers.take();
    Ok(Burst {
        answers,
        elapsed,
        own_cpu,
    })
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> anyhow::Result<Answer> {
    bytes.clear();
    loop {
        if stream.read_buf(bytes).await? == 0 {
            bail!("the signer closed a connection");
        }
        if let Some(answer) = complete(bytes)? {
            return Ok(answer);
        }
    }
}

/// Sends requests one after another over one connection, until `enough` or their end.
///
/// # Errors
/// As [`at_once`].
pub(super) fn one_by_one(
    host: SocketAddr,
    asked: &[Asked],
    enough: &AtomicBool,
) -> anyhow::Result<Vec<Answer>> {
    let mut stream = BlockingStream::connect(host)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(&mut stream, GREETING)?;
    let mut answers = Vec::new();
    for one in asked {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        answers.push(ask(&mut stream, &one.bytes)?);
    }
    Ok(answers)
}

fn ask(stream: &mut BlockingStream, request: &[u8]) -> anyhow::Result<Answer> {
    let mut bytes = Vec::with_capacity(1024);
    let mut part = [0; 4096];
    let began = Instant::now();
    stream.write_all(request)?;
    loop {
        let length = stream.read(&mut part).context("no answer")?;
        ensure!(length > 0, "the signer closed a connection");
        bytes.extend_from_slice(part.get(..length).unwrap_or_default());
        if let Some(mut answer) = complete(&bytes)? {
            answer.after = began.elapsed();
            return Ok(answer);
        }
    }
}

/// The answer that `bytes` are, once they are all of it.
fn complete(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    ensure!(
        bytes.len() <= ANSWER_BYTES_MAX,
        "an answer of more than {ANSWER_BYTES_MAX} bytes"
    );
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(end);
    let body = rest.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).context("an answer's head is no text")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.context("an answer without a status")?.parse()?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("an answer without a length")?;
    let length: usize = length.trim().parse()?;
    Ok((body.len() >= length).then(|| Answer {
        after: Duration::ZERO,
        status,
        body: body.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\"0x\"";
        for end in 0..whole.len() {
            assert!(complete(&whole[..end]).unwrap().is_none(), "{end}");
        }
        let answer = complete(whole).unwrap().unwrap();
        assert_eq!((answer.status, &*answer.body), (200, &b"\"0x\""[..]));
        assert!(complete(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(complete(b"nonsense\r\n\r\n").is_err());
    }
}
