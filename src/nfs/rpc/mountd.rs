//! MOUNTPROC3_UMNT (RFC 1813, section 5.2.3): tells an NFSv3 server that a mount is over.
//!
//! Good manners only: the server takes a line out of a list that nothing depends on.

use std::net::SocketAddr;
use std::time::Duration;

use nfs3_types::xdr_codec::Opaque;

use crate::model::nfs_option::Transport;
use crate::nfs::policy::RpcFault;
use crate::nfs::rpc::Program;
use crate::nfs::rpc::channel::Channel;
use crate::nfs::rpc::message;
use crate::nfs::rpc::message::Call;
use crate::nfs::rpc::within;

const UMNT: u32 = 3;

/// RFC 5531, appendix A.
const LONGEST_HOST_NAME: usize = 255;

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

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().take_while(char::is_ascii).take(LONGEST_HOST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::rpc::stub::Stub;

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
