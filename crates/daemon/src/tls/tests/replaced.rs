//! TLS that is replaced while connections are open.

use tonic::transport::Channel;

use super::*;

async fn connect(address: SocketAddr, connector: Connector) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_with_connector(connector)
        .await
        .unwrap()
}

async fn call_on(channel: &Channel) -> Result<(), tonic::transport::Error> {
    let request = ::http::Request::post("/test.Called/Call")
        .body(Body::empty())
        .unwrap();
    tokio::time::timeout(DEADLINE, channel.clone().oneshot(request))
        .await
        .unwrap()
        .map(drop)
}

fn only(name: &str) -> BTreeSet<String> {
    [name.to_owned()].into()
}

#[tokio::test]
async fn who_would_not_be_let_in_any_more_is_put_out_and_the_others_go_on() {
    let (ca, next) = (Authority::new(), Authority::named("next"));
    let files = ca.issue(&[COSIGNER], SERVER);
    let (address, called, slot) =
        serve_replaceable(mutual_server(&files, &allowed()).unwrap()).await;
    let client = |name| mutual_client(&ca.issue(&[name], CLIENT), COSIGNER).unwrap();
    let signer = connect(address, client(SIGNER_API)).await;
    let operator = connect(address, client("operator")).await;
    let ending = connect(address, client("operator")).await;
    for channel in [&signer, &operator, &ending] {
        call_on(channel).await.unwrap();
    }

    // Of the same authority, the same names: nobody notices.
    let renewed = ca.issue(&[COSIGNER], SERVER);
    slot.replace(mutual_server(&renewed, &allowed()).unwrap());
    call_on(&signer).await.unwrap();

    slot.replace(mutual_server(&renewed, &only("operator")).unwrap());
    call_on(&signer).await.unwrap_err();
    call_on(&operator).await.unwrap();
    assert_eq!(called.sans().len(), 5);
    call(address, client(SIGNER_API)).await.unwrap_err();

    // Both authorities, then only the next: who still shows a certificate of the first is out.
    let both = ca.path().join("both.pem");
    let text = [ca.ca(), next.ca()].map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(&both, text.concat()).unwrap();
    let trusting = |ca| TlsFiles {
        ca,
        ..renewed.clone()
    };
    slot.replace(mutual_server(&trusting(both), &allowed()).unwrap());
    let moved = TlsFiles {
        ca: ca.ca(),
        ..next.issue(&["operator"], CLIENT)
    };
    let moved = connect(address, mutual_client(&moved, COSIGNER).unwrap()).await;
    for channel in [&moved, &ending] {
        call_on(channel).await.unwrap();
    }
    slot.replace(mutual_server(&trusting(next.ca()), &allowed()).unwrap());
    call_on(&moved).await.unwrap();
    call_on(&ending).await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_that_ends_while_its_peer_is_connected_ends_no_connection() {
    let ca = Authority::new();
    let files = ca.issue(&[COSIGNER], SERVER);
    let server = || mutual_server(&files, &allowed()).unwrap();
    let (address, _, slot) = serve_replaceable(server()).await;
    let soon = time::OffsetDateTime::now_utc() + time::Duration::seconds(2);
    let client = ca.issue_until(&[SIGNER_API], CLIENT, soon);
    let connector = mutual_client(&client, COSIGNER).unwrap();
    let connected = connect(address, connector.clone()).await;
    call_on(&connected).await.unwrap();
    let until = Authority::ends(&client);
    while call(address, connector.clone()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        assert!(now < until + 20, "it is still let in");
    }
    slot.replace(server());
    call_on(&connected).await.unwrap();
}

#[tokio::test]
async fn a_client_shows_its_new_certificate_from_the_next_connection_on() {
    let ca = Authority::new();
    let server = ca.issue(&[COSIGNER], SERVER);
    let (address, called) = serve(mutual_server(&server, &allowed()).unwrap()).await;
    let connector = mutual_client(&ca.issue(&[SIGNER_API], CLIENT), COSIGNER).unwrap();
    assert_eq!(connector.server_not_after(), None);
    let open = connect(address, connector.clone()).await;
    call_on(&open).await.unwrap();
    assert_eq!(connector.server_not_after(), Some(Authority::ends(&server)));
    connector.replace(&mutual_client(&ca.issue(&["operator"], CLIENT), COSIGNER).unwrap());
    call_on(&open).await.unwrap();
    call(address, connector).await.unwrap();
    assert_eq!(called.sans(), [[SIGNER_API], [SIGNER_API], ["operator"]]);
}

#[tokio::test]
async fn a_session_of_before_is_not_resumed_after() {
    let ca = Authority::new();
    let files = ca.issue(&[COSIGNER], SERVER);
    let (address, _, slot) = serve_replaceable(mutual_server(&files, &allowed()).unwrap()).await;
    let own = ca.issue(&[SIGNER_API], CLIENT);
    let mut resuming = ClientConfig::clone(&outsider(&ca, &TLS13, Some(own)).config());
    resuming.resumption = Resumption::in_memory_sessions(16);
    let name = ServerName::try_from(COSIGNER).unwrap();
    let connector = Connector::new(resuming, name);
    call(address, connector.clone()).await.unwrap();
    slot.replace(mutual_server(&files, &only("operator")).unwrap());
    call(address, connector).await.unwrap_err();
}
