//! 100,000 connects a minute: what they leave behind, and how many a minute there really are.
//!
//! The rate is printed (`--nocapture`) and not asserted: a busy machine has another. What is asserted is that the
//! process lives, is as it was before, and says little.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use e2e::nginx::Nginx;
use e2e::tls_lab;
use e2e::tls_lab::DEADLINE;
use e2e::tls_lab::Lab;
use e2e::tls_lab::TLS_1_3;
use e2e::tls_lab::echo;
use e2e::tls_lab::echoed;
use e2e::tls_lab::noise;
use e2e::tunnel_program::Tunnel;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// At the same time.
const THREADS: usize = 4;
/// Memory that an allocator may keep.
const SLACK: usize = 4 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_connects_without_end_is_refused_in_a_few_lines_and_leaves_nothing() {
    let lab = Lab::new();
    let server = lab.server(TLS_1_3, echo().await);
    let tunnel = Tunnel::start(&lab, server.port, "kernel", None);
    storm("first refusals", tunnel.address, 400).await;
    let before = Left::by(&tunnel);
    let took = storm("refusals", tunnel.address, 10_000).await;
    before.is_what_is_left(&tunnel).await;
    let lines = tunnel.said("");
    let refusals = tunnel.said("refused a connection");
    // One for each ten seconds.
    assert!((1..=3 + took.as_secs() / 10).contains(&(refusals.len() as u64)), "{lines:#?}");
    assert!(refusals[0].contains("wire_storm") && refusals[0].contains("(pid "), "{}", refusals[0]);
    assert!(lines.len() < refusals.len() + 5, "{lines:#?}");
    storm("refusals afterwards", tunnel.address, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_up_on_thousands_is_said_to_in_a_few_lines_and_then_used_again() {
    let lab = Lab::new();
    let (sound, hangs_up) = (echo().await, Arc::new(AtomicBool::new(true)));
    let switch = Arc::clone(&hangs_up);
    let backend = tls_lab::backend(move |mut tunnel: tokio::net::TcpStream| {
        let hangs_up = switch.load(Ordering::Relaxed);
        async move {
            if !hangs_up {
                let mut server =
                    tokio::net::TcpStream::connect(("127.0.0.1", sound)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tunnel, &mut server).await;
            }
        }
    })
    .await;
    let server = Nginx::start(&lab, backend).await;
    let tunnel = Tunnel::start(&lab, server.port, "any", None);
    storm("first hang-ups", tunnel.address, 200).await;
    let before = Left::by(&tunnel);
    let took = storm("hang-ups", tunnel.address, 1_500).await;
    before.is_what_is_left(&tunnel).await;
    let lines = tunnel.said("");
    assert!(lines.len() as u64 <= 12 + took.as_secs() / 5, "{lines:#?}");
    hangs_up.store(false, Ordering::Relaxed);
    assert!(echoed(tunnel.address, noise()).await == noise());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_and_leaves_at_once_leaves_nothing_behind() {
    let lab = Lab::new();
    let server = Nginx::start(&lab, echo().await).await;
    let tunnel = Tunnel::start(&lab, server.port, "any", None);
    assert!(echoed(tunnel.address, noise()).await == noise());
    let before = Left::by(&tunnel);
    let address = tunnel.address;
    let leaving = spawn_blocking(move || {
        for number in 0..1_000 {
            let stream = TcpStream::connect(address).unwrap();
            // Half of them with a reset.
            let abort = (number % 2 == 0).then_some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(&stream, abort).unwrap();
        }
    });
    leaving.await.unwrap();
    assert!(echoed(tunnel.address, noise()).await == noise());
    before.is_what_is_left(&tunnel).await;
    assert!(tunnel.said("").len() < 20, "{:#?}", tunnel.said(""));
}

/// What a process holds while nobody is connected.
struct Left {
    resident: usize,
    descriptors: usize,
}

impl Left {
    fn by(tunnel: &Tunnel) -> Self {
        Self { resident: tunnel.resident(), descriptors: tunnel.descriptors() }
    }

    /// Connections that have ended for their clients may take a moment to end.
    async fn is_what_is_left(&self, tunnel: &Tunnel) {
        let start = Instant::now();
        loop {
            let now = Self::by(tunnel);
            if now.descriptors <= self.descriptors && now.resident < self.resident + SLACK {
                return;
            }
            let (before, after) = (self.descriptors, now.descriptors);
            assert!(start.elapsed() < DEADLINE, "{before} descriptors before, {after} after");
            let (before, after) = (self.resident, now.resident);
            assert!(start.elapsed() < DEADLINE, "{before} bytes before, {after} after");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Connects so often, says something each time and waits to be closed. Prints the rate.
async fn storm(what: &str, address: SocketAddr, connections: usize) -> Duration {
    let start = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| spawn_blocking(move || knock(address, connections / THREADS)))
        .collect();
    for thread in threads {
        thread.await.unwrap();
    }
    let took = start.elapsed();
    let rate = connections as f64 / took.as_secs_f64();
    println!("{what}: {connections} in {took:.1?}, {:.0} a minute", rate * 60.0);
    took
}

fn knock(address: SocketAddr, times: usize) {
    for number in 0..times {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(b"let me in");
        match stream.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("connection {number}: {other:?}"),
        }
    }
}
