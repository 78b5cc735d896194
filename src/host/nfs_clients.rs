//! The NFS clients that the kernel holds in this network namespace, as `/proc/fs/nfsfs/servers` shows them.
//!
//! A client lives as long as any mount that uses it, in whatever mount namespace, also after a lazy unmount. So
//! this list knows of mounts that no mount table shows any more. Reading it never blocks on a server.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// Where the kernel shows its clients. The file follows the reader's network namespace.
const SERVERS: &str = "/proc/fs/nfsfs/servers";

/// One NFS client of the kernel: all mounts of one server through one address share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsClient {
    /// NFS version: 2, 3 or 4.
    pub version: u8,
    /// Where it connects to; absent for a transport that has no IP address.
    pub address: Option<IpAddr>,
    /// The TCP or UDP port there.
    pub port: u16,
    /// How many references the kernel holds.
    pub references: u32,
    /// The server's name as the mount gave it.
    pub host_name: String,
}

/// Reads the kernel's list of NFS clients.
pub trait NfsClients: Send + Sync + fmt::Debug {
    /// Every client that is set up. A mount that is still under way may not show yet.
    ///
    /// # Errors
    /// When the list cannot be read or understood; then nothing may be concluded from it.
    fn read(&self) -> io::Result<Vec<NfsClient>>;
}

/// The list of the kernel that we run on.
#[derive(Clone, Debug)]
pub struct KernelNfsClients(PathBuf);

impl Default for KernelNfsClients {
    fn default() -> Self {
        Self(PathBuf::from(SERVERS))
    }
}

impl NfsClients for KernelNfsClients {
    fn read(&self) -> io::Result<Vec<NfsClient>> {
        match std::fs::read_to_string(&self.0) {
            Ok(text) => parse(&text),
            // Without the kernel's NFS module there is no file, and no client either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Reads the text of the list: a heading, then `v4 7f000101 2f11   1 127.0.1.1` for each client.
///
/// # Errors
/// Names the first line that is none of this.
pub fn parse(text: &str) -> io::Result<Vec<NfsClient>> {
    text.lines()
        .filter(|line| !line.starts_with("NV ") && !line.trim().is_empty())
        .map(|line| {
            parse_line(line).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{line:?} is no line of {SERVERS}"),
                )
            })
        })
        .collect()
}

fn parse_line(line: &str) -> Option<NfsClient> {
    let mut words = line.split_whitespace();
    Some(NfsClient {
        version: words.next()?.strip_prefix('v')?.parse().ok()?,
        address: hex_address(words.next()?),
        port: u16::from_str_radix(words.next()?, 16).ok()?,
        references: words.next()?.parse().ok()?,
        host_name: words.next().unwrap_or_default().to_owned(),
    })
}

/// Eight digits are an IPv4 address, 32 an IPv6 one, both in network order.
fn hex_address(word: &str) -> Option<IpAddr> {
    match word.len() {
        8 => u32::from_str_radix(word, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => u128::from_str_radix(word, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

/// A list that a test writes.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use std::sync::Mutex;

    /// The addresses of the clients that this kernel holds; `None` makes reading fail.
    #[derive(Debug)]
    pub(crate) struct FakeNfsClients(pub(crate) Mutex<Option<Vec<Ipv4Addr>>>);

    impl Default for FakeNfsClients {
        fn default() -> Self {
            Self(Mutex::new(Some(Vec::new())))
        }
    }

    impl FakeNfsClients {
        pub(crate) fn hold(&self, addresses: &[Ipv4Addr]) {
            *self.0.lock().unwrap() = Some(addresses.to_vec());
        }

        pub(crate) fn fail(&self) {
            *self.0.lock().unwrap() = None;
        }
    }

    impl NfsClients for FakeNfsClients {
        fn read(&self) -> io::Result<Vec<NfsClient>> {
            let addresses = self.0.lock().unwrap().clone();
            let addresses = addresses.ok_or_else(|| io::Error::other("unreadable"))?;
            Ok(addresses
                .into_iter()
                .map(|address| NfsClient {
                    version: 3,
                    address: Some(address.into()),
                    port: 12049,
                    references: 1,
                    host_name: address.to_string(),
                })
                .collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_kernel_is_a_client() {
        let text = "NV SERVER   PORT USE HOSTNAME\n\
                    v4 7f000101 2f11   1 127.0.1.1\n\
                    v3 c0000207  801  12 nas.example.com\n\
                    v4 20010db8000000000000000000000007  801   2 [2001:db8::7]\n";
        let clients = parse(text).unwrap();
        let shown: Vec<_> = clients
            .iter()
            .map(|client| (client.version, client.address.unwrap().to_string(), client.port))
            .collect();
        assert_eq!(
            shown,
            [
                (4, "127.0.1.1".to_owned(), 12049),
                (3, "192.0.2.7".to_owned(), 2049),
                (4, "2001:db8::7".to_owned(), 2049),
            ]
        );
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error_and_not_an_absence() {
        for text in ["v4", "x4 7f000101 2f11 1 a", "v4 7f000101 port 1 a"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_kernel_without_nfs_holds_no_client() {
        let clients = KernelNfsClients(PathBuf::from("/proc/fs/nfsfs/no-such-file"));
        assert_eq!(clients.read().unwrap(), []);
    }
}
