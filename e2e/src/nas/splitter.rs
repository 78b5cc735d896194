//! One port for NFS and MOUNT, as the vendor's server has it, before whichever server speaks both on two.
//!
//! The kernel uses a connection of its own for MOUNT, so the first call of a connection tells where all of
//! it goes: program 100003 to nfsd, 100005 to rpc.mountd (RFC 5531, section 9).

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::lab;
use crate::nas::Front;
use crate::nas::PORT;

/// Where a terminator leads whose clients may use the file system.
pub(super) const ALLOWED: &str = "127.0.0.1:2051";
/// Where a terminator leads whose clients may not.
pub(super) const DENIED: &str = "127.0.0.1:2066";
/// Where nobody ever answers.
pub(super) const SILENT: &str = "127.0.0.1:2070";

/// Record mark, xid, message type, RPC version, program: 4 bytes each.
pub(crate) const HEADER: usize = 20;
pub(crate) const MOUNT_PORT: u16 = MOUNT.1;

const NFS: (u32, u16) = (100_003, 2050);
const MOUNT: (u32, u16) = (100_005, 20048);

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    /// Relayed, from this address: nfsd's access rules go by it.
    Split(Ipv4Addr),
    /// Kept open, and that is all.
    Silence,
    /// Answered as by a web server.
    Foreign,
}

/// What is done at which addresses of the NAS whose server is the kernel's.
pub(super) fn services() -> Vec<(String, Service)> {
    let at_front = |front: Front, service| (format!("{}:{PORT}", front.address()), service);
    vec![
        (ALLOWED.to_owned(), Service::Split(Ipv4Addr::LOCALHOST)),
        (DENIED.to_owned(), Service::Split(Ipv4Addr::new(127, 0, 0, 66))),
        (SILENT.to_owned(), Service::Silence),
        at_front(Front::Plain, Service::Split(Ipv4Addr::LOCALHOST)),
        at_front(Front::SilentTls, Service::Silence),
        at_front(Front::Foreign, Service::Foreign),
    ]
}

/// The splitter's thread, in the network of a NAS; ends when dropped.
#[derive(Debug)]
pub(crate) struct Splitter {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Splitter {
    /// Listens in the network namespace at a path.
    pub(crate) fn start(network: &Path, services: Vec<(String, Service)>) -> Result<Self> {
        let network = network.to_owned();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            let told = ready.clone();
            let served = lab::inside_network(&network, move || serve(services, &ready, stopped));
            let _ = told.send(served);
        });
        let splitter = Self { stop: Some(stop), thread: Some(thread) };
        is_ready.recv().map_err(|_| Failure::new("the splitter ended at once"))??;
        Ok(splitter)
    }
}

impl Drop for Splitter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    services: Vec<(String, Service)>,
    ready: &mpsc::Sender<Result<()>>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for (at, service) in services {
            let listener = TcpListener::bind(&at).await.during(format!("failed to bind {at}"))?;
            tokio::spawn(accept(listener, service));
        }
        let _ = ready.send(Ok(()));
        // Ends when the sender is dropped.
        let _ = stopped.await;
        Ok(())
    })
}

async fn accept(listener: TcpListener, service: Service) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(async move {
            let _ = match service {
                Service::Split(source) => split(client, source).await,
                Service::Silence => keep(client).await,
                Service::Foreign => answer_as_web_server(client).await,
            };
        });
    }
}

async fn split(mut client: TcpStream, source: Ipv4Addr) -> Result<()> {
    let mut header = [0; HEADER];
    client.read_exact(&mut header).await?;
    let port = port_of(&header).ok_or_else(|| Failure::new("no NFS and no MOUNT"))?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let mut server = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    server.write_all(&header).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 1 << 18, 1 << 18).await?;
    Ok(())
}

pub(crate) fn port_of(header: &[u8; HEADER]) -> Option<u16> {
    const CALL: u32 = 0;
    const RPC_VERSION: u32 = 2;
    let mut words = header.chunks_exact(4).skip(2);
    let mut word = || Some(u32::from_be_bytes(words.next()?.try_into().ok()?));
    let (kind, version, program) = (word()?, word()?, word()?);
    let known = [NFS, MOUNT].into_iter().find(|(number, _)| *number == program);
    known.filter(|_| kind == CALL && version == RPC_VERSION).map(|(_, port)| port)
}

async fn answer_as_web_server(mut client: TcpStream) -> Result<()> {
    client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await?;
    client.shutdown().await?;
    keep(client).await
}

async fn keep(mut client: TcpStream) -> Result<()> {
    let mut sink = [0; 4096];
    while client.read(&mut sink).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(words: [u32; 5]) -> [u8; 20] {
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        bytes.try_into().unwrap()
    }

    #[test]
    fn the_first_call_of_a_connection_says_where_it_goes() {
        assert_eq!(port_of(&header([0x8000_0028, 7, 0, 2, 100_003])), Some(2050));
        assert_eq!(port_of(&header([0x8000_0028, 7, 0, 2, 100_005])), Some(20048));
    }

    #[test]
    fn what_is_neither_nfs_nor_mount_goes_nowhere() {
        assert_eq!(port_of(&header([0x8000_0028, 7, 0, 2, 100_000])), None, "rpcbind");
        assert_eq!(port_of(&header([0x8000_0028, 7, 1, 2, 100_003])), None, "a reply");
        assert_eq!(port_of(&header([0x1603_0100, 7, 0, 3, 100_003])), None, "no RPC");
    }
}
