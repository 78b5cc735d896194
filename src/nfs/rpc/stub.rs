//! Servers for tests: each does one thing, well or badly, on a port of loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::model::nfs_option::Transport;

const LOOPBACK: &str = "127.0.0.1:0";
const LAST: u32 = 1 << 31;

/// A server. It ends when dropped.
pub(crate) struct Stub {
    address: SocketAddr,
    calls: Calls,
    serving: JoinHandle<()>,
}

type Calls = Arc<Mutex<Vec<Vec<u32>>>>;

/// What a server does with a call over TCP.
enum Manner {
    /// Bytes, whatever was asked.
    Say(Vec<u8>),
    /// Replies with these words behind xid and REPLY, one set after the other, the last one for ever.
    Reply(Vec<Vec<u32>>),
    /// As above, for another transaction.
    Mistake(u32),
    /// A good reply in pieces of these lengths, and the rest.
    Pieces(Vec<usize>),
    Silence,
    Close,
}

const GOOD: [u32; 4] = [0, 0, 0, 0];

impl Stub {
    pub(crate) async fn answering(address: &str, transport: Transport) -> Self {
        Self::replying_at(address, transport, &[GOOD.to_vec()]).await
    }

    pub(crate) async fn replying(transport: Transport, words: &[u32]) -> Self {
        Self::replying_at(LOOPBACK, transport, &[words.to_vec()]).await
    }

    pub(crate) async fn replying_at(
        address: &str,
        transport: Transport,
        replies: &[Vec<u32>],
    ) -> Self {
        match transport {
            Transport::Udp => Self::datagrams(address, 0, false, replies.to_vec()).await,
            _ => Self::stream(address, Manner::Reply(replies.to_vec())).await,
        }
    }

    pub(crate) async fn saying(bytes: &[u8]) -> Self {
        Self::stream(LOOPBACK, Manner::Say(bytes.to_vec())).await
    }

    pub(crate) async fn with_xid_plus(more: u32) -> Self {
        Self::stream(LOOPBACK, Manner::Mistake(more)).await
    }

    pub(crate) async fn fragments(lengths: &[usize]) -> Self {
        Self::stream(LOOPBACK, Manner::Pieces(lengths.to_vec())).await
    }

    pub(crate) async fn closing() -> Self {
        Self::stream(LOOPBACK, Manner::Close).await
    }

    pub(crate) async fn silent(transport: Transport) -> Self {
        match transport {
            Transport::Udp => Self::answering_datagram(usize::MAX).await,
            _ => Self::stream(LOOPBACK, Manner::Silence).await,
        }
    }

    /// Does not hear the datagrams before the given one.
    pub(crate) async fn answering_datagram(number: usize) -> Self {
        Self::datagrams(LOOPBACK, number.saturating_sub(1), false, vec![GOOD.to_vec()]).await
    }

    /// First says something about another call.
    pub(crate) async fn answering_after_a_stranger() -> Self {
        Self::datagrams(LOOPBACK, 0, true, vec![GOOD.to_vec()]).await
    }

    /// A port that was open a moment ago.
    pub(crate) async fn closed_port(transport: Transport) -> SocketAddr {
        match transport {
            Transport::Udp => UdpSocket::bind(LOOPBACK).await.unwrap().local_addr().unwrap(),
            _ => TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The words of the call that came last, without a record mark.
    pub(crate) fn last_call(&self) -> Vec<u32> {
        self.calls.lock().unwrap().last().unwrap().clone()
    }

    async fn stream(address: &str, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        let seen = Arc::clone(&calls);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that hangs up ends its connection, not the server.
                let _ = serve(stream, &manner, &seen).await;
            }
        });
        Self { address, calls, serving }
    }

    async fn datagrams(
        address: &str,
        deaf_for: usize,
        stranger: bool,
        replies: Vec<Vec<u32>>,
    ) -> Self {
        let socket = UdpSocket::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let calls = Calls::default();
        let seen = Arc::clone(&calls);
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            for number in 0.. {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                if number < deaf_for {
                    continue;
                }
                let call = words_of(&buffer[..length]);
                let xid = call[0];
                seen.lock().unwrap().push(call);
                if stranger {
                    let reply = bytes_of(&[&[xid.wrapping_add(1), 1], &GOOD[..]].concat());
                    socket.send_to(&reply, client).await.unwrap();
                }
                let body = &replies[(number - deaf_for).min(replies.len() - 1)];
                let reply = bytes_of(&[&[xid, 1], &body[..]].concat());
                socket.send_to(&reply, client).await.unwrap();
            }
        });
        Self { address, calls, serving }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: TcpStream, manner: &Manner, calls: &Calls) -> std::io::Result<()> {
    for number in 0.. {
        let length = stream.read_u32().await? & !LAST;
        let mut call = vec![0; length as usize];
        stream.read_exact(&mut call).await?;
        let call = words_of(&call);
        let xid = call[0];
        calls.lock().unwrap().push(call);
        match manner {
            Manner::Say(bytes) => stream.write_all(bytes).await?,
            Manner::Reply(replies) => {
                let body = &replies[number.min(replies.len() - 1)];
                let reply = bytes_of(&[&[xid, 1], &body[..]].concat());
                write_record(&mut stream, &[&reply]).await?;
            }
            Manner::Mistake(more) => {
                let reply = bytes_of(&[&[xid.wrapping_add(*more), 1], &GOOD[..]].concat());
                write_record(&mut stream, &[&reply]).await?;
            }
            Manner::Pieces(lengths) => {
                let reply = bytes_of(&[&[xid, 1], &GOOD[..]].concat());
                let mut rest = &reply[..];
                let mut pieces = Vec::new();
                for length in lengths {
                    let (piece, behind) = rest.split_at((*length).min(rest.len()));
                    pieces.push(piece);
                    rest = behind;
                }
                pieces.push(rest);
                write_record(&mut stream, &pieces).await?;
            }
            Manner::Silence => {}
            Manner::Close => return Ok(()),
        }
    }
    Ok(())
}

async fn write_record(stream: &mut TcpStream, pieces: &[&[u8]]) -> std::io::Result<()> {
    for (place, piece) in pieces.iter().enumerate() {
        let last = if place + 1 == pieces.len() { LAST } else { 0 };
        stream.write_u32(last | u32::try_from(piece.len()).unwrap()).await?;
        stream.write_all(piece).await?;
    }
    Ok(())
}

fn words_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
