//! The whole relay between real sockets; [`any_cut`] has its directions without them, [`any_traffic`] anything that
//! both sides may do.

mod any_cut;
mod any_traffic;

use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::CipherSuite;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::handshake::shake_hands;
use crate::tls::test_peer::NAME;
use crate::tls::test_peer::configs;

use super::*;

const SUITE: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
const DEADLINE: Duration = Duration::from_secs(20);

/// A relay between a client in the place of the kernel and rustls' server.
struct Between {
    kernel: TcpStream,
    server: TlsStream<TcpStream>,
    running: JoinHandle<(Result<Relayed, RelayFault>, u64)>,
    buffers: Buffers,
    drain: CancellationToken,
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

async fn between() -> Between {
    let (kernel, near) = tcp_pair().await;
    let (mut far, server) = tcp_pair().await;
    let configs = configs(SUITE);
    let (session, server) = tokio::join!(
        shake_hands(Arc::clone(&configs.client), NAME.try_into().unwrap(), &mut far),
        TlsAcceptor::from(configs.server).accept(server)
    );
    let buffers = Buffers::default();
    let (shelf, drain) = (buffers.clone(), CancellationToken::new());
    let drained = drain.clone();
    let running = tokio::spawn(async move {
        let traffic = Traffic::default();
        let ended = in_place(near, far, session.unwrap().0, &shelf, &traffic, &drained).await;
        (ended, traffic.total())
    });
    Between { kernel, server: server.unwrap(), running, buffers, drain }
}

async fn ended(
    running: JoinHandle<(Result<Relayed, RelayFault>, u64)>,
) -> (Result<Relayed, RelayFault>, u64) {
    timeout(DEADLINE, running).await.expect("the relay ends").unwrap()
}

#[tokio::test]
async fn an_end_is_handed_on_while_the_other_direction_goes_on() {
    let Between { mut kernel, mut server, running, .. } = between().await;
    kernel.write_all(b"call").await.unwrap();
    kernel.shutdown().await.unwrap();
    let mut asked = String::new();
    server.read_to_string(&mut asked).await.unwrap();
    server.write_all(b"reply").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answered = String::new();
    kernel.read_to_string(&mut answered).await.unwrap();
    assert_eq!((asked.as_str(), answered.as_str()), ("call", "reply"));
    let (result, total) = ended(running).await;
    assert!(matches!(result, Ok(Relayed::Whole)), "{result:?}");
    assert_eq!(total, 9);
}

#[tokio::test]
async fn the_server_s_end_is_handed_on_first_as_well() {
    let Between { mut kernel, mut server, running, .. } = between().await;
    server.write_all(b"goodbye").await.unwrap();
    server.shutdown().await.unwrap();
    let mut said = String::new();
    kernel.read_to_string(&mut said).await.unwrap();
    kernel.write_all(b"late").await.unwrap();
    kernel.shutdown().await.unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).await.unwrap();
    assert_eq!((said.as_str(), heard.as_str()), ("goodbye", "late"));
    assert!(matches!(ended(running).await.0, Ok(Relayed::Whole)));
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_connection_ends_after_a_while() {
    let Between { mut kernel, server: _server, running, .. } = between().await;
    kernel.shutdown().await.unwrap();
    let (result, _) = running.await.unwrap();
    assert!(matches!(result, Err(RelayFault::HalfClosed)), "{result:?}");
}

#[tokio::test]
async fn a_side_that_reads_nothing_stops_our_reading_and_costs_one_buffer() {
    let Between { mut kernel, mut server, running, buffers, .. } = between().await;
    while let Ok(written) = timeout(Duration::from_millis(300), kernel.write(&[0; 1 << 16])).await {
        written.unwrap();
    }
    assert_eq!(buffers.out(), 1);
    while let Ok(written) = timeout(Duration::from_millis(300), server.write(&[0; 1 << 14])).await {
        written.unwrap();
    }
    assert_eq!(buffers.out(), 2);
    drop(kernel);
    let (result, _) = ended(running).await;
    assert!(result.is_err(), "what was under way is lost");
    assert_eq!(buffers.out(), 0);
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let Between { mut kernel, mut server, running: _running, buffers, .. } = between().await;
    kernel.write_all(b"call").await.unwrap();
    server.read_exact(&mut [0; 4]).await.unwrap();
    server.write_all(b"reply").await.unwrap();
    server.flush().await.unwrap();
    kernel.read_exact(&mut [0; 5]).await.unwrap();
    let idle = async {
        while buffers.out() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, idle).await.expect("all buffers come back");
}

#[tokio::test]
async fn a_server_that_hangs_up_without_a_word_may_have_had_more_to_say() {
    let Between { kernel: _kernel, server, running, .. } = between().await;
    drop(server.into_inner().0);
    let (result, _) = ended(running).await;
    assert!(matches!(result, Err(RelayFault::Truncated)), "{result:?}");
}

#[tokio::test]
async fn a_reset_from_either_side_ends_the_connection_and_names_the_side() {
    let reset = |stream: TcpStream| SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    let Between { kernel, server: _server, running, .. } = between().await;
    reset(kernel).unwrap();
    let (result, _) = ended(running).await;
    assert!(matches!(result, Err(RelayFault::Kernel(_))), "{result:?}");
    let Between { kernel: _kernel, server, running, .. } = between().await;
    reset(server.into_inner().0).unwrap();
    let (result, _) = ended(running).await;
    assert!(matches!(result, Err(RelayFault::Server(_))), "{result:?}");
}

#[tokio::test]
async fn a_server_that_stops_speaking_tls_is_told_so_and_left() {
    let Between { kernel: mut kernel_end, server, running, .. } = between().await;
    let (mut raw, mut session) = server.into_inner();
    raw.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let (result, _) = ended(running).await;
    assert!(matches!(result, Err(RelayFault::Session(_))), "{result:?}");
    let mut wire = Vec::new();
    raw.read_to_end(&mut wire).await.unwrap();
    session.read_tls(&mut wire.as_slice()).unwrap();
    let told = session.process_new_packets().unwrap_err();
    assert!(matches!(told, rustls::Error::AlertReceived(_)), "{told:?}");
    assert_eq!(kernel_end.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_survive_both_ways_at_once() {
    const SIZE: usize = 8 << 20;
    let Between { kernel, server, running, .. } = between().await;
    let noise: Vec<u8> = (0..SIZE).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[2]).collect();
    let (mut kernel_reads, mut kernel_writes) = tokio::io::split(kernel);
    let (mut server_reads, mut server_writes) = tokio::io::split(server);
    let (up, down) = (noise.clone(), noise.clone());
    let sending = async move {
        kernel_writes.write_all(&up).await.unwrap();
        kernel_writes.shutdown().await.unwrap();
    };
    let answering = async move {
        server_writes.write_all(&down).await.unwrap();
        server_writes.shutdown().await.unwrap();
    };
    let (mut at_server, mut at_kernel) = (Vec::new(), Vec::new());
    let (_, _, asked, answered) = tokio::join!(
        tokio::spawn(sending),
        tokio::spawn(answering),
        server_reads.read_to_end(&mut at_server),
        kernel_reads.read_to_end(&mut at_kernel)
    );
    asked.unwrap();
    answered.unwrap();
    assert!(at_server == noise && at_kernel == noise);
    let (result, total) = ended(running).await;
    assert!(matches!(result, Ok(Relayed::Whole)), "{result:?}");
    assert_eq!(total, 2 * SIZE as u64);
}

/// Answers each call of eight bytes with a reply of twelve, in the order of the calls, until the client leaves.
async fn answer_calls(mut server: TlsStream<TcpStream>) -> usize {
    let (mut call, mut answered) = ([0; 8], 0);
    while server.read_exact(&mut call).await.is_ok() {
        let [_, _, _, _, number @ ..] = call;
        // The reply may be late, and in two fragments.
        tokio::task::yield_now().await;
        let reply = [0, 0, 0, 2, number[0], number[1], 0x80, 0, 0, 2, number[2], number[3]];
        server.write_all(&reply).await.unwrap();
        server.flush().await.unwrap();
        answered += 1;
    }
    let _ = server.shutdown().await;
    answered
}

#[tokio::test]
async fn a_worn_session_is_replaced_between_two_calls_and_no_call_is_lost() {
    const CALLS: u32 = 400;
    let configs = configs(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    let (kernel, near) = tcp_pair().await;
    let running = tokio::spawn(async move {
        let (mut kernel, mut answered, mut servers) = (near, Vec::new(), Vec::new());
        loop {
            let (mut far, server) = tcp_pair().await;
            let (session, server) = tokio::join!(
                shake_hands(Arc::clone(&configs.client), NAME.try_into().unwrap(), &mut far),
                TlsAcceptor::from(Arc::clone(&configs.server)).accept(server)
            );
            let (mut session, _) = session.unwrap();
            session.records.limit_records(40);
            servers.push(tokio::spawn(answer_calls(server.unwrap())));
            let (buffers, traffic) = (Buffers::default(), Traffic::default());
            let never = CancellationToken::new();
            let ended = in_place(kernel, far, session, &buffers, &traffic, &never).await;
            match ended.unwrap() {
                Relayed::WornOut(still_open) => kernel = still_open,
                Relayed::Whole => break,
            }
        }
        for server in servers {
            answered.push(server.await.unwrap());
        }
        answered
    });
    let mut kernel = kernel;
    for number in 0..CALLS {
        let call = [0x8000_0004, number].map(u32::to_be_bytes).concat();
        // Cut, so that the session wears out in the middle of a call as well.
        let (front, back) = call.split_at(number as usize % 8);
        kernel.write_all(front).await.unwrap();
        tokio::task::yield_now().await;
        kernel.write_all(back).await.unwrap();
        // Two are outstanding at a time.
        if let Some(earlier) = number.checked_sub(1) {
            assert_eq!(reply_number(&mut kernel).await, earlier);
        }
    }
    assert_eq!(reply_number(&mut kernel).await, CALLS - 1);
    drop(kernel);
    let answered = timeout(DEADLINE, running).await.unwrap().unwrap();
    assert_eq!(answered.iter().sum::<usize>(), CALLS as usize);
    assert!(answered.len() > 3, "{answered:?}");
}

const CALL: [u8; 8] = [0x80, 0, 0, 4, 0, 0, 0, 1];
const REPLY: [u8; 6] = [0x80, 0, 0, 2, 0, 1];

#[tokio::test]
async fn a_drained_connection_ends_between_two_calls_at_once() {
    let Between { mut kernel, mut server, running, drain, .. } = between().await;
    kernel.write_all(&CALL).await.unwrap();
    server.read_exact(&mut [0; 8]).await.unwrap();
    server.write_all(&REPLY).await.unwrap();
    server.flush().await.unwrap();
    kernel.read_exact(&mut [0; 6]).await.unwrap();
    drain.cancel();
    assert_eq!(timeout(DEADLINE, kernel.read(&mut [0])).await.unwrap().unwrap(), 0);
    drop(kernel);
    assert_eq!(timeout(DEADLINE, server.read(&mut [0])).await.unwrap().unwrap(), 0);
    assert!(matches!(ended(running).await.0, Ok(Relayed::Whole)));
}

#[tokio::test]
async fn a_drained_connection_gets_the_replies_that_are_due_and_takes_no_further_call() {
    let Between { mut kernel, mut server, running, drain, .. } = between().await;
    // Two calls, the second of which has only begun.
    kernel.write_all(&CALL).await.unwrap();
    kernel.write_all(&CALL[..6]).await.unwrap();
    server.read_exact(&mut [0; 14]).await.unwrap();
    drain.cancel();
    // Far longer than what counted as silence.
    assert!(timeout(3 * SILENCE, kernel.read(&mut [0])).await.is_err(), "a reply is due");
    kernel.write_all(&CALL[6..]).await.unwrap();
    server.read_exact(&mut [0; 2]).await.unwrap();
    kernel.write_all(&CALL).await.unwrap();
    for _ in 0..2 {
        server.write_all(&REPLY).await.unwrap();
        server.flush().await.unwrap();
    }
    let mut replies = Vec::new();
    timeout(DEADLINE, kernel.read_to_end(&mut replies)).await.unwrap().unwrap();
    assert_eq!(replies, [REPLY, REPLY].concat());
    drop(kernel);
    let mut further = Vec::new();
    timeout(DEADLINE, server.read_to_end(&mut further)).await.unwrap().unwrap();
    assert!(further.is_empty(), "a call was taken that gets no reply");
    assert!(matches!(ended(running).await.0, Ok(Relayed::Whole)));
}

#[tokio::test]
async fn a_drained_connection_that_carries_no_calls_ends_once_it_is_silent() {
    let Between { mut kernel, mut server, running, drain, .. } = between().await;
    kernel.write_all(b"no nfs").await.unwrap();
    server.read_exact(&mut [0; 6]).await.unwrap();
    drain.cancel();
    assert_eq!(timeout(DEADLINE, kernel.read(&mut [0])).await.unwrap().unwrap(), 0);
    drop(kernel);
    assert!(matches!(ended(running).await.0, Ok(Relayed::Whole)));
}

async fn reply_number(kernel: &mut TcpStream) -> u32 {
    let mut reply = [0; 12];
    timeout(DEADLINE, kernel.read_exact(&mut reply)).await.expect("a reply").unwrap();
    u32::from_be_bytes([reply[4], reply[5], reply[10], reply[11]])
}
