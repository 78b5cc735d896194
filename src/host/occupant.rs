//! Who has an address that we would like to listen at, for people to read.

use std::fmt;
use std::net::SocketAddr;
use std::net::SocketAddrV4;

use crate::host::peer::Process;

/// Who listens where we would like to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// Where we would like to.
    pub wanted: SocketAddrV4,
    /// Where it listens: there, or at every address of that port.
    pub at: SocketAddr,
    /// The user who owns the socket.
    pub user: u32,
    /// Which process it is; none where it belongs to another container, or was not found in time.
    pub process: Option<Process>,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some(process) => write!(f, "{process} listens")?,
            None => {
                write!(f, "a process of user {} that cannot be seen from here listens", self.user)?;
            }
        }
        match self.at == SocketAddr::V4(self.wanted) {
            true => f.write_str(" there"),
            false => write!(f, " on {}", self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occupant_is_described_with_what_is_known_of_it() {
        let wanted = "127.0.1.1:12049".parse().unwrap();
        let process = Some(Process { id: 42, name: "nc".into() });
        for (at, process, said) in [
            ("127.0.1.1:12049", process.clone(), "nc (pid 42) listens there"),
            ("[::]:12049", process, "nc (pid 42) listens on [::]:12049"),
            (
                "127.0.1.1:12049",
                None,
                "a process of user 7 that cannot be seen from here listens there",
            ),
        ] {
            let at = at.parse().unwrap();
            assert_eq!(Occupant { wanted, at, user: 7, process }.to_string(), said);
        }
    }
}
