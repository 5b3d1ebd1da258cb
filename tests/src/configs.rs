//! Configuration files of the servers under test, as an operator would write them.

use std::path::Path;

/// What goes into a cosigner's file.
pub struct CosignerConfig<'a> {
    /// More lines, before the first table.
    pub lines: &'a str,
    /// The port to listen on.
    pub port: u16,
    /// A network's name or its file.
    pub network: &'a str,
    /// The genesis validators root, where the network does not know it.
    pub chain: Option<&'a str>,
    /// `checked` or `unchecked`.
    pub clock: &'a str,
    /// The database's table.
    pub database: &'a str,
    /// The cosigner's directory.
    pub home: &'a Path,
    /// The directory of certificates.
    pub certs: &'a Path,
    /// The cosigner's number, from 1.
    pub number: u64,
}

/// A cosigner's file.
#[must_use]
pub fn cosigner(config: &CosignerConfig<'_>) -> String {
    let CosignerConfig {
        lines,
        port,
        network,
        chain,
        clock,
        database,
        home,
        certs,
        number,
    } = config;
    let (home, certs) = (home.display(), certs.display());
    let chain = chain
        .map(|root| format!("genesis_validators_root = \"{root}\"\n"))
        .unwrap_or_default();
    format!(
        r#"{lines}
listen = "127.0.0.1:{port}"
network = "{network}"
{chain}clock = "{clock}"
allow_voluntary_exits = true
allow_deposits = true
anchor = "{home}/ledger.anchor"

{database}

[vault]
passphrase_file = "{home}/vault.passphrase"

[tls]
certificate = "{certs}/cosigner-{number}.crt"
key = "{certs}/cosigner-{number}.key"
ca = "{certs}/ca.crt"

[authority]
sign = ["signer-api-1"]
administer = ["operator"]
"#
    )
}

/// What goes into a signer-api's file.
pub struct SignerConfig<'a> {
    /// More lines, before the first table.
    pub lines: &'a str,
    /// The port to listen on.
    pub port: u16,
    /// The port of the metrics.
    pub metrics: u16,
    /// A network's name or its file.
    pub network: &'a str,
    /// The committee's least t.
    pub threshold: usize,
    /// The directory of certificates.
    pub certs: &'a Path,
    /// Where the cosigners listen, the first first.
    pub ports: &'a [u16],
}

/// A signer-api's file.
#[must_use]
pub fn signer(config: &SignerConfig<'_>) -> String {
    let SignerConfig {
        lines,
        port,
        metrics,
        network,
        threshold,
        certs,
        ports,
    } = config;
    let certs = certs.display();
    let cosigners: String = (1..)
        .zip(*ports)
        .map(|(number, port)| {
            format!(
                "\n[[cosigners]]\naddress = \"127.0.0.1:{port}\"\nsan = \"cosigner-{number}\"\n"
            )
        })
        .collect();
    format!(
        r#"{lines}
listen = "127.0.0.1:{port}"
network = "{network}"
threshold_min = {threshold}

[tls]
certificate = "{certs}/signer-api-1.crt"
key = "{certs}/signer-api-1.key"
ca = "{certs}/ca.crt"

[metrics]
listen = "127.0.0.1:{metrics}"
{cosigners}"#
    )
}
