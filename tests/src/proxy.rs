//! A TCP proxy with switches: what can happen to bytes on their way, at the moment a test wants it.
//!
//! Nothing it does shows in the kernel's own acknowledgements: what it swallows was received, as far
//! as the sender's TCP can tell. Whoever is to notice has to notice by itself.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::process::free_port;

pub use triggers::Trigger;
use triggers::Triggers;

mod triggers;

/// Bytes of one direction that wait at most, roughly.
const WAITING_MAX: usize = 64;
/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// The pause between two bytes of [`Fault::Trickle`].
const TRICKLE: Duration = Duration::from_secs(1);

/// From whom bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who connected to where it wanted to.
    Up,
    /// Back.
    Down,
}

/// Both of them.
pub const BOTH: [Way; 2] = [Way::Up, Way::Down];

/// What happens to bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: they pass.
    Pass,
    /// They arrive so much later.
    Delay(Duration),
    /// They are kept until the switch is thrown to what lets them pass.
    Hold,
    /// A black hole: they are swallowed. A connection that lost some is reset when that ends.
    Drop,
    /// Nothing is read any more and nothing closed: of these connections, never again.
    Stall,
    /// The far end is closed, and the near one never learns of it.
    HalfOpen,
    /// One byte a second.
    Trickle,
    /// Connections are reset, new ones at once.
    Reset,
    /// Connections are reset, and nobody listens.
    Refuse,
}

/// A proxy in front of one address. Dropping it closes everything.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    // Dropped, it aborts its one task.
    _serving: JoinSet<()>,
}

struct Shared {
    target: SocketAddr,
    switches: [watch::Sender<Fault>; 2],
    triggers: Triggers,
    /// Bytes that wait while they are held.
    held: [watch::Sender<usize>; 2],
    connections: AtomicUsize,
}

impl Proxy {
    /// Listens on a port of its own, and lets everything pass.
    pub async fn start(target: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            target,
            switches: BOTH.map(|_| watch::Sender::new(Fault::Pass)),
            triggers: Triggers::default(),
            held: BOTH.map(|_| watch::Sender::new(0)),
            connections: AtomicUsize::new(0),
        });
        let port = free_port();
        let listener = listen(port).await;
        let mut serving = JoinSet::new();
        serving.spawn(serve(Arc::clone(&shared), listener, port));
        Self {
            shared,
            port,
            _serving: serving,
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Throws the switches of both directions.
    pub fn set(&self, fault: Fault) {
        for way in BOTH {
            self.set_way(way, fault);
        }
    }

    /// Throws the switch of one direction.
    pub fn set_way(&self, way: Way, fault: Fault) {
        self.shared.throw(way, fault);
    }

    /// Lets everything pass, and forgets what was to happen when.
    pub fn heal(&self) {
        self.shared.triggers.clear();
        self.set(Fault::Pass);
    }

    /// When bytes of `way` come to what the trigger waits for, throws the switches of `then`. The
    /// trigger says how many of these bytes still pass.
    pub fn when(&self, way: Way, trigger: Trigger, then: &[(Way, Fault)]) {
        self.shared.triggers.arm(way, trigger, then);
    }

    /// Whether the trigger has come to what it waited for, within so much time.
    pub async fn has_struck(&self, at_most: Duration) -> bool {
        let mut struck = self.shared.triggers.struck();
        timeout(at_most, struck.wait_for(|struck| *struck))
            .await
            .is_ok()
    }

    /// Whether bytes of one direction are held, within so much time.
    pub async fn holds(&self, way: Way, at_most: Duration) -> bool {
        let mut held = self.shared.held(way).subscribe();
        timeout(at_most, held.wait_for(|bytes| *bytes > 0))
            .await
            .is_ok()
    }
}

impl Shared {
    fn switch(&self, way: Way) -> &watch::Sender<Fault> {
        match way {
            Way::Up => &self.switches[0],
            Way::Down => &self.switches[1],
        }
    }

    fn held(&self, way: Way) -> &watch::Sender<usize> {
        match way {
            Way::Up => &self.held[0],
            Way::Down => &self.held[1],
        }
    }

    fn throw(&self, way: Way, fault: Fault) {
        self.held(way).send_replace(0);
        self.switch(way).send_replace(fault);
    }

    fn is(&self, fault: Fault) -> bool {
        BOTH.iter().any(|way| *self.switch(*way).borrow() == fault)
    }
}

async fn listen(port: u16) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, port: u16) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut switch = shared.switch(Way::Up).subscribe();
    loop {
        let fault = *switch.borrow_and_update();
        match (fault, &listener) {
            (Fault::Refuse, Some(_)) => listener = None,
            (Fault::Refuse, None) => {}
            (_, None) => listener = Some(listen(port).await),
            (_, Some(_)) => {}
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = switch.changed() => {}
            Some(_) = connections.join_next() => {}
            Ok((client, _)) = accepted => {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(relay(Arc::clone(&shared), client));
            }
        }
    }
}

/// How a connection ends, other than by its two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Reset,
    HalfOpen,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

async fn relay(shared: Arc<Shared>, mut client: TcpStream) {
    if shared.is(Fault::Reset) || shared.is(Fault::Refuse) {
        return reset(&client);
    }
    if shared.is(Fault::Stall) {
        return std::future::pending().await;
    }
    if shared.is(Fault::HalfOpen) {
        return swallow(&mut client).await;
    }
    if shared.is(Fault::Drop) {
        let mut switch = shared.switch(Way::Up).subscribe();
        tokio::select! {
            _ = switch.changed() => {}
            () = swallow(&mut client) => {}
        }
        return reset(&client);
    }
    let Ok(mut server) = TcpStream::connect(shared.target).await else {
        return reset(&client);
    };
    // A delay is to be what was asked for, and not Nagle's.
    let _delayed = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        tokio::try_join!(
            pipe(&shared, Way::Up, client_reads, server_writes),
            pipe(&shared, Way::Down, server_reads, client_writes),
        )
    };
    match ended {
        Ok(_) => {}
        Err(End::Reset) => {
            reset(&client);
            reset(&server);
        }
        Err(End::HalfOpen) => {
            drop(server);
            swallow(&mut client).await;
        }
    }
}

/// Has the kernel send RST when the stream is dropped.
fn reset(stream: &TcpStream) {
    let _gone = stream.set_zero_linger();
}

/// Reads for ever, and answers nothing, not even the end.
async fn swallow(stream: &mut TcpStream) {
    let mut buffer = vec![0; CHUNK];
    while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
    std::future::pending().await
}

/// One direction of one connection.
struct Pipe<'a> {
    shared: &'a Shared,
    way: Way,
    /// What has arrived and may not go on yet, with the times.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    has_lost: bool,
    trickled: Instant,
}

async fn pipe(
    shared: &Shared,
    way: Way,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> Result<(), End> {
    let mut switch = shared.switch(way).subscribe();
    let mut buffer = vec![0; CHUNK];
    let mut has_ended = false;
    let mut pipe = Pipe {
        shared,
        way,
        waiting: VecDeque::new(),
        has_lost: false,
        trickled: Instant::now(),
    };
    loop {
        let fault = *switch.borrow_and_update();
        let due = pipe.obey(fault).await?;
        if has_ended && pipe.waiting.is_empty() && !matches!(fault, Fault::Hold | Fault::Drop) {
            to.shutdown().await?;
            return Ok(());
        }
        let first = pipe.waiting.front().map(|(_, bytes)| bytes.as_slice());
        let first = first.unwrap_or_default();
        let next = match fault {
            Fault::Trickle => first.get(..1).unwrap_or_default(),
            _ => first,
        };
        let may_go = !next.is_empty() && due.is_some_and(|due| due <= Instant::now());
        tokio::select! {
            biased;
            // An error says that the proxy is gone, and with it this task.
            _ = switch.changed() => {}
            written = to.write(next), if may_go => pipe.sent(written?),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !may_go => {}
            read = from.read(&mut buffer), if !has_ended && pipe.waiting.len() < WAITING_MAX => {
                match read? {
                    0 => has_ended = true,
                    bytes => pipe.arrived(&buffer[..bytes], &mut to).await?,
                }
            }
        }
    }
}

impl Pipe<'_> {
    /// When the first that waits may go on; never while it is held.
    async fn obey(&mut self, fault: Fault) -> Result<Option<Instant>, End> {
        if matches!(fault, Fault::Drop) {
            self.has_lost |= !self.waiting.is_empty();
            self.waiting.clear();
            return Ok(None);
        }
        if self.has_lost {
            return Err(End::Reset);
        }
        let first = self.waiting.front().map(|(arrived, _)| *arrived);
        match fault {
            Fault::Pass => Ok(first),
            Fault::Delay(pause) => Ok(first.map(|arrived| arrived + pause)),
            Fault::Hold | Fault::Drop => Ok(None),
            Fault::Trickle => Ok(first.map(|_| self.trickled + TRICKLE)),
            Fault::Stall => std::future::pending().await,
            Fault::HalfOpen => Err(End::HalfOpen),
            Fault::Reset | Fault::Refuse => Err(End::Reset),
        }
    }

    async fn arrived(&mut self, bytes: &[u8], to: &mut WriteHalf<'_>) -> Result<(), End> {
        let mut rest = bytes;
        let throw = |way, fault| self.shared.throw(way, fault);
        if let Some(passes) = self.shared.triggers.strike(self.way, bytes, throw) {
            // What comes before the moment is on its way, whatever comes after it.
            for (_, earlier) in self.waiting.drain(..) {
                to.write_all(&earlier).await?;
            }
            let (passes, kept) = bytes.split_at(passes);
            to.write_all(passes).await?;
            rest = kept;
            self.shared.triggers.tell();
        }
        if !rest.is_empty() {
            self.waiting.push_back((Instant::now(), rest.to_vec()));
            if *self.shared.switch(self.way).borrow() == Fault::Hold {
                let held = self.shared.held(self.way);
                held.send_modify(|bytes| *bytes += rest.len());
            }
        }
        Ok(())
    }

    fn sent(&mut self, written: usize) {
        self.trickled = Instant::now();
        if let Some((_, bytes)) = self.waiting.front_mut() {
            bytes.drain(..written);
            if bytes.is_empty() {
                self.waiting.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests;
