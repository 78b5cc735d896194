//! A name in this network namespace that one process has at a time: an abstract Unix socket (unix(7)).
//!
//! It needs no directory that two installs would have to share, and goes with its process, however that ends. Who
//! finds the name taken may ask who has it, and is told one line.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::time::sleep;
use tokio::time::timeout;

/// For the line.
const DEADLINE: Duration = Duration::from_secs(2);
/// The most of it.
const LONGEST: u64 = 1024;
/// After accept(2) has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The name is ours for as long as this is held.
    Ours(OwnName),
    /// Somebody else has it, and says this about himself.
    Others(String),
}

/// A name that is ours.
#[derive(Debug)]
pub struct OwnName(UnixListener);

/// Takes the name, or asks who has it.
///
/// # Errors
/// When neither is possible.
pub async fn claim(name: &str) -> io::Result<Claim> {
    // A path that begins with a zero byte is a name without a file.
    let address = format!("\0{name}");
    match UnixListener::bind(&address) {
        Ok(socket) => Ok(Claim::Ours(OwnName(socket))),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Ok(Claim::Others(timeout(DEADLINE, owner(&address)).await??))
        }
        Err(error) => Err(error),
    }
}

async fn owner(address: &str) -> io::Result<String> {
    let mut said = String::new();
    UnixStream::connect(address).await?.take(LONGEST).read_to_string(&mut said).await?;
    Ok(said.trim().to_owned())
}

impl OwnName {
    /// Tells everybody who asks this line, until dropped.
    pub async fn tell(self, line: &str) {
        loop {
            match self.0.accept().await {
                Ok((mut stream, _)) => {
                    let telling = stream.write_all(line.as_bytes());
                    let _who_does_not_listen = timeout(DEADLINE, telling).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "failed to answer who we are");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_one_is_told_who_the_first_one_is_until_it_is_gone() {
        let name = format!("alinas-csi/test/{}", std::process::id());
        let Claim::Ours(first) = claim(&name).await.unwrap() else { panic!("it is taken") };
        let telling = tokio::spawn(async move { first.tell("pid 7").await });
        let Claim::Others(who) = claim(&name).await.unwrap() else { panic!("it is free") };
        assert_eq!(who, "pid 7");
        telling.abort();
        assert!(telling.await.unwrap_err().is_cancelled());
        assert!(matches!(claim(&name).await.unwrap(), Claim::Ours(_)));
    }
}
