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
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

/// For the line.
const DEADLINE: Duration = Duration::from_secs(2);
/// The most of it.
const LONGEST: u64 = 1024;
/// After accept(2) has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Before a name is asked for again whose owner has just gone.
const CLAIM_PAUSE: Duration = Duration::from_millis(20);

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
/// Who ends while he is asked says nothing; then the name is tried again. It may stay taken for a moment after its
/// process: a child that was being started has the socket too, until its exec(2).
///
/// # Errors
/// When neither was possible in time: the last reason.
pub async fn claim(name: &str) -> io::Result<Claim> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let fault = match claim_once(name).await {
            Ok(claim) => return Ok(claim),
            Err(fault) => fault,
        };
        if Instant::now() + CLAIM_PAUSE >= deadline {
            return Err(fault);
        }
        sleep(CLAIM_PAUSE).await;
    }
}

async fn claim_once(name: &str) -> io::Result<Claim> {
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
    match said.trim() {
        "" => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "who has the name says nothing")),
        who => Ok(who.to_owned()),
    }
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

    #[tokio::test]
    async fn a_name_whose_owner_goes_while_he_is_asked_is_ours() {
        let name = format!("alinas-csi/test/going/{}", std::process::id());
        let Claim::Ours(going) = claim(&name).await.unwrap() else { panic!("it is taken") };
        let goes = async {
            let (asked, _) = going.0.accept().await.unwrap();
            drop((asked, going));
        };
        let (claimed, ()) = tokio::join!(claim(&name), goes);
        assert!(matches!(claimed.unwrap(), Claim::Ours(_)));
    }
}
