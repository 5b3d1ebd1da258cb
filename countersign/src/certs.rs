//! Certificates for a committee to try: an authority that is forgotten once it has signed them.
//!
//! Everybody's identity is a DNS name in the certificate: `cosigner-1`… for the servers that hold
//! shares, `signer-api-1`… and `operator` for those who may call them. Real deployments bring PEM
//! files of their own authority with such names.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// How long certificates are valid unless something else is asked for, in days.
pub const DAYS: u32 = 365;

/// Who a committee's authority says it is, unless something else is asked for.
const NAME: &str = "countersign";

const EXAMPLES: &str = "Examples:
  # For 4 cosigners, one signer-api and the operator, valid for a year
  countersign certs new --committee 4 --out certs

  # Two signer-apis, valid for a month
  countersign certs new --committee 4 --signer-apis 2 --days 30 --out certs

Every process gets its own .crt and .key and the common ca.crt. The authority's key is not
written anywhere: nobody can add a certificate later; make a new set instead.";

/// Make a small CA and certificates for a committee, for trying out
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct NewArgs {
    /// How many cosigners the committee has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    committee: u16,
    /// The directory to write into; files that are there already are never replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many signer-apis will call the committee
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
    signer_apis: u16,
    /// For how many days the certificates are valid
    #[arg(long, value_name = "DAYS", default_value_t = DAYS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// What the authority calls itself
    #[arg(long, value_name = "NAME", default_value = NAME)]
    name: String,
}

/// What went wrong while certificates were made.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file of that name is there; nothing was written.
    #[error("{} is there already: choose another directory or remove it", .0.display())]
    Exists(PathBuf),
    /// The directory or a file could not be written.
    #[error("{} cannot be written", .0.display())]
    Unwritable(PathBuf, #[source] io::Error),
    /// A name or a validity that no certificate can have.
    #[error("no certificate can be made for \"{0}\"")]
    Unmakeable(String, #[source] rcgen::Error),
    /// A validity that ends beyond the calendar.
    #[error("{0} days are too many")]
    TooLong(u32),
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To be connected to: a cosigner, or a signer-api towards validator clients.
    Server,
    /// To connect: a signer-api towards cosigners, the operator, a validator client.
    Client,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From this moment.
    pub from: OffsetDateTime,
    /// Until this moment.
    pub until: OffsetDateTime,
}

impl Validity {
    /// From an hour ago, for clocks that are behind, until `days` days from now.
    ///
    /// # Errors
    ///
    /// When the calendar does not reach that far.
    pub fn days(days: u32) -> Result<Self, CertsError> {
        let now = OffsetDateTime::now_utc();
        let from = now.checked_sub(Duration::HOUR);
        let until = now.checked_add(Duration::days(days.into()));
        from.zip(until)
            .map(|(from, until)| Validity { from, until })
            .ok_or(CertsError::TooLong(days))
    }
}

/// A certificate and its private key, as PEM text. The key is wiped when dropped.
pub struct CertifiedPem {
    /// The certificate.
    pub certificate: String,
    /// Its key (PKCS#8).
    pub key: Zeroizing<String>,
}

/// A certificate authority that exists in memory only.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, valid for `days` days.
    ///
    /// # Errors
    ///
    /// When the calendar does not reach that far.
    pub fn new(days: u32) -> Result<Self, CertsError> {
        Authority::named(NAME, days)
    }

    /// As [`Authority::new`], with a name of its own.
    ///
    /// # Errors
    ///
    /// When the calendar does not reach that far.
    pub fn named(name: &str, days: u32) -> Result<Self, CertsError> {
        let mut params = params(name, &[], Validity::days(days)?)?;
        // It signs end entities only, no further authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = KeyPair::generate().and_then(|key| CertifiedIssuer::self_signed(params, key));
        let issuer = made.map_err(|error| CertsError::Unmakeable(name.to_owned(), error))?;
        Ok(Authority { issuer })
    }

    /// The authority's own certificate, as PEM text: what peers are configured to trust.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate with `name` as its only DNS name.
    ///
    /// # Errors
    ///
    /// When `name` is no DNS name.
    pub fn issue(
        &self,
        name: &str,
        usage: Usage,
        validity: Validity,
    ) -> Result<CertifiedPem, CertsError> {
        let unmakeable = |error| CertsError::Unmakeable(name.to_owned(), error);
        let mut params = params(name, &[name], validity)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let key = KeyPair::generate().map_err(unmakeable)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(unmakeable)?
            .pem();
        Ok(CertifiedPem {
            certificate,
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

fn params(
    name: &str,
    dns_names: &[&str],
    validity: Validity,
) -> Result<CertificateParams, CertsError> {
    let dns_names: Vec<String> = dns_names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(dns_names)
        .map_err(|error| CertsError::Unmakeable(name.to_owned(), error))?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = validity.from;
    params.not_after = validity.until;
    Ok(params)
}

/// One certificate of a committee.
struct Member {
    name: String,
    usage: Usage,
    purpose: &'static str,
}

/// Who has a certificate in a committee of so many.
fn members(cosigners: usize, signer_apis: usize) -> Vec<Member> {
    let numbered = |kind: &'static str, count, usage, purpose| {
        (1..).take(count).map(move |number: usize| {
            let name = format!("{kind}-{number}");
            Member {
                name,
                usage,
                purpose,
            }
        })
    };
    let operator = Member {
        name: "operator".to_owned(),
        usage: Usage::Client,
        purpose: "the operator's tools call cosigners with it",
    };
    numbered(
        "cosigner",
        cosigners,
        Usage::Server,
        "a cosigner answers with it",
    )
    .chain(numbered(
        "signer-api",
        signer_apis,
        Usage::Client,
        "a signer-api calls with it",
    ))
    .chain([operator])
    .collect()
}

/// Writes certificates for `cosigners` cosigners, one signer-api and the operator into `directory`,
/// which is made if it is not there: `ca.crt`, and a `.crt` and a `.key` called after each of
/// `cosigner-1`…, `signer-api-1`, `operator`. Keys are for their owner alone.
///
/// # Errors
///
/// When one of the files is there already (nothing is written then), or cannot be written.
pub fn write_committee(directory: &Path, cosigners: usize) -> Result<(), CertsError> {
    write(
        directory,
        &members(cosigners, 1),
        &Authority::new(DAYS)?,
        Validity::days(DAYS)?,
    )
}

fn write(
    directory: &Path,
    members: &[Member],
    authority: &Authority,
    validity: Validity,
) -> Result<(), CertsError> {
    let mut files = vec![(
        directory.join("ca.crt"),
        0o644,
        Zeroizing::new(authority.certificate()),
    )];
    for Member { name, usage, .. } in members {
        let made = authority.issue(name, *usage, validity)?;
        let certificate = Zeroizing::new(made.certificate);
        files.push((directory.join(format!("{name}.crt")), 0o644, certificate));
        files.push((directory.join(format!("{name}.key")), 0o600, made.key));
    }
    if let Some((path, ..)) = files
        .iter()
        .find(|(path, ..)| path.symlink_metadata().is_ok())
    {
        return Err(CertsError::Exists(path.clone()));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| CertsError::Unwritable(directory.to_owned(), error))?;
    for (path, mode, text) in files {
        let created = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path);
        created
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .map_err(|error| CertsError::Unwritable(path, error))?;
    }
    Ok(())
}

/// Runs `countersign certs new` and shows what it wrote.
///
/// # Errors
///
/// As [`write_committee`].
pub fn run(args: NewArgs) -> anyhow::Result<()> {
    let members = members(args.committee.into(), args.signer_apis.into());
    let authority = Authority::named(&args.name, args.days)?;
    let validity = Validity::days(args.days)?;
    write(&args.out, &members, &authority, validity)?;
    let table = table(&args.out, &members, validity);
    Ok(io::stdout().write_all(table.as_bytes())?)
}

/// The files that were written, for people.
fn table(directory: &Path, members: &[Member], validity: Validity) -> String {
    let mut text = format!(
        "In {}, valid until {}:\n  {:<36}every process trusts it\n",
        directory.display(),
        validity.until.date(),
        "ca.crt",
    );
    for Member { name, purpose, .. } in members {
        let files = format!("{name}.crt, {name}.key");
        text.push_str(&format!("  {files:<36}{purpose}\n"));
    }
    text.push_str("The DNS name in each certificate is its file's. ");
    text.push_str("The authority's key was not kept.\n");
    text
}

#[cfg(test)]
mod tests;
