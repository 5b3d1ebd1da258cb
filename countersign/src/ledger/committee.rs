//! Whose ledgers: those of running cosigners, or one cosigner's database.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, bail, ensure};
use cosigner::config::Settings;
use daemon::tls::TlsFiles;
use threshold::CommitteeSize;

/// Cosigners that a committee has at most, and so cosigners that are asked at once.
const COSIGNERS_MAX: usize = 100;

/// The arguments that say whose ledgers.
#[derive(Debug, clap::Args)]
#[command(group(
    clap::ArgGroup::new("whose").required(true).args(["committee", "cosigner", "config"])
))]
pub struct Whose {
    /// A signer-api's configuration file: every cosigner that it lists is asked
    #[arg(long, value_name = "FILE", help_heading = "Whose ledgers")]
    committee: Option<PathBuf>,
    /// One running cosigner, and the DNS name in its certificate; repeat it for more of them
    #[arg(long, value_name = "HOST:PORT=SAN", help_heading = "Whose ledgers")]
    cosigner: Vec<Target>,
    /// A cosigner's configuration file: work on its database, without asking the cosigner
    #[arg(long, value_name = "FILE", help_heading = "Whose ledgers")]
    config: Option<PathBuf>,
    /// The directory of ca.crt, operator.crt and operator.key
    #[arg(long, value_name = "DIR", help_heading = "Whose ledgers")]
    #[arg(conflicts_with_all = ["config"])]
    certs: Option<PathBuf>,
    /// The authority that the cosigners' certificates chain to, instead of ca.crt
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Whose ledgers",
        conflicts_with = "config"
    )]
    ca: Option<PathBuf>,
    /// The operator's certificate, instead of operator.crt
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Whose ledgers",
        conflicts_with = "config"
    )]
    certificate: Option<PathBuf>,
    /// The operator's private key, instead of operator.key
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Whose ledgers",
        conflicts_with = "config"
    )]
    key: Option<PathBuf>,
    /// How long each cosigner may take, in seconds [default: 15; 900 for import and export]
    #[arg(long, value_name = "SECONDS", help_heading = "Whose ledgers")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400), conflicts_with = "config")]
    timeout_s: Option<u64>,
}

/// Where one cosigner is, and what its certificate calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host (or IP address) and port.
    pub(super) address: String,
    /// The DNS name that its certificate must have.
    pub(super) san: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, san) = text
            .rsplit_once('=')
            .ok_or("write HOST:PORT=SAN, such as 10.0.0.1:9100=cosigner-1")?;
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(port)) if port > 0 && !san.is_empty() => Ok(Self {
                address: address.to_owned(),
                san: san.to_owned(),
            }),
            Some(_) | None => {
                Err("write HOST:PORT=SAN, such as 10.0.0.1:9100=cosigner-1".to_owned())
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.san)
    }
}

/// Running cosigners, and what is needed to call them.
#[derive(Debug)]
pub(super) struct Committee {
    /// All that are asked, in the order given; at least one.
    pub(super) cosigners: Vec<Target>,
    /// The least t of how many, if the whole committee is known.
    pub(super) size: Option<CommitteeSize>,
    /// The operator's certificate, and whom it trusts.
    pub(super) tls: TlsFiles,
    timeout: Option<Duration>,
}

impl Committee {
    /// How long each cosigner may take, if nothing else was asked for.
    pub(super) fn patience(&self, otherwise: Duration) -> Duration {
        self.timeout.unwrap_or(otherwise)
    }
}

/// Whose ledgers, found and read.
pub(super) enum Place {
    /// Those of running cosigners.
    Online(Committee),
    /// That of one cosigner's database.
    Offline(Box<Settings>),
}

impl Whose {
    /// Reads the files that the arguments name.
    ///
    /// # Errors
    /// A sentence that says which file or argument to change.
    pub(super) fn find(self) -> anyhow::Result<Place> {
        if let Some(file) = &self.config {
            return Ok(Place::Offline(Box::new(Settings::load(file)?)));
        }
        let (cosigners, size) = match &self.committee {
            Some(file) => {
                let config = signer_api::config::Config::load(file)?;
                let size = config.committee()?;
                let targets = config.cosigners.into_iter().map(|cosigner| Target {
                    address: cosigner.address,
                    san: cosigner.san,
                });
                (targets.collect(), Some(size))
            }
            None => (self.cosigner.clone(), None),
        };
        refuse_duplicates(&cosigners)?;
        Ok(Place::Online(Committee {
            cosigners,
            size,
            tls: self.tls()?,
            timeout: self.timeout_s.map(Duration::from_secs),
        }))
    }

    fn tls(&self) -> anyhow::Result<TlsFiles> {
        let file = |given: &Option<PathBuf>, flag: &str, name: &str| {
            let found = given
                .clone()
                .or_else(|| self.certs.as_ref().map(|directory| directory.join(name)));
            found.with_context(|| {
                format!("give --certs with the directory of {name}, or --{flag} with a file")
            })
        };
        Ok(TlsFiles {
            ca: file(&self.ca, "ca", "ca.crt")?,
            certificate: file(&self.certificate, "certificate", "operator.crt")?,
            key: file(&self.key, "key", "operator.key")?,
        })
    }
}

/// A cosigner that is asked twice would be counted twice.
fn refuse_duplicates(cosigners: &[Target]) -> anyhow::Result<()> {
    ensure!(
        cosigners.len() <= COSIGNERS_MAX,
        "{} cosigners are too many: at most {COSIGNERS_MAX}",
        cosigners.len()
    );
    for (position, one) in cosigners.iter().enumerate() {
        for other in cosigners.iter().take(position) {
            if one.san.eq_ignore_ascii_case(&other.san) {
                bail!("{one} is given twice");
            }
            if one.address.eq_ignore_ascii_case(&other.address) {
                bail!("{} is given twice, for {other} and {one}", one.address);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosigner_is_an_address_and_a_name() {
        for (text, wanted) in [
            (
                "10.0.0.1:9100=cosigner-1",
                Some(("10.0.0.1:9100", "cosigner-1")),
            ),
            ("[::1]:9100=c", Some(("[::1]:9100", "c"))),
            ("host:9100", None),
            ("host=cosigner-1", None),
            ("host:0=cosigner-1", None),
            ("host:99999=cosigner-1", None),
            ("host:1=", None),
        ] {
            let target = text.parse::<Target>().ok();
            let found = target
                .as_ref()
                .map(|t| (t.address.as_str(), t.san.as_str()));
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn a_cosigner_is_not_counted_twice() {
        let targets = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
        for (texts, said) in [
            (&["a:1=x", "b:1=y"][..], None),
            (&["a:1=x", "b:1=X"], Some("X is given twice")),
            (&["a:1=x", "A:1=y"], Some("A:1 is given twice, for x and y")),
        ] {
            let error = refuse_duplicates(&targets(texts))
                .err()
                .map(|e| e.to_string());
            assert_eq!(error.as_deref(), said, "{texts:?}");
        }
    }
}
