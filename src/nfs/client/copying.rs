//! The calls that a tree is copied with: the content and the metadata of whatever may be in a directory.
//!
//! What a link says is read and written as bytes, and never looked up.
//!
//! LONG: one short method for each call.

use nfs3_types::nfs3;
use nfs3_types::nfs3::NFS_PROGRAM;
use nfs3_types::nfs3::Nfs3Option;
use nfs3_types::xdr_codec::Opaque;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

use crate::nfs::client::NfsClient;
use crate::nfs::client::Ownership;
use crate::nfs::client::entry;
use crate::nfs::client::fault::NfsFault;
use crate::nfs::client::fault::Status;
use crate::nfs::client::fault::Unless;
use crate::nfs::client::file_handle;
use crate::nfs::client::name::Name;
use crate::nfs::client::nfs;
use crate::nfs::client::nothing;
use crate::nfs::client::results::Handle;
use crate::nfs::client::results::Results;
use crate::nfs::client::results::Special;
use crate::nfs::client::results::Time;

/// The most bytes of a file in one call; a server may take or give fewer.
pub const PORTION: usize = 256 * 1024;
/// Of what a link says: PATH_MAX is 4096, and servers have no more.
const LONGEST_LINK: usize = 4096;

/// Some bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the file ends behind them.
    pub is_end: bool,
}

/// What a server calls one start of itself (RFC 1813, section 3.3.7): bytes that were written and not committed under
/// another one may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verifier(pub u64);

/// Whether written bytes are on the server's disk once it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Not before COMMIT.
    Later,
    /// They are.
    Now,
}

/// Whose something is, who may use it, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Owner, group and permission bits.
    pub ownership: Ownership,
    /// When it was last read.
    pub accessed: Time,
    /// When its content was last changed.
    pub modified: Time,
}

/// The bits that a change of the owner takes away: set-user-id and set-group-id.
const LOST_WITH_OWNER: u32 = 0o6000;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> NfsClient<S> {
    /// READ of at most [`PORTION`] bytes from an offset on.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn read_at(
        &mut self,
        file: &Handle,
        name: &Name,
        offset: u64,
    ) -> Result<Portion, NfsFault> {
        let action = format!("read {name:?} from byte {offset} on");
        let count = u32::try_from(PORTION).unwrap_or(u32::MAX);
        let arguments = nfs3::READ3args { file: file_handle(file), offset, count };
        let read = |results: &mut Results<'_>| {
            results.optional(Results::attributes)?;
            let _count = results.word()?;
            let is_end = results.flag()?;
            Some(Ok(Portion { bytes: results.opaque(PORTION)?, is_end }))
        };
        self.call(nfs(NFS_PROGRAM::NFSPROC3_READ, &action), &arguments, read).await
    }

    /// WRITE of at most [`PORTION`] bytes at an offset, in as many calls as the server wants.
    ///
    /// # Errors
    /// The server's, or the connection's; where it was started anew between two of the calls, too.
    pub async fn write_at(
        &mut self,
        file: &Handle,
        name: &Name,
        offset: u64,
        content: &[u8],
        stability: Stability,
    ) -> Result<Verifier, NfsFault> {
        let action = format!("write {name:?} from byte {offset} on");
        let garbage = |why: &str| NfsFault::Garbage { action: action.clone(), why: why.to_owned() };
        let stable = match stability {
            Stability::Later => nfs3::stable_how::UNSTABLE,
            Stability::Now => nfs3::stable_how::FILE_SYNC,
        };
        let (mut rest, mut at, mut first) = (content, offset, None);
        loop {
            let count = u32::try_from(rest.len()).map_err(|_| garbage("it is too much"))?;
            let data = Opaque::borrowed(rest);
            let arguments =
                nfs3::WRITE3args { file: file_handle(file), offset: at, count, stable, data };
            let read = |results: &mut Results<'_>| {
                results.skip_change()?;
                let (written, _stability) = (results.word()?, results.word()?);
                Some(Ok((written, Verifier(results.long()?))))
            };
            let call = nfs(NFS_PROGRAM::NFSPROC3_WRITE, &action);
            let (written, verifier) = self.call(call, &arguments, read).await?;
            if *first.get_or_insert(verifier) != verifier {
                return Err(restarted(&action));
            }
            let length = usize::try_from(written).unwrap_or(usize::MAX);
            rest = match rest.get(length..) {
                Some(rest) if length > 0 || rest.is_empty() => rest,
                _ => return Err(garbage(&format!("{written} of {count} bytes were written"))),
            };
            at += u64::from(written);
            if rest.is_empty() {
                return Ok(verifier);
            }
        }
    }

    /// COMMIT of a whole file: what was written is on the server's disk, if the server still is the one that `wrote`.
    ///
    /// # Errors
    /// The server's, or the connection's; where it was started anew since, too.
    pub async fn commit(
        &mut self,
        file: &Handle,
        name: &Name,
        wrote: Verifier,
    ) -> Result<(), NfsFault> {
        let action = format!("commit {name:?}");
        let arguments = nfs3::COMMIT3args { file: file_handle(file), offset: 0, count: 0 };
        let read = |results: &mut Results<'_>| {
            results.skip_change()?;
            Some(Ok(Verifier(results.long()?)))
        };
        let call = nfs(NFS_PROGRAM::NFSPROC3_COMMIT, &action);
        match self.call(call, &arguments, read).await? {
            verifier if verifier == wrote => Ok(()),
            _ => Err(restarted(&action)),
        }
    }

    /// READLINK: what a link says.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn read_link(&mut self, link: &Handle, name: &Name) -> Result<Vec<u8>, NfsFault> {
        let action = format!("read the link {name:?}");
        let arguments = nfs3::READLINK3args { symlink: file_handle(link) };
        let read = |results: &mut Results<'_>| {
            results.optional(Results::attributes)?;
            results.opaque(LONGEST_LINK).map(Ok)
        };
        self.call(nfs(NFS_PROGRAM::NFSPROC3_READLINK, &action), &arguments, read).await
    }

    /// SYMLINK. `false`: something of that name exists.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn make_link(
        &mut self,
        directory: &Handle,
        name: &Name,
        says: &[u8],
    ) -> Result<bool, NfsFault> {
        let action = format!("make the link {name:?}");
        let symlink = nfs3::symlinkdata3 {
            symlink_attributes: nfs3::sattr3::default(),
            symlink_data: says.into(),
        };
        let arguments = nfs3::SYMLINK3args { where_: entry(directory, name), symlink };
        let call = nfs(NFS_PROGRAM::NFSPROC3_SYMLINK, &action);
        Ok(self.call(call, &arguments, nothing).await.unless(Status::EXIST)?.is_some())
    }

    /// MKNOD. `false`: something of that name exists.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn make_special(
        &mut self,
        directory: &Handle,
        name: &Name,
        what: Special,
    ) -> Result<bool, NfsFault> {
        let action = format!("make the {what} {name:?}");
        let attributes = nfs3::sattr3 { mode: Nfs3Option::Some(0o600), ..nfs3::sattr3::default() };
        let device = |(specdata1, specdata2)| nfs3::devicedata3 {
            dev_attributes: attributes.clone(),
            spec: nfs3::specdata3 { specdata1, specdata2 },
        };
        let what = match what {
            Special::Character(numbers) => nfs3::mknoddata3::NF3CHR(device(numbers)),
            Special::Block(numbers) => nfs3::mknoddata3::NF3BLK(device(numbers)),
            Special::Socket => nfs3::mknoddata3::NF3SOCK(attributes),
            Special::Pipe => nfs3::mknoddata3::NF3FIFO(attributes),
        };
        let arguments = nfs3::MKNOD3args { where_: entry(directory, name), what };
        let call = nfs(NFS_PROGRAM::NFSPROC3_MKNOD, &action);
        Ok(self.call(call, &arguments, nothing).await.unless(Status::EXIST)?.is_some())
    }

    /// LINK: another name for a file. `false`: something of that name exists.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn link(&mut self, file: &Handle, to: (&Handle, &Name)) -> Result<bool, NfsFault> {
        let action = format!("give a file the further name {:?}", to.1);
        let arguments = nfs3::LINK3args { file: file_handle(file), link: entry(to.0, to.1) };
        let call = nfs(NFS_PROGRAM::NFSPROC3_LINK, &action);
        Ok(self.call(call, &arguments, nothing).await.unless(Status::EXIST)?.is_some())
    }

    /// SETATTR of the length of a file: what is behind is cut off, and what is missing is a hole.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn set_length(
        &mut self,
        file: &Handle,
        name: &Name,
        length: u64,
    ) -> Result<(), NfsFault> {
        let action = format!("give {name:?} a length of {length} bytes");
        let to = nfs3::sattr3 { size: Nfs3Option::Some(length), ..nfs3::sattr3::default() };
        self.set(file, to, &action).await
    }

    /// SETATTR of owner, permission bits and times.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn set_metadata(
        &mut self,
        of: &Handle,
        name: &Name,
        to: Metadata,
    ) -> Result<(), NfsFault> {
        let Ownership { mode, uid, gid } = to.ownership;
        let action = format!("give {name:?} the owner {uid}:{gid}, the mode {mode:04o} and times");
        let owned = nfs3::sattr3 {
            uid: Nfs3Option::Some(uid),
            gid: Nfs3Option::Some(gid),
            ..nfs3::sattr3::default()
        };
        let (accessed, modified) = (to.accessed.to_wire(), to.modified.to_wire());
        let rest = nfs3::sattr3 {
            mode: Nfs3Option::Some(mode),
            atime: nfs3::set_atime::SET_TO_CLIENT_TIME(accessed),
            mtime: nfs3::set_mtime::SET_TO_CLIENT_TIME(modified),
            ..owned.clone()
        };
        if mode & LOST_WITH_OWNER != 0 {
            self.set(of, owned, &action).await?;
            let unowned =
                nfs3::sattr3 { uid: Nfs3Option::None, gid: Nfs3Option::None, ..rest.clone() };
            return self.set(of, unowned, &action).await;
        }
        self.set(of, rest, &action).await
    }

    /// SETATTR of the owner and the times of a link, which has no permission bits.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn set_link_metadata(
        &mut self,
        of: &Handle,
        name: &Name,
        to: Metadata,
    ) -> Result<(), NfsFault> {
        let Ownership { uid, gid, .. } = to.ownership;
        let action = format!("give the link {name:?} the owner {uid}:{gid} and times");
        let to = nfs3::sattr3 {
            uid: Nfs3Option::Some(uid),
            gid: Nfs3Option::Some(gid),
            atime: nfs3::set_atime::SET_TO_CLIENT_TIME(to.accessed.to_wire()),
            mtime: nfs3::set_mtime::SET_TO_CLIENT_TIME(to.modified.to_wire()),
            ..nfs3::sattr3::default()
        };
        self.set(of, to, &action).await
    }

    /// FSSTAT: the bytes of the file system that are free for us.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn free_bytes(&mut self, of: &Handle) -> Result<u64, NfsFault> {
        let action = "ask how much space is free";
        let arguments = nfs3::FSSTAT3args { fsroot: file_handle(of) };
        let read = |results: &mut Results<'_>| {
            results.optional(Results::attributes)?;
            let (_total, _free) = (results.long()?, results.long()?);
            results.long().map(Ok)
        };
        self.call(nfs(NFS_PROGRAM::NFSPROC3_FSSTAT, action), &arguments, read).await
    }

    async fn set(&mut self, of: &Handle, to: nfs3::sattr3, action: &str) -> Result<(), NfsFault> {
        let object = file_handle(of);
        let arguments = nfs3::SETATTR3args { object, new_attributes: to, guard: Nfs3Option::None };
        self.call(nfs(NFS_PROGRAM::NFSPROC3_SETATTR, action), &arguments, nothing).await
    }
}

/// Bytes may be lost: whoever wrote them writes them again.
fn restarted(action: &str) -> NfsFault {
    let source = std::io::Error::other("the server was started anew while a file was written");
    NfsFault::Lost { action: action.to_owned(), source }
}

impl Time {
    fn to_wire(self) -> nfs3::nfstime3 {
        nfs3::nfstime3 { seconds: self.seconds, nseconds: self.nanoseconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::client::tests::DIRECTORY;
    use crate::nfs::client::tests::NAME;
    use crate::nfs::client::tests::answer;
    use crate::nfs::client::tests::client;

    const WRITE: u32 = 7;

    /// OK, nothing about the file, so many bytes, UNSTABLE, and a verifier.
    fn written(count: u32, verifier: u32) -> [u32; 7] {
        [0, 0, 0, count, 0, 0, verifier]
    }

    #[tokio::test]
    async fn a_server_that_takes_less_is_given_the_rest() {
        let (mut client, mut server) = client();
        let serve = async {
            let first = answer(&mut server, &written(3, 9)).await;
            (first, answer(&mut server, &written(2, 9)).await)
        };
        let (outcome, procedures) =
            tokio::join!(client.write_at(&DIRECTORY, &NAME, 0, b"words", Stability::Later), serve);
        assert_eq!((outcome.unwrap(), procedures), (Verifier(9), (WRITE, WRITE)));
    }

    #[tokio::test]
    async fn a_server_that_takes_nothing_or_too_much_is_not_asked_for_ever() {
        for count in [0, 6] {
            let (mut client, mut server) = client();
            let words = written(count, 9);
            let (outcome, _) = tokio::join!(
                client.write_at(&DIRECTORY, &NAME, 0, b"words", Stability::Later),
                answer(&mut server, &words),
            );
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains(&format!("{count} of 5 bytes")), "{text}");
        }
    }

    #[tokio::test]
    async fn bytes_that_a_server_may_have_lost_are_not_committed() {
        let (mut client, mut server) = client();
        let (outcome, _) = tokio::join!(
            client.commit(&DIRECTORY, &NAME, Verifier(8)),
            answer(&mut server, &[0, 0, 0, 0, 9]),
        );
        let fault = outcome.unwrap_err();
        assert!(matches!(fault, NfsFault::Lost { .. }), "{fault}");
        let serve = async {
            answer(&mut server, &written(3, 9)).await;
            answer(&mut server, &written(2, 10)).await
        };
        let (outcome, _) =
            tokio::join!(client.write_at(&DIRECTORY, &NAME, 0, b"words", Stability::Later), serve);
        assert!(matches!(outcome, Err(NfsFault::Lost { .. })));
    }

    #[tokio::test]
    async fn what_a_link_says_is_bytes_and_has_a_bound() {
        let (mut client, mut server) = client();
        let words = [0, 0, 3, u32::from_be_bytes(*b"../\0")];
        let (said, _) =
            tokio::join!(client.read_link(&DIRECTORY, &NAME), answer(&mut server, &words));
        assert_eq!(said.unwrap(), b"../");
        let (said, _) = tokio::join!(
            client.read_link(&DIRECTORY, &NAME),
            answer(&mut server, &[0, 0, 5000, 0]),
        );
        assert!(matches!(said, Err(NfsFault::Garbage { .. })));
    }
}
