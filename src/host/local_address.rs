//! Which addresses are this host's own.

use std::io;
use std::net::IpAddr;

/// Whether an interface of this network namespace has the address; the unspecified one is everybody's.
///
/// # Errors
/// When the kernel does not list its interfaces.
pub fn is_local(address: IpAddr) -> io::Result<bool> {
    if address.is_unspecified() {
        return Ok(true);
    }
    Ok(if_addrs::get_if_addrs()?.iter().any(|interface| interface.ip() == address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_an_address_of_the_documentation_is_not() {
        for (address, local) in [("127.0.0.1", true), ("0.0.0.0", true), ("192.0.2.1", false)] {
            assert_eq!(is_local(address.parse().unwrap()).unwrap(), local, "{address}");
        }
    }
}
