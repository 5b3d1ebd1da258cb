use super::*;

/// Longer than anything on this machine, and not long.
const SILENCE: Duration = Duration::from_millis(400);

/// What a caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Its bytes come back.
    Echo,
    /// One of them does, in this time.
    OneByte,
    /// Nothing, and no end.
    Silence,
    /// The end.
    Reset,
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                tokio::io::copy(&mut reads, &mut writes).await
            });
        }
    });
    address
}

async fn connect(proxy: &Proxy) -> io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", proxy.port())).await
}

async fn ask(stream: &mut TcpStream) -> Seen {
    let mut seen = Vec::new();
    let asking = async {
        stream.write_all(b"abc").await?;
        while seen.len() < 3 {
            if stream.read_buf(&mut seen).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        io::Result::Ok(())
    };
    match (timeout(SILENCE * 3, asking).await, seen.len()) {
        (Ok(Ok(())), _) => Seen::Echo,
        (Ok(Err(_)), _) => Seen::Reset,
        (Err(_), 0) => Seen::Silence,
        (Err(_), _) => Seen::OneByte,
    }
}

async fn ask_anew(proxy: &Proxy) -> Seen {
    match connect(proxy).await {
        Ok(mut stream) => ask(&mut stream).await,
        Err(_) => Seen::Reset,
    }
}

#[tokio::test]
async fn connections_old_and_new_see_what_the_switches_say_and_what_is_left_of_it() {
    let target = echo().await;
    let checks = [
        // While it lasts, of an old connection and a new one; afterwards, of the old one.
        (Fault::Pass, Seen::Echo, Seen::Echo, Seen::Echo),
        (Fault::Delay(SILENCE), Seen::Echo, Seen::Echo, Seen::Echo),
        (Fault::Hold, Seen::Silence, Seen::Silence, Seen::Echo),
        (Fault::Drop, Seen::Silence, Seen::Silence, Seen::Reset),
        (Fault::Stall, Seen::Silence, Seen::Silence, Seen::Silence),
        (Fault::HalfOpen, Seen::Silence, Seen::Silence, Seen::Silence),
        (Fault::Reset, Seen::Reset, Seen::Reset, Seen::Reset),
        (Fault::Refuse, Seen::Reset, Seen::Reset, Seen::Reset),
    ];
    for (fault, old, new, after) in checks {
        let proxy = Proxy::start(target).await;
        let mut stream = connect(&proxy).await.unwrap();
        assert_eq!(ask(&mut stream).await, Seen::Echo, "{fault:?}");
        proxy.set(fault);
        let began = Instant::now();
        assert_eq!(ask(&mut stream).await, old, "{fault:?}");
        let is_delayed = matches!(fault, Fault::Delay(_));
        assert!(!is_delayed || began.elapsed() >= SILENCE * 2);
        assert_eq!(ask_anew(&proxy).await, new, "{fault:?}");
        proxy.heal();
        assert_eq!(ask(&mut stream).await, after, "{fault:?}");
        let began = Instant::now();
        while ask_anew(&proxy).await != Seen::Echo {
            assert!(began.elapsed() < Duration::from_secs(10), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_trickle_is_one_byte_a_second() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = connect(&proxy).await.unwrap();
    proxy.set_way(Way::Down, Fault::Trickle);
    assert_eq!(ask(&mut stream).await, Seen::OneByte);
}

#[tokio::test]
async fn moments_come_at_the_bytes_that_they_wait_for() {
    let target = echo().await;
    for (trigger, held) in [
        (Trigger::after(1), Way::Up),
        (Trigger::before(b"bc"), Way::Up),
        (Trigger::behind(b"bc"), Way::Down),
        (Trigger::behind_large(3, 2), Way::Down),
    ] {
        let proxy = Proxy::start(target).await;
        let mut stream = connect(&proxy).await.unwrap();
        proxy.when(Way::Up, trigger, &[(held, Fault::Hold)]);
        let mut asked = 0;
        while ask(&mut stream).await == Seen::Echo {
            asked += 1;
            assert!(asked < 3, "the moment does not come");
        }
        assert!(proxy.has_struck(SILENCE).await && proxy.holds(held, SILENCE).await);
        // What was held goes on.
        proxy.heal();
        let mut rest = Vec::new();
        while rest.is_empty() {
            stream.read_buf(&mut rest).await.unwrap();
        }
    }
}
