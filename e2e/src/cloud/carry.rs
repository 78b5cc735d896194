//! A connection to a mount target, carried to the server whose disk it shows a folder of: what is mounted lies in it.

use std::net::Ipv4Addr;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::failure::Failure;
use crate::failure::Result;
use crate::nas::splitter::HEADER;
use crate::nas::splitter::MOUNT_PORT;
use crate::nas::splitter::port_of;

/// A MOUNT call has a path of at most 1024 bytes, and credentials of at most 400 (RFC 1813, RFC 5531).
const LONGEST_CALL: usize = 4096;
/// MNT among the procedures of MOUNT.
const MNT: u32 = 1;

/// Carries until either end closes. `root` goes before every path that is mounted.
pub(super) async fn carry(mut client: TlsStream<TcpStream>, root: &str) -> Result<()> {
    let mut header = [0; HEADER];
    client.read_exact(&mut header).await?;
    let port = port_of(&header).ok_or_else(|| Failure::new("no NFS and no MOUNT"))?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    server.set_nodelay(true)?;
    if port != MOUNT_PORT {
        server.write_all(&header).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let (from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, to_server) = server.split();
    tokio::select! {
        ended = pass_calls(from_client, header.to_vec(), to_server, root) => ended,
        ended = tokio::io::copy(&mut from_server, &mut to_client) => {
            ended?;
            Ok(())
        }
    }
}

async fn pass_calls(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut begun: Vec<u8>,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    root: &str,
) -> Result<()> {
    loop {
        let call = read_call(&mut from, std::mem::take(&mut begun)).await?;
        to.write_all(&moved(&call, root).unwrap_or(call)).await?;
    }
}

/// One record of one fragment, of which `call` has been read.
async fn read_call(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    mut call: Vec<u8>,
) -> Result<Vec<u8>> {
    if call.is_empty() {
        call = vec![0; 4];
        from.read_exact(&mut call).await?;
    }
    let length = word(&call, 0).map(|mark| (mark & 0x7fff_ffff) as usize);
    let length = length.filter(|length| *length <= LONGEST_CALL);
    let length = length.ok_or_else(|| Failure::new("no call of MOUNT is so long"))?;
    let read = call.len();
    call.resize((length + 4).max(read), 0);
    from.read_exact(&mut call[read..]).await?;
    Ok(call)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A call of MNT with `root` before its path; nothing for any other call.
///
/// Mark, xid, type, RPC version, program, version, procedure; credentials, verifier; the path (RFC 5531, section 9).
fn moved(call: &[u8], root: &str) -> Option<Vec<u8>> {
    if word(call, 24)? != MNT {
        return None;
    }
    let padded = |length: u32| (length as usize).next_multiple_of(4);
    let credentials = 28 + 8 + padded(word(call, 32)?);
    let path_at = credentials + 8 + padded(word(call, credentials + 4)?);
    let length = word(call, path_at)? as usize;
    let path = call.get(path_at + 4..path_at + 4 + length)?;
    let path = [root.as_bytes(), path.strip_suffix(b"/").unwrap_or(path)].concat();
    let mut moved = call.get(..path_at)?.to_vec();
    moved.extend(u32::try_from(path.len()).ok()?.to_be_bytes());
    moved.extend(&path);
    moved.resize(moved.len().next_multiple_of(4), 0);
    let mark = 0x8000_0000 | u32::try_from(moved.len() - 4).ok()?;
    moved[..4].copy_from_slice(&mark.to_be_bytes());
    Some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(procedure: u32, path: &[u8]) -> Vec<u8> {
        let mut call: Vec<u8> = [0, 7, 0, 2, 100_005, 3, procedure, 1, 4, 9, 0, 0]
            .into_iter()
            .flat_map(u32::to_be_bytes)
            .collect();
        call.extend(u32::try_from(path.len()).unwrap().to_be_bytes());
        call.extend(path);
        call.resize(call.len().next_multiple_of(4), 0);
        let mark = 0x8000_0000 | u32::try_from(call.len() - 4).unwrap();
        call[..4].copy_from_slice(&mark.to_be_bytes());
        call
    }

    #[test]
    fn a_path_that_is_mounted_is_looked_for_in_the_folder_of_its_file_system() {
        assert_eq!(moved(&call(MNT, b"/"), "/f/1").unwrap(), call(MNT, b"/f/1"));
        assert_eq!(moved(&call(MNT, b"/ab"), "/f/1").unwrap(), call(MNT, b"/f/1/ab"));
        assert_eq!(moved(&call(0, b""), "/f/1"), None);
        assert_eq!(moved(b"short", "/f/1"), None);
    }
}
