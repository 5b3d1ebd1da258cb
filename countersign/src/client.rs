//! A signer-api seen from outside: what a validator client does, for the tool's own use.

use std::time::Duration;

use anyhow::{Context, bail};
use duty::PublicKey;
use serde::Deserialize;
use threshold::Signature;

/// A signer-api at a URL, over connections that are kept.
#[derive(Clone)]
pub struct SignerApi {
    base: String,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Signed {
    signature: String,
}

impl SignerApi {
    /// A client for the signer-api at `base`, such as `http://127.0.0.1:9000`.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        daemon::install_crypto_provider();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(1)
            .build()
            .context("no HTTP client could be made")?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            http,
        })
    }

    /// Whether the health check answers 200.
    pub async fn is_up(&self) -> bool {
        match self
            .http
            .get(format!("{}/healthcheck", self.base))
            .send()
            .await
        {
            Ok(response) => response.status().is_success(),
            Err(_) => false,
        }
    }

    /// The keys that the signer serves, in its order.
    ///
    /// # Errors
    /// If the signer cannot be reached or answers anything but a list of keys.
    pub async fn public_keys(&self) -> anyhow::Result<Vec<PublicKey>> {
        let url = format!("{}/api/v1/eth2/publicKeys", self.base);
        let response = self.http.get(&url).send().await.with_context(|| {
            format!(
                "{} does not answer: is the signer running there?",
                self.base
            )
        })?;
        let body = response.error_for_status()?.bytes().await?;
        serde_json::from_slice(&body).with_context(|| format!("{url} did not answer with keys"))
    }

    /// Posts a signing request and takes the signature.
    ///
    /// # Errors
    /// The status and the signer's own words for anything but a signature.
    pub async fn sign(&self, validator: &PublicKey, request: Vec<u8>) -> anyhow::Result<Signature> {
        let url = format!("{}/api/v1/eth2/sign/{validator}", self.base);
        let response = self
            .http
            .post(&url)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(request)
            .send()
            .await?;
        let status = response.status();
        let body = response.bytes().await?;
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        let signed: Signed = serde_json::from_slice(&body).context("no signature in the answer")?;
        signed
            .signature
            .parse()
            .context("the signature is not 96 bytes of hexadecimal")
    }
}
