//! Faults of either side of a tunnel: none ends the process, none reaches another tunnel, and each is said once.
//!
//! The servers are stunnel's and nginx'; what stands between them and the tunnel is ours, and does the damage.

use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;

use e2e::nginx::Nginx;
use e2e::tls_lab;
use e2e::tls_lab::ANY_PORT;
use e2e::tls_lab::DEADLINE;
use e2e::tls_lab::Lab;
use e2e::tls_lab::TLS_1_2;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::echo;
use e2e::tls_lab::echoed;
use e2e::tls_lab::noise;
use e2e::tls_lab::open;
use e2e::tls_lab::spec;
use e2e::tunnel_program::Tunnel;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio::time::timeout;

/// What is done to the bytes of the server on their way to the tunnel.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// After so many bytes, a reset.
    Reset(usize),
    /// After so many bytes, the end of the stream without a goodbye.
    End(usize),
    /// The byte at this place is another one.
    Flip(usize),
}

/// Forwards to a server, damaging what comes back.
async fn damaged(server: u16, damage: Damage) -> u16 {
    tls_lab::backend(move |tunnel: TcpStream| async move {
        let Ok(server) = TcpStream::connect((*ANY_PORT.ip(), server)).await else { return };
        let (mut from_server, mut to_server) = server.into_split();
        let (mut from_tunnel, mut to_tunnel) = tunnel.into_split();
        let up = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut from_tunnel, &mut to_server).await;
        });
        let mut passed = 0;
        let mut chunk = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
            let here = &mut chunk[..length];
            match damage {
                Damage::Flip(place) if (passed..passed + length).contains(&place) => {
                    here[place - passed] ^= 0x20;
                }
                Damage::Reset(place) | Damage::End(place) if passed + length > place => {
                    let _ = to_tunnel.write_all(&here[..place - passed]).await;
                    break;
                }
                _ => {}
            }
            passed += length;
            if to_tunnel.write_all(here).await.is_err() {
                break;
            }
        }
        if matches!(damage, Damage::Reset(_)) {
            let _ =
                rustix::net::sockopt::set_socket_linger(to_tunnel.as_ref(), Some(Duration::ZERO));
        }
        up.abort();
    })
    .await
}

#[tokio::test]
async fn a_stream_that_is_cut_or_altered_anywhere_ends_that_connection_and_nothing_else() {
    let lab = Lab::new();
    let backend = echo().await;
    for options in [TLS_1_3, TLS_1_2] {
        let server = lab.server(options, backend);
        let process = lab.process();
        let sound = open(&process, &spec(server.port));
        let mut connections = Vec::new();
        // In the middle of the handshake, in the first records of data, in the middle of much data.
        for place in [0, 3, 700, 2_500, 5_000, 300_000] {
            for damage in [Damage::Reset(place), Damage::End(place), Damage::Flip(place)] {
                let hostile = open(&process, &spec(damaged(server.port, damage).await));
                connections.push(tokio::spawn(async move {
                    // While the mount target cannot be reached, the connection is held.
                    let received = timeout(Duration::from_secs(4), echoed(hostile, noise()));
                    (damage, received.await.unwrap_or_default())
                }));
            }
        }
        for connection in connections {
            let (damage, received) = connection.await.unwrap();
            assert!(received.len() < noise().len(), "{damage:?}: everything came back");
            assert!(noise().starts_with(&received), "{damage:?}: altered bytes came through");
        }
        assert!(echoed(sound, noise()).await == noise(), "another tunnel has suffered");
    }
}

#[tokio::test]
async fn a_server_that_answers_a_byte_at_a_time_is_given_up_and_delays_nobody() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, echo().await);
    let port = server.port;
    let drip = tls_lab::backend(move |mut tunnel: TcpStream| async move {
        let Ok(mut server) = TcpStream::connect((*ANY_PORT.ip(), port)).await else { return };
        let mut greeting = vec![0; 4096];
        let length = tunnel.read(&mut greeting).await.unwrap_or(0);
        let _ = server.write_all(&greeting[..length]).await;
        while let Ok(byte) = server.read_u8().await {
            if tunnel.write_u8(byte).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let process = lab.process();
    let slow = open(&process, &spec(drip));
    let sound = open(&process, &spec(port));
    let _waits = TcpStream::connect(slow).await.unwrap();
    assert!(timeout(DEADLINE, echoed(sound, noise())).await.unwrap() == noise());
    let given_up = async {
        loop {
            let error =
                process.status().iter().map(|tunnel| tunnel.last_error.clone()).collect::<String>();
            if !error.is_empty() {
                return error;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let error = timeout(DEADLINE, given_up).await.expect("it is given up");
    assert!(error.contains("TLS") && error.contains("5 s"), "{error}");
}

#[tokio::test]
async fn tunnels_side_by_side_never_mix_their_bytes() {
    let lab = Lab::new();
    let process = lab.process();
    let mut servers = Vec::new();
    let mut connections = Vec::new();
    for number in 0..8_u8 {
        // Each server puts its number in front, so that an echo of another tunnel would show.
        let numbered = tls_lab::backend(move |mut stream: TcpStream| async move {
            let _ = stream.write_u8(number).await;
            let (mut reads, mut writes) = stream.split();
            let _ = tokio::io::copy(&mut reads, &mut writes).await;
        })
        .await;
        let server = lab.server(if number % 2 == 0 { TLS_1_3 } else { TLS_1_2 }, numbered);
        let address = open(&process, &spec(server.port));
        servers.push(server);
        for connection in 0..4_u8 {
            connections.push(tokio::spawn(async move {
                let sent = vec![number * 16 + connection; 200_000 + usize::from(connection)];
                let received = echoed(address, sent.clone()).await;
                (number, sent, received)
            }));
        }
    }
    for connection in connections {
        let (number, sent, received) = timeout(DEADLINE, connection).await.unwrap().unwrap();
        assert_eq!(received.first(), Some(&number));
        assert!(received[1..] == sent, "the bytes of tunnel {number} are others");
    }
}

#[tokio::test]
async fn a_certificate_that_goes_bad_under_a_live_connection_stops_only_new_ones() {
    let lab = Lab::new();
    let backend = echo().await;
    let stranger = Lab::new();
    let (good, bad) = (lab.server(TLS_1_3, backend), stranger.server(TLS_1_3, backend));
    // A server of the field takes up a new certificate for new connections; here, a switch does.
    let behind = Arc::new(AtomicU16::new(good.port));
    let switch = Arc::clone(&behind);
    let port = tls_lab::backend(move |mut tunnel: TcpStream| {
        let port = switch.load(Ordering::Relaxed);
        async move {
            let Ok(mut server) = TcpStream::connect((*ANY_PORT.ip(), port)).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut tunnel, &mut server).await;
        }
    })
    .await;
    let process = lab.process();
    let address = open(&process, &spec(port));
    let mut live = TcpStream::connect(address).await.unwrap();
    pings(&mut live).await;
    behind.store(bad.port, Ordering::Relaxed);
    let mut new = TcpStream::connect(address).await.unwrap();
    let answered = timeout(Duration::from_secs(3), async {
        new.write_all(b"ping").await?;
        new.read_u32().await
    });
    assert!(!matches!(answered.await, Ok(Ok(_))), "a stranger's certificate was accepted");
    pings(&mut live).await;
}

async fn pings(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn without_descriptors_connections_wait_and_come_in_as_soon_as_there_are_some() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, echo().await);
    // Room for itself and for some ten connections.
    let tunnel = Tunnel::start(&lab, server.port, "any", Some(64));
    let mut served = Vec::new();
    loop {
        let mut stream = TcpStream::connect(tunnel.address).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        match timeout(Duration::from_secs(2), stream.read_u32()).await {
            Ok(Ok(_)) => served.push(stream),
            Ok(Err(error)) => panic!("closed instead of kept waiting: {error}"),
            Err(_) => {
                assert!(served.len() > 4 && served.len() < 40, "{} served", served.len());
                let half = served.len() / 2;
                served.truncate(half);
                timeout(DEADLINE, stream.read_u32()).await.expect("it comes in").unwrap();
                break;
            }
        }
    }
    for stream in &mut served {
        pings(stream).await;
    }
    let lines = tunnel.said("");
    assert!(lines.len() < 20, "{} lines", lines.len());
    let told = lines.iter().filter(|line| line.contains("Too many open files")).count();
    assert!((1..=6).contains(&told), "{lines:#?}");
}

#[tokio::test]
async fn nginx_is_a_server_like_any_other() {
    let lab = Lab::new();
    let backend = echo().await;
    let server = Nginx::start(&lab, backend).await;
    let process = lab.process();
    let address = open(&process, &spec(server.port));
    for _ in 0..3 {
        assert!(timeout(DEADLINE, echoed(address, noise())).await.unwrap() == noise());
    }
    let status = &process.status()[0];
    assert!(status.sessions_resumed >= 1, "{} of 3 sessions resumed", status.sessions_resumed);
}
