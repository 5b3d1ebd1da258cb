use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};

use super::*;
use crate::config::{self, ENVIRONMENT_PREFIX};
use crate::testing::{Authority, SERVER};
use crate::tls::{Role, TlsFiles, http_server};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    listen: String,
    level: u64,
    tls: TlsFiles,
}

/// A process whose whole state is what it applied last.
struct Process {
    path: PathBuf,
    started: Sample,
    applied: Mutex<Vec<Sample>>,
}

impl Reload for Process {
    type Read = Sample;

    fn read(&self) -> Result<(Sample, Files), ConfigError> {
        let sample: Sample = config::load(&self.path, ENVIRONMENT_PREFIX)?;
        http_server(
            &sample.tls.certificate,
            &sample.tls.key,
            Some(&sample.tls.ca),
        )?;
        let files = files(&self.path, &sample);
        Ok((sample, files))
    }

    fn apply(&self, read: Sample) -> BTreeSet<String> {
        let mut differing = differing(&self.started, &read).unwrap();
        differing.remove("level");
        differing.retain(|setting| !setting.starts_with("tls"));
        self.applied.lock().push(read);
        differing
    }
}

fn files(path: &Path, sample: &Sample) -> Files {
    let mut certificates = CertificateFiles::default();
    certificates.add(&sample.tls.certificate, Role::Own);
    certificates.add(&sample.tls.ca, Role::Authority);
    Files {
        others: vec![path.to_owned(), sample.tls.key.clone()],
        certificates,
    }
}

/// A process under watch, whose clock the test turns.
struct Setting {
    ca: Authority,
    path: PathBuf,
    sample: Sample,
    watch: Watch<Process>,
    registry: Registry,
}

fn setting() -> Setting {
    let ca = Authority::new();
    let (certificate, key) = (ca.path().join("own.crt"), ca.path().join("own.key"));
    let tls = TlsFiles {
        certificate,
        key,
        ca: ca.ca(),
    };
    put(&ca.issue(&["own"], SERVER), &tls);
    let sample = Sample {
        listen: "here".to_owned(),
        level: 1,
        tls,
    };
    let path = ca.path().join("process.toml");
    std::fs::write(&path, config::to_toml(&sample).unwrap()).unwrap();
    let process = Arc::new(Process {
        path: path.clone(),
        started: sample.clone(),
        applied: Mutex::default(),
    });
    let (files, numbers) = (files(&path, &sample), ReloadNumbers::default());
    let mut registry = Registry::with_prefix("countersign");
    numbers.register(&mut registry);
    let watch = Watch::begin(process, files.clone(), files.prints(), numbers);
    Setting {
        ca,
        path,
        sample,
        watch,
        registry,
    }
}

/// Puts a certificate and its key where others are.
fn put(from: &TlsFiles, to: &TlsFiles) {
    std::fs::copy(&from.certificate, &to.certificate).unwrap();
    std::fs::copy(&from.key, &to.key).unwrap();
}

impl Setting {
    async fn ticks(&mut self, number: usize) {
        for _ in 0..number {
            self.watch.look(Asked::ByClock).await;
        }
    }

    fn applied(&self) -> usize {
        self.watch.reload.applied.lock().len()
    }

    fn write(&self, sample: &Sample) {
        std::fs::write(&self.path, config::to_toml(sample).unwrap()).unwrap();
    }

    fn number(&self, name: &str) -> Option<i64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let mut lines = text.lines();
        let line = lines.find(|line| {
            let rest = line.strip_prefix("countersign_");
            rest.and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn counted(&self, result: &str) -> i64 {
        let name = format!("config_reloads_total{{result=\"{result}\"}}");
        self.number(&name).unwrap_or_default()
    }
}

#[tokio::test]
async fn what_does_not_change_is_not_read_again() {
    let mut setting = setting();
    setting.ticks(3).await;
    // The same bytes in another file are no change.
    setting.write(&setting.sample);
    setting.ticks(3).await;
    assert_eq!(setting.applied(), 0);
    assert_eq!(setting.number("config_last_reload_successful"), Some(1));
    assert!(setting.number("config_last_reload_timestamp_seconds") > Some(1_700_000_000));

    setting.watch.look(Asked::ByHangup).await;
    assert_eq!((setting.applied(), setting.counted("unchanged")), (0, 1));
}

#[tokio::test]
async fn a_change_is_applied_once_it_stands_still_and_at_once_on_a_hangup() {
    let mut setting = setting();
    let mut sample = setting.sample.clone();
    sample.level = 2;
    setting.write(&sample);
    setting.ticks(1).await;
    assert_eq!(setting.applied(), 0, "it may be going on");
    setting.ticks(1).await;
    assert_eq!(setting.watch.reload.applied.lock().last(), Some(&sample));
    setting.ticks(3).await;
    assert_eq!((setting.applied(), setting.counted("applied")), (1, 1));

    sample.level = 3;
    sample.listen = "there".to_owned();
    setting.write(&sample);
    setting.watch.look(Asked::ByHangup).await;
    assert_eq!((setting.applied(), setting.counted("applied")), (2, 2));
    assert_eq!(setting.number("config_settings_awaiting_restart"), Some(1));

    sample.listen = setting.sample.listen.clone();
    setting.write(&sample);
    setting.ticks(2).await;
    assert_eq!(setting.number("config_settings_awaiting_restart"), Some(0));
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_is_told_once_and_heals_by_itself() {
    let mut setting = setting();
    let good = std::fs::read(&setting.path).unwrap();
    std::fs::write(&setting.path, "level = 1\nlevle = 2\n").unwrap();
    setting.ticks(1).await;
    assert_eq!(setting.counted("refused"), 0, "it may be half written");
    setting.ticks(4).await;
    assert_eq!((setting.applied(), setting.counted("refused")), (0, 1));
    assert_eq!(setting.number("config_last_reload_successful"), Some(0));
    setting.watch.look(Asked::ByHangup).await;
    assert_eq!(setting.counted("refused"), 2, "who asks is answered");

    // A file that only the new configuration names.
    let mut sample = setting.sample.clone();
    sample.tls.key = setting.ca.path().join("later.key");
    setting.write(&sample);
    setting.ticks(2).await;
    assert_eq!((setting.applied(), setting.counted("refused")), (0, 3));
    std::fs::copy(&setting.sample.tls.key, &sample.tls.key).unwrap();
    setting.ticks(2).await;
    assert_eq!(setting.applied(), 1);
    assert_eq!(setting.number("config_last_reload_successful"), Some(1));

    std::fs::remove_file(&setting.path).unwrap();
    setting.ticks(2).await;
    assert_eq!(setting.number("config_last_reload_successful"), Some(0));
    std::fs::write(&setting.path, good).unwrap();
    setting.ticks(2).await;
    assert_eq!(setting.applied(), 2);
    assert_eq!(setting.number("config_last_reload_successful"), Some(1));
}

#[tokio::test]
async fn a_pair_that_is_being_replaced_is_never_applied_half() {
    let mut setting = setting();
    let tls = setting.sample.tls.clone();
    let next = setting.ca.issue(&["own", "next"], SERVER);
    let whole = std::fs::read(&next.certificate).unwrap();
    std::fs::write(&tls.certificate, &whole[..whole.len() / 2]).unwrap();
    setting.ticks(1).await;
    std::fs::write(&tls.certificate, &whole).unwrap();
    setting.ticks(1).await;
    assert_eq!((setting.applied(), setting.counted("refused")), (0, 0));
    // The key comes late: that is an error by then, and is over with it.
    setting.ticks(1).await;
    assert_eq!((setting.applied(), setting.counted("refused")), (0, 1));
    std::fs::copy(&next.key, &tls.key).unwrap();
    setting.ticks(2).await;
    assert_eq!(setting.applied(), 1);
}

#[tokio::test]
async fn files_behind_links_are_followed_when_the_link_is_switched() {
    let mut setting = setting();
    // As Kubernetes mounts a secret: a link to a link to a directory, which is renamed over.
    let at = |name: &str| setting.ca.path().join(name);
    for version in ["one", "two"] {
        std::fs::create_dir(at(version)).unwrap();
        let issued = setting.ca.issue(&[version], SERVER);
        std::fs::copy(&issued.certificate, at(version).join("tls.crt")).unwrap();
        std::fs::copy(&issued.key, at(version).join("tls.key")).unwrap();
    }
    symlink(at("one"), at("..data")).unwrap();
    symlink(at("..data/tls.crt"), at("tls.crt")).unwrap();
    symlink(at("..data/tls.key"), at("tls.key")).unwrap();
    let mut sample = setting.sample.clone();
    (sample.tls.certificate, sample.tls.key) = (at("tls.crt"), at("tls.key"));
    symlink(at("two"), at("..new")).unwrap();
    let (new, data) = (at("..new"), at("..data"));
    setting.write(&sample);
    setting.ticks(2).await;
    assert_eq!(setting.applied(), 1);
    std::fs::rename(new, data).unwrap();
    setting.ticks(2).await;
    assert_eq!(setting.applied(), 2);
}

#[tokio::test]
async fn the_end_of_every_certificate_is_a_number_and_an_ended_one_is_not_taken() {
    let mut setting = setting();
    let tls = setting.sample.tls.clone();
    let ends = |setting: &Setting, path: &Path, role: &str| {
        let file = path.display();
        setting.number(&format!(
            "tls_certificate_not_after_timestamp_seconds{{file=\"{file}\",role=\"{role}\"}}"
        ))
    };
    assert_eq!(
        ends(&setting, &tls.certificate, "own"),
        Some(Authority::ends(&tls))
    );
    assert!(ends(&setting, &tls.ca, "authority") > Some(2_000_000_000));

    let in_use = Authority::ends(&tls);
    put(&setting.ca.issue_expired(&["own"], SERVER), &tls);
    setting.ticks(3).await;
    assert_eq!((setting.applied(), setting.counted("refused")), (0, 1));
    assert_eq!(ends(&setting, &tls.certificate, "own"), Some(in_use));

    let long = time::OffsetDateTime::now_utc() + time::Duration::days(90);
    let renewed = setting.ca.issue_until(&["own"], SERVER, long);
    put(&renewed, &tls);
    setting.ticks(2).await;
    assert_eq!(setting.applied(), 1);
    assert_eq!(
        ends(&setting, &tls.certificate, "own"),
        Some(Authority::ends(&renewed))
    );
}

#[test]
fn settings_that_differ_are_named_as_they_are_written() {
    let table = |text: &str| text.parse::<toml::Table>().unwrap();
    let one = table("a = 1\nb = 2\n[c]\nd = 3\ne = 4\n[[f]]\ng = 5\n");
    for (other, differ) in [
        ("a = 1\nb = 2\n[c]\nd = 3\ne = 4\n[[f]]\ng = 5\n", &[][..]),
        (
            "b = 3\n[c]\nd = 3\ne = 5\n[[f]]\ng = 5\n",
            &["a", "b", "c.e"],
        ),
        ("a = 1\nb = 2\nc = 3\n[[f]]\ng = 5\n", &["c"]),
        ("a = 1\nb = 2\n[c]\nd = 3\ne = 4\n[[f]]\ng = 6\n", &["f"]),
        ("a = 1\nb = 2\n[c]\nd = 3\ne = 4\n", &["f"]),
    ] {
        let differ: BTreeSet<String> = differ.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(differing(&one, &table(other)).unwrap(), differ, "{other}");
    }
}
