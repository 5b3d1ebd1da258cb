//! A committee of real processes: started, asked, disturbed.

use std::{path::Path, time::Duration};

use duty::PublicKey;

use crate::{
    http::{self, Answer},
    material::{import, seal},
    process::{Process, eventually, free_port},
};
pub use crate::{
    material::{keystore, secret_file, test_keys},
    prepared::{Clock, Options, Prepared, Storage},
};

/// A running committee. Dropping it kills every process.
pub struct Cluster {
    prepared: Prepared,
    cosigners: Vec<Option<Process>>,
    signers: Vec<Signer>,
    http: reqwest::Client,
}

struct Signer {
    process: Process,
    port: u16,
    metrics: u16,
}

impl Cluster {
    /// Starts everything and waits until all signer-apis say `UP`.
    pub(crate) async fn of(prepared: Prepared) -> Self {
        let mut cluster = Self {
            cosigners: Vec::new(),
            signers: Vec::new(),
            http: reqwest::Client::new(),
            prepared,
        };
        for number in cluster.prepared.numbers() {
            let home = cluster.prepared.home(number);
            let process = (!cluster.prepared.options.absent.contains(&number)).then(|| {
                let config = home.join("cosigner.toml");
                let arguments = [
                    "run",
                    "--config",
                    config.to_str().unwrap(),
                    "--stop-with-stdin",
                ];
                Process::start("cosigner", &arguments, &home.join("log"))
            });
            cluster.cosigners.push(process);
        }
        for number in 1..=cluster.prepared.options.signers {
            let (port, metrics) = (free_port(), free_port());
            let config = cluster.prepared.write_signer(number, port, metrics);
            let arguments = [
                "run",
                "--config",
                config.to_str().unwrap(),
                "--stop-with-stdin",
            ];
            let log = config.with_extension("log");
            let process = Process::start("signer-api", &arguments, &log);
            cluster.signers.push(Signer {
                process,
                port,
                metrics,
            });
        }
        for signer in 0..cluster.signers.len() {
            cluster.up(signer).await;
        }
        cluster
    }

    /// Prepares and starts a committee.
    pub async fn start(options: Options) -> Self {
        Prepared::new(options).await.start().await
    }

    /// The validators' keys, in the order of the options' secret keys.
    #[must_use]
    pub fn validators(&self) -> &[PublicKey] {
        self.prepared.validators()
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.prepared.dir.path()
    }

    /// Cosigner `number` (from 1).
    pub fn cosigner(&mut self, number: u64) -> &mut Process {
        self.cosigners[usize::try_from(number).unwrap() - 1]
            .as_mut()
            .unwrap()
    }

    /// Signer-api `number` (from 0).
    pub fn signer(&mut self, number: usize) -> &mut Process {
        &mut self.signers[number].process
    }

    /// What signer-api `number` (from 0) has logged so far.
    #[must_use]
    pub fn signer_log(&self, number: usize) -> String {
        self.signers[number].process.log()
    }

    /// The URL of signer-api `number` (from 0).
    #[must_use]
    pub fn url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.signers[number].port)
    }

    /// Splits one more key and imports its shares while every cosigner runs.
    pub async fn import_while_running(&mut self, secret: [u8; 32]) -> PublicKey {
        let packages = self.prepared.split(&[secret]);
        let mut imports = tokio::task::JoinSet::new();
        for package in packages {
            let (home, sealed) = (self.prepared.home(package.index.value()), seal(&package));
            imports.spawn_blocking(move || import(&home, &sealed));
        }
        imports.join_all().await;
        *self.prepared.validators().last().unwrap()
    }

    /// Kills every cosigner with SIGKILL and starts them again.
    pub async fn crash_cosigners(&mut self) {
        let numbers: Vec<u64> = self.prepared.numbers().collect();
        for number in &numbers {
            self.cosigner(*number).kill();
        }
        // What is said of them now is of the killed ones; it must be known that they are gone.
        for number in &numbers {
            self.health_says(*number, "DOWN").await;
        }
        for number in &numbers {
            self.cosigner(*number).restart();
        }
        for number in &numbers {
            self.health_says(*number, "UP").await;
        }
    }

    /// Waits until the first signer-api's health check says so of cosigner `number`.
    pub async fn health_says(&self, number: u64, status: &str) {
        let what = format!("cosigner-{number} is {status}");
        eventually(&what, Duration::from_secs(30), || async {
            let health = self.get(0, "/healthcheck").await.json();
            let name = format!("cosigner-{number}");
            let mut checks = health["checks"].as_array().into_iter().flatten();
            checks.any(|check| {
                check["id"].as_str().is_some_and(|id| id.ends_with(&name))
                    && check["status"] == status
            })
        })
        .await;
    }

    /// Waits until signer-api `number` says `UP`.
    pub async fn up(&self, number: usize) {
        eventually("the committee is up", Duration::from_secs(60), || async {
            match self
                .http
                .get(format!("{}/healthcheck", self.url(number)))
                .send()
                .await
            {
                Ok(response) => response.status() == 200,
                Err(_) => false,
            }
        })
        .await;
    }

    /// GETs a path of signer-api `number`.
    pub async fn get(&self, number: usize, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.url(number)));
        Answer::of(request.send().await.unwrap()).await
    }

    /// POSTs a body to a path of signer-api `number`; without `accept` no such header is sent at all.
    pub async fn post(
        &self,
        number: usize,
        path: &str,
        accept: Option<&str>,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let (url, body) = (self.url(number), body.into());
        if let Some(accept) = accept {
            let request = self
                .http
                .post(format!("{url}{path}"))
                .header("accept", accept);
            return Answer::of(request.body(body).send().await.unwrap()).await;
        }
        let address = url.replace("http://", "");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        http::raw(&address, &[head.into_bytes(), body].concat()).await
    }

    /// Posts a signing request for a validator, as JSON, to signer-api `number`.
    pub async fn sign(
        &self,
        number: usize,
        validator: &PublicKey,
        request: &serde_json::Value,
    ) -> Answer {
        let path = format!("/api/v1/eth2/sign/{validator}");
        self.post(number, &path, Some("application/json"), request.to_string())
            .await
    }

    /// Where cosigner `number` (from 1) listens.
    #[must_use]
    pub fn address(&self, number: u64) -> std::net::SocketAddr {
        self.prepared.address(number)
    }

    /// Where the metrics of signer-api `number` (from 0) are.
    #[must_use]
    pub fn metrics_address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.signers[number].metrics)
    }

    /// The metrics of signer-api `number`, as text.
    pub async fn metrics(&self, number: usize) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.signers[number].metrics);
        self.http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }
}
