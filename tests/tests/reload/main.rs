//! Configuration and certificates change while everything runs, and no request fails of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign::certs::{Authority, Usage, Validity};
use daemon::tls::{Role, TlsFiles, expiry, mutual_client};
use load::{
    APPLIED, Load, RECONNECTED, REFUSED, SOON, UNCHANGED, metric, metrics_of, put, put_pair, says,
};
use rustix::process::Signal;
use tests::{
    cluster::{Cluster, Options, test_keys},
    process::{eventually, free_port},
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use wire::proto::{StatusRequest, cosigner_client::CosignerClient};

mod load;

mod database;

mod https;

/// Callers, one validator each.
const CALLERS: u8 = 4;

fn files(certs: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        certificate: certs.join(format!("{name}.crt")),
        key: certs.join(format!("{name}.key")),
        ca: certs.join("ca.crt"),
    }
}

fn channel(cluster: &Cluster, files: &TlsFiles) -> Channel {
    let connector = mutual_client(files, "cosigner-1").unwrap();
    Endpoint::from_shared(format!("http://{}", cluster.address(1)))
        .unwrap()
        .connect_with_connector_lazy(connector)
}

async fn status(channel: &Channel) -> Result<(), tonic::Status> {
    let mut client = CosignerClient::new(channel.clone());
    client.status(StatusRequest {}).await.map(drop)
}

fn options() -> Options {
    Options {
        // Whichever port is free, for each: the log says which.
        // A busy machine must not be taken for a request that failed.
        signer_lines: "deadline_ms = 5000\n",
        cosigner_lines: "metrics.listen = \"127.0.0.1:0\"\n",
        ..Options::new(test_keys(CALLERS))
    }
}

/// What docs/OPERATING.md says under "A new authority", step by step.
#[tokio::test(flavor = "multi_thread")]
async fn authority_and_all_certificates_are_replaced_and_no_request_fails() {
    let mut cluster = Cluster::start(options()).await;
    let certs = cluster.dir().join("certs");
    let kept = cluster.dir().join("kept");
    fs::create_dir(&kept).unwrap();
    for name in ["signer-api-1.crt", "signer-api-1.key"] {
        fs::copy(certs.join(name), kept.join(name)).unwrap();
    }
    let load = Load::start(&cluster);
    load.goes_on().await;
    let (old, next) = (
        fs::read_to_string(certs.join("ca.crt")).unwrap(),
        Authority::new(1).unwrap(),
    );

    // 1. Everybody takes both authorities.
    let both = format!("{old}{}", next.certificate());
    put(&certs.join("ca.crt"), both);
    for number in 1..=4 {
        says(cluster.cosigner(number), APPLIED, 1).await;
    }
    says(cluster.signer(0), APPLIED, 1).await;
    says(cluster.signer(0), RECONNECTED, 4).await;
    load.goes_on().await;

    // 2. One after the other shows a certificate of the new one.
    let valid = || Validity::days(60).unwrap();
    for number in 1..=4 {
        let name = format!("cosigner-{number}");
        let issued = next.issue(&name, Usage::Server, valid()).unwrap();
        put_pair(&certs, &name, &issued);
        if number % 2 == 0 {
            cluster.cosigner(number).signal(Signal::HUP);
        }
        says(cluster.cosigner(number), APPLIED, 2).await;
        load.goes_on().await;
    }
    let issued = next.issue("signer-api-1", Usage::Client, valid()).unwrap();
    put_pair(&certs, "signer-api-1", &issued);
    says(cluster.signer(0), APPLIED, 2).await;
    says(cluster.signer(0), RECONNECTED, 8).await;
    load.goes_on().await;

    // 3. Nobody takes the old one any more.
    let before = channel(
        &cluster,
        &TlsFiles {
            ca: certs.join("ca.crt"),
            ..files(&kept, "signer-api-1")
        },
    );
    status(&before).await.unwrap();
    put(&certs.join("ca.crt"), next.certificate());
    for number in 1..=4 {
        says(cluster.cosigner(number), APPLIED, 3).await;
    }
    says(cluster.signer(0), APPLIED, 3).await;
    says(cluster.signer(0), RECONNECTED, 12).await;
    load.goes_on().await;

    let signed = load.end().await;
    assert!(signed > 100, "{signed} requests");
    // Who was connected with the old one is out, and does not come in again.
    for _ in 0..2 {
        status(&before).await.unwrap_err();
    }
    status(&channel(&cluster, &files(&certs, "signer-api-1")))
        .await
        .unwrap();
    ends_are_told(&mut cluster, &certs).await;
}

/// Each process says when what it uses now ends.
async fn ends_are_told(cluster: &mut Cluster, certs: &Path) {
    let signer = cluster.metrics_address(0);
    let cosigner = metrics_of(cluster.cosigner(2));
    for (address, file, role) in [
        (&signer, "signer-api-1.crt", Role::Own),
        (&signer, "ca.crt", Role::Authority),
        (&cosigner, "cosigner-2.crt", Role::Own),
        (&cosigner, "ca.crt", Role::Authority),
    ] {
        let path = certs.join(file);
        let name = format!(
            "countersign_tls_certificate_not_after_timestamp_seconds{{file=\"{}\",role=\"{}\"}}",
            path.display(),
            role.name()
        );
        let end = expiry(&path, role).unwrap().not_after;
        assert_eq!(metric(address, &name).await, Some(end), "{file}");
    }
    let shown =
        "countersign_cosigner_certificate_not_after_timestamp_seconds{cosigner=\"cosigner-2\"}";
    let end = expiry(&certs.join("cosigner-2.crt"), Role::Own).unwrap();
    assert_eq!(metric(&signer, shown).await, Some(end.not_after));
}

/// A change of a file, what the log says of it, and the result as a metric counts it.
struct Wrong {
    file: PathBuf,
    text: String,
    says: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_files_change_nothing_and_are_named() {
    let mut cluster = Cluster::start(options()).await;
    let certs = cluster.dir().join("certs");
    let load = Load::start(&cluster);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let cosigner = cluster.dir().join("cosigner-1/cosigner.toml");
    let signer = cluster.dir().join("signer-api-1.toml");
    let wrong = |name: &str, config: &Path| {
        let (crt, key) = (format!("{name}.crt"), format!("{name}.key"));
        [
            Wrong {
                file: config.to_owned(),
                text: read(config).replace("network =", "netwrok ="),
                says: "netwrok",
            },
            Wrong {
                file: certs.join(&key),
                text: read(&certs.join("operator.key")),
                says: "is not the key of the certificate",
            },
            Wrong {
                file: certs.join(&crt),
                text: "-----BEGIN CERTIFICATE-----\nMII".to_owned(),
                says: "not well-formed PEM",
            },
        ]
    };
    let (of_cosigner, of_signer) = (
        wrong("cosigner-1", &cosigner),
        wrong("signer-api-1", &signer),
    );
    let mut refused = 0;
    for (nth, (one, two)) in of_cosigner.into_iter().zip(of_signer).enumerate() {
        let good = [read(&one.file), read(&two.file)];
        put(&one.file, &one.text);
        put(&two.file, &two.text);
        refused += 1;
        for (process, says_so) in [(true, one.says), (false, two.says)] {
            let process = if process {
                cluster.cosigner(1)
            } else {
                cluster.signer(0)
            };
            says(process, REFUSED, refused).await;
            assert!(
                process.log().contains(says_so),
                "{says_so}: {}",
                process.log()
            );
        }
        load.goes_on().await;
        for address in [metrics_of(cluster.cosigner(1)), cluster.metrics_address(0)] {
            let good = metric(&address, "countersign_config_last_reload_successful").await;
            assert_eq!(good, Some(0));
        }
        put(&one.file, &good[0]);
        put(&two.file, &good[1]);
        says(cluster.cosigner(1), UNCHANGED, nth + 1).await;
        says(cluster.signer(0), UNCHANGED, nth + 1).await;
    }
    for address in [metrics_of(cluster.cosigner(1)), cluster.metrics_address(0)] {
        let good = metric(&address, "countersign_config_last_reload_successful").await;
        assert_eq!(good, Some(1));
        let refused = "countersign_config_reloads_total{result=\"refused\"}";
        assert_eq!(metric(&address, refused).await, Some(3));
        let applied = "countersign_config_reloads_total{result=\"applied\"}";
        assert_eq!(metric(&address, applied).await, None);
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_applied_is_and_what_needs_a_restart_is_named() {
    let mut cluster = Cluster::start(options()).await;
    let signer = cluster.dir().join("signer-api-1.toml");
    let text = fs::read_to_string(&signer).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let was = cluster.url(0).replace("http://", "");
    let changed = text.replace(
        &format!("listen = \"{was}\""),
        &format!("listen = \"{listen}\"\nallowed_hosts = [\"other.example\"]"),
    );
    assert_ne!(text, changed);
    put(&signer, &changed);
    cluster.signer(0).signal(Signal::HUP);
    says(cluster.signer(0), "settings=\"listen\"", 1).await;
    let waiting = "countersign_config_settings_awaiting_restart";
    assert_eq!(metric(&cluster.metrics_address(0), waiting).await, Some(1));
    // It listens where it did, and takes other hosts than it did.
    assert_eq!(cluster.get(0, "/upcheck").await.status, 403);
    put(&signer, &text);
    eventually("the host is taken again", SOON, || async {
        cluster.get(0, "/upcheck").await.status == 200
    })
    .await;
    assert_eq!(metric(&cluster.metrics_address(0), waiting).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_out_has_made_its_last_call() {
    let mut cluster = Cluster::start(options()).await;
    let certs = cluster.dir().join("certs");
    let config = cluster.dir().join("cosigner-1/cosigner.toml");
    let text = fs::read_to_string(&config).unwrap();
    let load = Load::start(&cluster);
    let open = channel(&cluster, &files(&certs, "signer-api-1"));
    status(&open).await.unwrap();

    // As an operator it may connect, and may not sign.
    let operating = text
        .replace("sign = [\"signer-api-1\"]", "sign = [\"another\"]")
        .replace(
            "administer = [\"operator\"]",
            "administer = [\"signer-api-1\"]",
        );
    assert_ne!(text, operating);
    put(&config, operating);
    says(cluster.cosigner(1), APPLIED, 1).await;
    let denied = status(&open).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");

    let without = text.replace("sign = [\"signer-api-1\"]", "sign = [\"another\"]");
    put(&config, without);
    says(cluster.cosigner(1), APPLIED, 2).await;
    for _ in 0..2 {
        let out = status(&open).await.unwrap_err();
        assert_ne!(out.code(), Code::PermissionDenied, "{out}");
    }
    cluster.health_says(1, "DOWN").await;
    load.goes_on().await;

    put(&config, text);
    cluster.health_says(1, "UP").await;
    status(&open).await.unwrap();
    load.goes_on().await;
    load.end().await;
}
