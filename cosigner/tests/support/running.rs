//! A running cosigner, and calls to it over mutual TLS.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use daemon::tls::{self, TlsFiles};
use tonic::transport::{Channel, Endpoint};
use wire::proto::{
    PromiseItem, PromiseRequest, SignItem, SignRequest, StatusReply, StatusRequest,
    administration_client::AdministrationClient, cosigner_client::CosignerClient,
    promise_outcome::Outcome as Promise, sign_outcome::Outcome as Sign,
};

use super::{Home, SERVER};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    address: String,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts the program and waits until it listens.
    pub(crate) fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cosigner"))
            .args(["run", "--stop-with-stdin", "--config"])
            .arg(config)
            .env("COUNTERSIGN_LOG", "trace,h2=info,hyper=info,rustls=info")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if line.contains("serving signer-apis") {
                    let at = line.split("address=").nth(1).unwrap().trim().to_owned();
                    found.send(at).unwrap();
                }
                let mut log = lines.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let input = child.stdin.take();
        let address = address.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("it does not listen:\n{}", log.lock().unwrap());
        });
        Self {
            child,
            input,
            address,
            log,
            reader: Some(reader),
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn channel(&self, files: &TlsFiles) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_with_connector_lazy(tls::mutual_client(files, SERVER).unwrap())
    }

    pub(crate) fn client(&self, home: &Home, name: &str) -> CosignerClient<Channel> {
        CosignerClient::new(self.channel(&home.certificate(name)))
    }

    pub(crate) fn administration(&self, home: &Home, name: &str) -> AdministrationClient<Channel> {
        AdministrationClient::new(self.channel(&home.certificate(name)))
    }

    /// Closes standard input, as a parent does that ends; everything that was logged.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        drop(self.input.take());
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status, self.log())
    }

    pub(crate) fn terminate(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until the cosigner says that it is ready.
pub(crate) async fn ready(client: &mut CosignerClient<Channel>) -> StatusReply {
    status_when(client, |status| status.ready).await
}

/// Waits until its status is as wanted.
pub(crate) async fn status_when(
    client: &mut CosignerClient<Channel>,
    wanted: impl Fn(&StatusReply) -> bool,
) -> StatusReply {
    let started = Instant::now();
    loop {
        let status = client.status(StatusRequest {}).await.unwrap().into_inner();
        if wanted(&status) {
            return status;
        }
        assert!(started.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn promise(
    client: &mut CosignerClient<Channel>,
    items: Vec<PromiseItem>,
) -> Vec<Promise> {
    let reply = client
        .promise(PromiseRequest { items })
        .await
        .unwrap()
        .into_inner();
    reply
        .outcomes
        .into_iter()
        .map(|outcome| outcome.outcome.unwrap())
        .collect()
}

/// As a signer-api of this release asks.
pub(crate) async fn sign(client: &mut CosignerClient<Channel>, items: Vec<SignItem>) -> Vec<Sign> {
    sign_in_form(client, items, true).await
}

pub(crate) async fn sign_in_form(
    client: &mut CosignerClient<Channel>,
    items: Vec<SignItem>,
    scaled: bool,
) -> Vec<Sign> {
    let reply = client
        .sign(SignRequest { items, scaled })
        .await
        .unwrap()
        .into_inner();
    reply
        .outcomes
        .into_iter()
        .map(|outcome| outcome.outcome.unwrap())
        .collect()
}
