//! Open sockets on their way to another process: SCM_RIGHTS over a Unix stream (unix(7)).
//!
//! A parcel is one blank with sockets attached, so that text may travel on the same stream, before it and after. What
//! arrives is a second descriptor of the same socket: the socket lives until both are closed, and whoever connects
//! meanwhile waits in its one queue.

use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::cmsg_space;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::recvmsg;
use rustix::net::sendmsg;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// How many sockets one parcel holds. The kernel allows 253 (include/net/scm.h, SCM_MAX_FD).
const AT_ONCE: usize = 64;
const BLANK: &[u8] = b" ";
/// Of text, with each look.
const TEXT_AT_ONCE: usize = 4096;

/// Sends a descriptor of each socket. Ours may be closed after.
///
/// # Errors
/// When the other end is gone, or too many descriptors of this user are under way.
pub async fn send(stream: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    for parcel in sockets.chunks(AT_ONCE) {
        let parcel: Vec<BorrowedFd<'_>> = parcel.iter().map(AsFd::as_fd).collect();
        stream.async_io(Interest::WRITABLE, || send_one(stream, &parcel)).await?;
    }
    Ok(())
}

/// Sends text.
///
/// # Errors
/// When the other end is gone.
pub async fn send_text(stream: &UnixStream, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        let sent = stream.async_io(Interest::WRITABLE, || stream.try_write(text)).await?;
        text = text.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Waits for more, and adds it to `text` and `sockets`. Answers whether anything came; nothing is the end.
///
/// # Errors
/// When the stream fails, or descriptors were lost because this process may not have so many.
pub async fn receive(
    stream: &UnixStream,
    text: &mut Vec<u8>,
    sockets: &mut Vec<OwnedFd>,
) -> io::Result<bool> {
    stream.async_io(Interest::READABLE, || receive_once(stream, text, sockets)).await
}

fn send_one(stream: &UnixStream, parcel: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(parcel)) {
        return Err(io::Error::other("too many sockets for one parcel"));
    }
    sendmsg(stream, &[IoSlice::new(BLANK)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_once(
    stream: &UnixStream,
    text: &mut Vec<u8>,
    sockets: &mut Vec<OwnedFd>,
) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut piece = [0; TEXT_AT_ONCE];
    let mut into = [IoSliceMut::new(&mut piece)];
    // A child that is just being started must not get a copy of a listening socket.
    let received = recvmsg(stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            sockets.extend(arrived);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("sockets were lost: the limit of descriptors is reached"));
    }
    text.extend(piece.get(..received.bytes).unwrap_or_default());
    Ok(received.bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::net::TcpStream;

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[tokio::test]
    async fn a_socket_that_was_sent_listens_on_when_its_sender_has_closed_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sent = listener();
        let address = sent.local_addr().unwrap();
        send(&ours, &[sent.into()]).await.unwrap();
        let _waits = TcpStream::connect(address).unwrap();

        let (mut text, mut sockets) = (Vec::new(), Vec::new());
        assert!(receive(&theirs, &mut text, &mut sockets).await.unwrap());
        let received = TcpListener::from(sockets.pop().unwrap());
        assert_eq!(received.local_addr().unwrap(), address);
        received.accept().unwrap();
    }

    #[tokio::test]
    async fn more_sockets_than_a_parcel_holds_arrive_with_the_text_behind_them() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sent: Vec<OwnedFd> = (0..=AT_ONCE).map(|_| listener().into()).collect();
        send(&ours, &sent).await.unwrap();
        send_text(&ours, b"[]\n").await.unwrap();
        drop(ours);
        let (mut text, mut sockets) = (Vec::new(), Vec::new());
        while receive(&theirs, &mut text, &mut sockets).await.unwrap() {}
        assert_eq!(sockets.len(), sent.len());
        assert_eq!(text.trim_ascii(), b"[]");
    }

    #[tokio::test]
    async fn who_is_gone_is_an_error_for_the_sender() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(send(&ours, &[listener().into()]).await.is_err());
        assert!(send_text(&ours, b"[]\n").await.is_err());
    }
}
