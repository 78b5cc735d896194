//! The whole relay between real sockets, with any traffic: sizes, pauses, ends and aborts as they come.

use proptest::prelude::ProptestConfig;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prelude::prop_assert;
use proptest::prelude::prop_assert_eq;
use proptest::proptest;
use proptest::test_runner::TestCaseError;
use tokio::io::AsyncRead;
use tokio::io::ReadHalf;
use tokio::io::WriteHalf;
use tokio::io::split;

use super::*;

/// What one side does: what it writes, how much at a time, how often it pauses, and how it ends.
#[derive(Clone, Debug)]
struct Side {
    bytes: usize,
    writes: usize,
    reads: usize,
    pause_every: usize,
    /// Waits for the other side's end before it says its own.
    hears_out: bool,
}

fn side() -> impl Strategy<Value = Side> {
    (0..400_000_usize, 1..60_000_usize, 1..60_000_usize, 1..9_usize, any::<bool>()).prop_map(
        |(bytes, writes, reads, pause_every, hears_out)| Side {
            bytes,
            writes,
            reads,
            pause_every,
            hears_out,
        },
    )
}

/// Another stream for each seed; a byte that is lost, doubled or moved shows.
fn stream(seed: u8, length: usize) -> Vec<u8> {
    let mixed =
        |at: usize| at.to_le_bytes()[..3].iter().fold(seed, |mix, byte| mix.rotate_left(3) ^ byte);
    (0..length).map(mixed).collect()
}

async fn speak<S: AsyncWrite>(mut to: WriteHalf<S>, side: &Side, seed: u8) -> WriteHalf<S> {
    for (number, bytes) in stream(seed, side.bytes).chunks(side.writes).enumerate() {
        to.write_all(bytes).await.unwrap();
        if number % side.pause_every == 0 {
            to.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    to.flush().await.unwrap();
    to
}

async fn hear<S: AsyncRead>(mut from: ReadHalf<S>, side: &Side) -> Vec<u8> {
    let (mut heard, mut space) = (Vec::new(), vec![0; side.reads]);
    loop {
        match from.read(&mut space).await.unwrap() {
            0 => return heard,
            length => heard.extend_from_slice(&space[..length]),
        }
        if heard.len() % side.pause_every == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Speaks and hears until both directions have ended.
async fn converse<S: AsyncRead + AsyncWrite>(on: S, side: Side, seed: u8) -> Vec<u8> {
    let (from, to) = split(on);
    if side.hears_out {
        let (mut to, heard) = tokio::join!(speak(to, &side, seed), hear(from, &side));
        to.shutdown().await.unwrap();
        return heard;
    }
    let speaking = async {
        let mut to = speak(to, &side, seed).await;
        to.shutdown().await.unwrap();
        to
    };
    tokio::join!(speaking, hear(from, &side)).1
}

/// What either side heard.
async fn conversation(kernel_side: Side, server_side: Side) -> Result<(), TestCaseError> {
    let Between { kernel, server, running, buffers, .. } = between().await;
    let (called, replied) = (kernel_side.bytes, server_side.bytes);
    let both =
        async { tokio::join!(converse(kernel, kernel_side, 1), converse(server, server_side, 2)) };
    let (at_kernel, at_server) = timeout(DEADLINE, both).await.expect("both have ended");
    prop_assert!(at_server == stream(1, called), "{} of {called} bytes", at_server.len());
    prop_assert!(at_kernel == stream(2, replied), "{} of {replied} bytes", at_kernel.len());
    let (result, total) = ended(running).await;
    prop_assert!(matches!(result, Ok(Relayed::Whole)), "{result:?}");
    prop_assert_eq!(total, (called + replied) as u64);
    prop_assert_eq!(buffers.out(), 0);
    Ok(())
}

/// One side is gone after so many bytes; what the other one has heard is the beginning of what was said.
async fn abort(kernel_aborts: bool, reset: bool, before: usize) -> Result<(), TestCaseError> {
    let Between { kernel, server, running, buffers, .. } = between().await;
    let linger = reset.then_some(Duration::ZERO);
    let (kernel_from, kernel_to) = split(kernel);
    let (server_from, server_to) = split(server);
    let said = Side { bytes: before, writes: 7000, reads: 9000, pause_every: 3, hears_out: false };
    let heard = if kernel_aborts {
        let kernel = kernel_from.unsplit(speak(kernel_to, &said, 3).await);
        SockRef::from(&kernel).set_linger(linger).unwrap();
        drop(kernel);
        let heard = heard_until_lost(server_from).await;
        drop(server_to);
        heard
    } else {
        let (server, _) = server_from.unsplit(speak(server_to, &said, 3).await).into_inner();
        SockRef::from(&server).set_linger(linger).unwrap();
        drop(server);
        heard_until_lost(kernel_from).await
    };
    prop_assert!(stream(3, before).starts_with(&heard));
    // A kernel that closes is at its end; a server has to say so inside of TLS.
    let (result, _) = ended(running).await;
    prop_assert!(kernel_aborts || result.is_err(), "{result:?}");
    prop_assert_eq!(buffers.out(), 0);
    Ok(())
}

async fn heard_until_lost<S: AsyncRead>(mut from: ReadHalf<S>) -> Vec<u8> {
    let (mut heard, mut space) = (Vec::new(), vec![0; 5000]);
    let hearing = async {
        while let Ok(length @ 1..) = from.read(&mut space).await {
            heard.extend_from_slice(&space[..length]);
        }
    };
    timeout(DEADLINE, hearing).await.expect("the end is handed on");
    heard
}

fn run(body: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_goes_in_on_one_side_comes_out_on_the_other_whatever_both_do(
        kernel in side(),
        server in side(),
    ) {
        // Who waits for the other's end waits in vain if the other one does too.
        let server = Side { hears_out: server.hears_out && !kernel.hears_out, ..server };
        run(conversation(kernel, server))?;
    }

    #[test]
    fn a_side_that_is_gone_in_the_middle_leaves_a_beginning_and_no_buffer(
        kernel_aborts: bool,
        reset: bool,
        before in 0..150_000_usize,
    ) {
        run(abort(kernel_aborts, reset, before))?;
    }
}
