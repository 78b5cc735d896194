//! The MOUNT protocol of NFSv3 (RFC 1813, section 5): what the kernel does not say of an export, and good manners.
//!
//! UMNT takes a line out of a list of the server's that nothing depends on.

use std::net::SocketAddr;
use std::time::Duration;

use nfs3_types::xdr_codec::Opaque;

use crate::model::nfs_option::Transport;
use crate::nfs::policy::Export;
use crate::nfs::policy::Flavour;
use crate::nfs::policy::RpcFault;
use crate::nfs::rpc::Program;
use crate::nfs::rpc::channel::Channel;
use crate::nfs::rpc::message;
use crate::nfs::rpc::message::Call;
use crate::nfs::rpc::within;

const MNT: u32 = 1;
const UMNT: u32 = 3;

/// NFS3_FHSIZE (RFC 1813, section 2.4).
const LONGEST_HANDLE: usize = 64;

/// For UMNT where the answer that counts is there already.
const FAREWELL: Duration = Duration::from_secs(1);

/// RFC 5531, appendix A.
const LONGEST_HOST_NAME: usize = 255;

/// Asks for `path` as a mount would, and says at once that it is mounted no more. `mountd` is where the MOUNT service
/// of version 3 listens.
///
/// # Errors
/// Says why there is no answer.
pub async fn ask_export(
    mountd: SocketAddr,
    transport: Transport,
    path: &str,
    limit: Duration,
) -> Result<Export, RpcFault> {
    let program = Program { number: 100_005, version: 3 };
    within(limit, async {
        let path = message::packed(&Opaque::borrowed(path.as_bytes()))?;
        let host = host_name();
        let call = |procedure| Call::new(program, procedure, path.clone()).by_root_of(&host);
        let mut channel = Channel::open_reserved(mountd, transport).await?;
        let answer = channel.call(&call(MNT)).await?;
        // A server that forgets to answer it has answered what was asked.
        let _ = tokio::time::timeout(FAREWELL, channel.call(&call(UMNT))).await;
        Ok(answer.and_then(|result| {
            export_in(&result)
                .ok_or_else(|| RpcFault::Garbage("mountd answered what is no export".to_owned()))
        }))
    })
    .await
}

/// mountres3: a status, and where it is 0, a file handle and the flavours.
fn export_in(mut result: &[u8]) -> Option<Export> {
    let status = word(&mut result)?;
    if status != 0 {
        return Some(Export::Refused(status));
    }
    let handle = usize::try_from(word(&mut result)?).ok().filter(|it| *it <= LONGEST_HANDLE)?;
    result = result.get(handle.next_multiple_of(4)..)?;
    let count = usize::try_from(word(&mut result)?).ok().filter(|it| *it <= result.len() / 4)?;
    (0..count).map(|_| word(&mut result).map(Flavour)).collect::<Option<_>>().map(Export::Flavours)
}

fn word(bytes: &mut &[u8]) -> Option<u32> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*word))
}

/// Says that `path` is mounted no more. `mountd` is where the MOUNT service listens; `version` is 1 or 3.
///
/// # Errors
/// Says why the server does not know now; to be logged and forgotten.
pub async fn say_unmounted(
    mountd: SocketAddr,
    version: u8,
    transport: Transport,
    path: &str,
    limit: Duration,
) -> Result<(), RpcFault> {
    let program = Program { number: 100_005, version: u32::from(version) };
    within(limit, async {
        let path = message::packed(&Opaque::borrowed(path.as_bytes()))?;
        let call = Call::new(program, UMNT, path).by_root_of(&host_name());
        let mut channel = Channel::open_reserved(mountd, transport).await?;
        channel.call(&call).await.map(|answer| answer.map(drop))
    })
    .await
}

pub(in crate::nfs) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().take_while(char::is_ascii).take(LONGEST_HOST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::rpc::stub::Stub;

    #[tokio::test]
    async fn an_export_is_asked_for_and_given_back_at_once() {
        let krb5 = vec![Flavour(390_003), Flavour(390_004)];
        let handle = [3, 0x0102_0300];
        let whole = [&[0, 0, 0, 0, 0][..], &handle, &[2, 390_003, 390_004]].concat();
        let limit = Duration::from_secs(5);
        for (words, expected) in [
            (whole.clone(), Ok(Export::Flavours(krb5))),
            (vec![0, 0, 0, 0, 13], Ok(Export::Refused(13))),
            (whole[..7].to_vec(), Err(())),
            (vec![0, 0, 0, 0, 0, 65], Err(())),
            (vec![0, 0, 0, 0, 0, 0, u32::MAX], Err(())),
        ] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let answers = [words.clone(), vec![0, 0, 0, 0]];
                let server = Stub::replying_at("127.0.0.1:0", transport, &answers).await;
                let answer = ask_export(server.address(), transport, "/a", limit).await;
                assert_eq!(answer.map_err(|_| ()), expected, "{words:?} {transport:?}");
                assert_eq!(server.last_call()[3..6], [100_005, 3, UMNT]);
            }
        }
    }

    #[tokio::test]
    async fn root_says_that_a_path_is_unmounted() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let server = Stub::replying(transport, &[0, 0, 0, 0]).await;
            let limit = Duration::from_secs(5);
            say_unmounted(server.address(), 3, transport, "/a b", limit).await.unwrap();
            let call = server.last_call();
            assert_eq!(call[3..7], [100_005, 3, 3, 1], "program, version, procedure, AUTH_SYS");
            assert_eq!(call[call.len() - 2..], [4, u32::from_be_bytes(*b"/a b")]);
        }
    }
}
