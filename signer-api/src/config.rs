//! The configuration file.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

use daemon::{
    config::{self, ConfigError, ENVIRONMENT_PREFIX},
    reload::{CertificateFiles, Files},
    telemetry::LogFormat,
    tls::{Role, TlsFiles},
};
use serde::{Deserialize, Serialize};
use threshold::CommitteeSize;

/// What a signer-api is told. A sample stands in `deploy/signer-api.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where validator clients are served.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// A preset's name, or the path of a consensus-layer `config.yaml`.
    pub network: String,
    /// The least threshold t that a validator's committee may have. What cosigners report of less
    /// is not believed.
    pub threshold_min: usize,
    /// Serve HTTP without TLS on an address that other machines can reach.
    #[serde(default)]
    pub insecure_plaintext: bool,
    /// Host names that requests may be for; `*` allows all.
    #[serde(default = "default_allowed_hosts")]
    pub allowed_hosts: Vec<String>,
    /// When a request is answered at the latest, in milliseconds. A client that tries twice in 3 s
    /// needs less than 1,300.
    #[serde(default = "default_deadline_ms")]
    pub deadline_ms: u64,
    /// Requests at once; one more is answered with 500 and Retry-After, and so are those that would
    /// wait longer than `deadline_ms`, by what gets done. A sixteenth is kept for proposals.
    #[serde(default = "default_requests_max")]
    pub requests_max: usize,
    /// What the bodies of all requests at once may take, in MiB.
    #[serde(default = "default_body_memory_mib")]
    pub body_memory_mib: usize,
    /// Connections at once.
    #[serde(default = "default_connections_max")]
    pub connections_max: usize,
    /// Connections of one address at once (of one IPv6 network): the rest is the others'. Some clients
    /// open one for each request of a slot's burst.
    #[serde(default = "default_connections_per_address_max")]
    pub connections_per_address_max: usize,
    /// How long an idle connection stays open, in milliseconds. Clients keep theirs for 90 s and
    /// more, and lose duties when a connection closes under them.
    #[serde(default = "default_keep_alive_ms")]
    pub keep_alive_ms: u64,
    /// How long clients are served as before, but for a health check that says DOWN, after a stop
    /// was asked for, in milliseconds: for load balancers that must notice before the port closes.
    #[serde(default)]
    pub stop_delay_ms: u64,
    /// How long requests under way may take after the port was closed, in milliseconds.
    #[serde(default = "default_drain_ms")]
    pub drain_ms: u64,
    /// Lead the cosigners: slashable duties take one round trip to them instead of two, unless another
    /// signer-api leads, or contends for the duty.
    #[serde(default = "default_lead")]
    pub lead: bool,
    /// How log lines are written.
    #[serde(default)]
    pub log_format: LogFormat,
    /// TLS towards validator clients. Without it, plaintext is served, on loopback only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_tls: Option<HttpTls>,
    /// Mutual TLS towards the cosigners.
    pub tls: TlsFiles,
    /// Prometheus metrics; without it, none are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// The cosigners, every one of the committee.
    pub cosigners: Vec<Cosigner>,
}

/// PEM files of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTls {
    /// The server's certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// If given, clients must present a certificate that chains to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// `GET /metrics`, without TLS.
    pub listen: SocketAddr,
}

/// One cosigner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosigner {
    /// Host (or IP address) and port.
    pub address: String,
    /// The DNS name that its certificate must have, and by which it is called in logs and metrics.
    pub san: String,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9000))
}

fn default_allowed_hosts() -> Vec<String> {
    vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
}

const fn default_deadline_ms() -> u64 {
    1_200
}

const fn default_requests_max() -> usize {
    8_192
}

const fn default_body_memory_mib() -> usize {
    256
}

const fn default_connections_max() -> usize {
    4_096
}

const fn default_connections_per_address_max() -> usize {
    3_072
}

const fn default_keep_alive_ms() -> u64 {
    3_600_000
}

const fn default_lead() -> bool {
    true
}

const fn default_drain_ms() -> u64 {
    5_000
}

impl Config {
    /// Reads and checks a file; environment variables override it.
    ///
    /// # Errors
    /// One sentence that says what to change.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load::<Self>(path, ENVIRONMENT_PREFIX)?.checked()
    }

    /// The committee's least size as configured: `threshold_min` of the number of cosigners.
    ///
    /// # Errors
    /// When that is not safe.
    pub fn committee(&self) -> Result<CommitteeSize, ConfigError> {
        CommitteeSize::new(self.threshold_min, self.cosigners.len()).map_err(|error| {
            ConfigError::new(format!(
                "change `threshold_min` or list all `[[cosigners]]`: {error}"
            ))
        })
    }

    /// The deadline of a request.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// What a signer-api reads of which it takes up changes while it runs: this configuration, which
    /// lies at `path`, and what it names.
    #[must_use]
    pub fn files(&self, path: &Path) -> Files {
        let mut files = Files {
            others: vec![path.to_owned(), self.tls.key.clone()],
            certificates: CertificateFiles::default(),
        };
        files.certificates.add(&self.tls.certificate, Role::Own);
        files.certificates.add(&self.tls.ca, Role::Authority);
        if let Some(http) = &self.http_tls {
            files.others.push(http.key.clone());
            files.certificates.add(&http.certificate, Role::Own);
            if let Some(ca) = &http.client_ca {
                files.certificates.add(ca, Role::Authority);
            }
        }
        files
    }

    /// This configuration, if nothing in it is unsafe or contradicts itself.
    ///
    /// # Errors
    /// One sentence that says what to change.
    pub fn checked(self) -> Result<Self, ConfigError> {
        config::in_range("deadline_ms", self.deadline_ms, 100, 60_000)?;
        config::in_range("requests_max", self.requests_max, 1, 1_000_000)?;
        config::in_range("body_memory_mib", self.body_memory_mib, 10, 65_536)?;
        config::in_range("connections_max", self.connections_max, 1, 1_000_000)?;
        config::in_range(
            "connections_per_address_max",
            self.connections_per_address_max,
            1,
            1_000_000,
        )?;
        config::in_range("keep_alive_ms", self.keep_alive_ms, 1_000, 86_400_000)?;
        config::in_range("stop_delay_ms", self.stop_delay_ms, 0, 600_000)?;
        config::in_range("drain_ms", self.drain_ms, 0, 600_000)?;
        if self.cosigners.is_empty() {
            return Err(ConfigError::new("add `[[cosigners]]`: none is configured"));
        }
        self.committee()?;
        let (mut sans, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for cosigner in &self.cosigners {
            check_address(&cosigner.address)?;
            let san = cosigner.san.to_ascii_lowercase();
            if !sans.insert(san) {
                return Err(twice("san", &cosigner.san));
            }
            if !addresses.insert(cosigner.address.to_ascii_lowercase()) {
                return Err(twice("address", &cosigner.address));
            }
        }
        if self.http_tls.is_none() && !self.listen.ip().is_loopback() && !self.insecure_plaintext {
            return Err(ConfigError::new(format!(
                "add `[http_tls]`, listen on a loopback address, or set `insecure_plaintext = \
                 true`: {} can be reached by other machines, in plaintext",
                self.listen
            )));
        }
        Ok(self)
    }
}

fn twice(what: &str, value: &str) -> ConfigError {
    ConfigError::new(format!(
        "remove one of the two `[[cosigners]]` with the {what} \"{value}\": one that is counted \
         twice is one that can be missing twice"
    ))
}

fn check_address(address: &str) -> Result<(), ConfigError> {
    let authority = address.parse::<http::uri::Authority>();
    let port = authority
        .ok()
        .filter(|a| !a.host().is_empty())
        .and_then(|a| a.port_u16());
    if port.is_some_and(|port| port > 0) && !address.contains('@') {
        return Ok(());
    }
    Err(ConfigError::new(format!(
        "write a cosigner's `address` as host:port: \"{address}\" is not that"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../deploy/signer-api.toml");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        config::parse::<Config>("test.toml", text, "NONE_", [])?.checked()
    }

    #[test]
    fn the_sample_is_taken_and_survives_being_printed() {
        let sample = parse(SAMPLE).unwrap();
        assert_eq!(sample.committee().unwrap().to_string(), "3-of-4");
        assert_eq!(parse(&config::to_toml(&sample).unwrap()).unwrap(), sample);
    }

    #[test]
    fn what_is_unsafe_is_refused_with_a_sentence_that_says_what_to_change() {
        for (from, to, said) in [
            ("threshold_min = 3", "threshold_min = 2", "threshold_min"),
            ("threshold_min = 3", "threshold_min = 5", "threshold_min"),
            (
                "threshold_min = 3",
                "threshold_min = 3\ntreshold = 1",
                "treshold",
            ),
            ("threshold_min = 3", "", "threshold_min"),
            ("cosigner-2\"", "cosigner-1\"", "remove one"),
            ("10.0.0.2:9100", "10.0.0.1:9100", "remove one"),
            ("10.0.0.2:9100", "10.0.0.2", "host:port"),
            ("10.0.0.2:9100", "http://10.0.0.2:9100", "host:port"),
            ("127.0.0.1:9000", "0.0.0.0:9000", "insecure_plaintext"),
            ("deadline_ms = 1200", "deadline_ms = 0", "deadline_ms"),
        ] {
            let text = SAMPLE.replacen(from, to, 1);
            assert_ne!(text, SAMPLE, "{from} is not in the sample");
            let sentence = parse(&text).unwrap_err().to_string();
            assert!(sentence.contains(said), "{to}: {sentence}");
            assert!(!sentence.contains('\n'));
        }
    }

    #[test]
    fn plaintext_for_other_machines_must_be_asked_for_in_words() {
        let open = SAMPLE.replacen("127.0.0.1:9000", "0.0.0.0:9000", 1);
        let asked = open.replacen("insecure_plaintext = false", "insecure_plaintext = true", 1);
        assert!(parse(&open).is_err());
        assert!(parse(&asked).is_ok());
    }
}
