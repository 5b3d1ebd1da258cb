//! Certificates for the tests, of every kind that must be refused.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::tls::TlsFiles;

/// What a certificate may be used for.
pub(crate) const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;
pub(crate) const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;

/// An authority whose certificates lie in a directory of its own until it is dropped.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    /// When a certificate ends: seconds since 1970.
    pub(crate) fn ends(files: &TlsFiles) -> i64 {
        let role = crate::tls::Role::Own;
        crate::tls::expiry(&files.certificate, role)
            .unwrap()
            .not_after
    }

    pub(crate) fn new() -> Self {
        Authority::named("ca")
    }

    /// An authority that says it is `name`.
    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, directory }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A certificate that is valid now, with `names` as its DNS names.
    pub(crate) fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> TlsFiles {
        self.issue_until(names, usage, OffsetDateTime::now_utc() + Duration::days(1))
    }

    /// A certificate that is no longer valid.
    pub(crate) fn issue_expired(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> TlsFiles {
        self.issue_until(
            names,
            usage,
            OffsetDateTime::now_utc() - Duration::minutes(1),
        )
    }

    /// One that ends at `until`.
    pub(crate) fn issue_until(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        until: OffsetDateTime,
    ) -> TlsFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = until - Duration::days(2);
        params.not_after = until;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let at = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        let files = TlsFiles {
            certificate: at.join("certificate.pem"),
            key: at.join("key.pem"),
            ca: self.ca(),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}
