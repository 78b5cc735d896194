//! NFSv3 spoken by ourselves (RFC 1813), over any stream: for directories that are made and removed where nothing
//! is mounted, by a process without any right.
//!
//! One call after the other, each with a deadline. A call that was cut leaves a reply that nobody waits for, so the
//! connection is not used again ([`NfsClient::is_usable`]). Nothing follows a link: every call names one entry of
//! a directory that the server has given a handle of, and what a link says is only ever copied.
//!
//! Our calls are packed by the crate `nfs3_types`. Its companion `nfs3_client` is not used: it allocates what a
//! length of the server says, takes no reply in fragments and has no deadlines.
//!
//! LONG: one short method for each call.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`copying`] | the calls that a tree is copied with |
//! | [`name`] | the only thing that is looked up |
//! | [`results`] | what a server answers, read with a bound on everything |
//! | [`fault`] | why there is no result |

pub mod copying;
pub mod fault;
pub mod name;
pub mod results;

use std::io;
use std::time::Duration;

use nfs3_types::nfs3;
use nfs3_types::nfs3::NFS_PROGRAM;
use nfs3_types::nfs3::Nfs3Option;
use nfs3_types::xdr_codec::Opaque;
use nfs3_types::xdr_codec::Pack;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

pub use copying::Metadata;
pub use copying::Portion;
pub use copying::Stability;
pub use copying::Verifier;
pub use fault::NfsFault;
pub use fault::Status;
pub use fault::Unless;
pub use name::Name;
pub use name::NameError;
pub use results::Attributes;
pub use results::Entry;
pub use results::Handle;
pub use results::Kind;
pub use results::Page;
pub use results::Place;
use results::Results;
pub use results::Special;
pub use results::Time;

use crate::model::ExportPath;
use crate::nfs::rpc::Program;
use crate::nfs::rpc::channel::transaction;
use crate::nfs::rpc::message;
use crate::nfs::rpc::message::Call;
use crate::nfs::rpc::mountd::host_name;

/// For one call, whatever the server does.
pub const CALL_DEADLINE: Duration = Duration::from_secs(20);
/// Between two attempts of a call that the server wants later.
const LATER: Duration = Duration::from_millis(500);
/// The most bytes of a directory in one reply.
const PAGE: u32 = 64 * 1024;
/// The longest reply: a page or a portion of a file, and what is around it.
const LONGEST_REPLY: usize = copying::PORTION + 64 * 1024;
/// The longest file that is read or written: in one call, which every server takes.
pub const LONGEST_FILE: usize = 32 * 1024;

const NFS: Program = Program { number: nfs3::PROGRAM, version: nfs3::VERSION };
const MOUNT: Program = Program { number: 100_005, version: 3 };
const MNT: u32 = 1;

/// A connection to a server's NFS or MOUNT service.
#[derive(Debug)]
pub struct NfsClient<S> {
    stream: S,
    host: String,
    between_calls: bool,
    is_stale: bool,
}

/// Whose something is and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> NfsClient<S> {
    /// Speaks over a stream, as root of this host.
    pub fn new(stream: S) -> Self {
        Self { stream, host: host_name(), between_calls: true, is_stale: false }
    }

    /// Whether somebody else may go on with it: no call was cut, the stream has not failed, and no handle was gone.
    pub fn is_usable(&self) -> bool {
        self.between_calls && !self.is_stale
    }

    /// MNT: the handle of an exported directory. On a connection of its own.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn mount(&mut self, path: &ExportPath) -> Result<Handle, NfsFault> {
        let action = format!("open the exported directory {path}");
        let argument = Opaque::borrowed(path.as_str().as_bytes());
        let call = Procedure { program: MOUNT, number: MNT, action: &action };
        self.call(call, &argument, |results| results.handle().map(Ok)).await
    }

    /// LOOKUP: one entry of a directory; none where there is no such entry.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn look_up(
        &mut self,
        directory: &Handle,
        name: &Name,
    ) -> Result<Option<(Handle, Attributes)>, NfsFault> {
        let action = format!("look up {name:?}");
        let arguments = nfs3::LOOKUP3args { what: entry(directory, name) };
        let call = nfs(NFS_PROGRAM::NFSPROC3_LOOKUP, &action);
        let read = |results: &mut Results<'_>| {
            Some(Ok((results.handle()?, results.optional(Results::attributes)?)))
        };
        match self.call(call, &arguments, read).await.unless(Status::NOENT)? {
            None => Ok(None),
            Some((handle, Some(attributes))) => Ok(Some((handle, attributes))),
            Some((handle, None)) => {
                let attributes = self.attributes(&handle, name).await?;
                Ok(Some((handle, attributes)))
            }
        }
    }

    /// GETATTR.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn attributes(&mut self, of: &Handle, name: &Name) -> Result<Attributes, NfsFault> {
        let action = format!("ask for the attributes of {name:?}");
        let call = nfs(NFS_PROGRAM::NFSPROC3_GETATTR, &action);
        let arguments = nfs3::GETATTR3args { object: file_handle(of) };
        self.call(call, &arguments, |results| results.attributes().map(Ok)).await
    }

    /// MKDIR. `false`: it exists already, whatever it is.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn make_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        mode: u32,
    ) -> Result<bool, NfsFault> {
        let action = format!("make the directory {name:?}");
        let attributes = nfs3::sattr3 { mode: Nfs3Option::Some(mode), ..nfs3::sattr3::default() };
        let arguments = nfs3::MKDIR3args { where_: entry(directory, name), attributes };
        let call = nfs(NFS_PROGRAM::NFSPROC3_MKDIR, &action);
        let made = self.call(call, &arguments, nothing).await.unless(Status::EXIST)?;
        Ok(made.is_some())
    }

    /// SETATTR of owner, group and permission bits.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn set_ownership(
        &mut self,
        of: &Handle,
        name: &Name,
        to: Ownership,
    ) -> Result<(), NfsFault> {
        let Ownership { mode, uid, gid } = to;
        let action = format!("give {name:?} the owner {uid}:{gid} and the mode {mode:04o}");
        let new_attributes = nfs3::sattr3 {
            mode: Nfs3Option::Some(mode),
            uid: Nfs3Option::Some(uid),
            gid: Nfs3Option::Some(gid),
            ..nfs3::sattr3::default()
        };
        let object = file_handle(of);
        let arguments = nfs3::SETATTR3args { object, new_attributes, guard: Nfs3Option::None };
        let call = nfs(NFS_PROGRAM::NFSPROC3_SETATTR, &action);
        self.call(call, &arguments, nothing).await
    }

    /// CREATE, guarded, of an empty file for us alone. `false`: it exists already.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn create_file(&mut self, directory: &Handle, name: &Name) -> Result<bool, NfsFault> {
        let action = format!("create the file {name:?}");
        let attributes = nfs3::sattr3 { mode: Nfs3Option::Some(0o600), ..nfs3::sattr3::default() };
        let how = nfs3::createhow3::GUARDED(attributes);
        let arguments = nfs3::CREATE3args { where_: entry(directory, name), how };
        let call = nfs(NFS_PROGRAM::NFSPROC3_CREATE, &action);
        let created = self.call(call, &arguments, nothing).await.unless(Status::EXIST)?;
        Ok(created.is_some())
    }

    /// WRITE of a whole small file, which is on the server's disk afterwards.
    ///
    /// # Errors
    /// The server's, or the connection's; and where the file is longer than [`LONGEST_FILE`].
    pub async fn write_file(
        &mut self,
        file: &Handle,
        name: &Name,
        content: &[u8],
    ) -> Result<(), NfsFault> {
        let action = format!("write the file {name:?}");
        let garbage = |why: &str| NfsFault::Garbage { action: action.clone(), why: why.to_owned() };
        let count = u32::try_from(content.len())
            .ok()
            .filter(|_| content.len() <= LONGEST_FILE)
            .ok_or_else(|| garbage("it is too long to be written at once"))?;
        let arguments = nfs3::WRITE3args {
            file: file_handle(file),
            offset: 0,
            count,
            stable: nfs3::stable_how::FILE_SYNC,
            data: Opaque::borrowed(content),
        };
        let call = nfs(NFS_PROGRAM::NFSPROC3_WRITE, &action);
        let read = |results: &mut Results<'_>| {
            results.skip_change()?;
            results.word().map(Ok)
        };
        match self.call(call, &arguments, read).await? {
            written if written == count => Ok(()),
            written => Err(garbage(&format!("{written} of {count} bytes were written"))),
        }
    }

    /// READ of a whole small file.
    ///
    /// # Errors
    /// The server's, or the connection's; and where the file is longer than [`LONGEST_FILE`].
    pub async fn read_file(&mut self, file: &Handle, name: &Name) -> Result<Vec<u8>, NfsFault> {
        let action = format!("read the file {name:?}");
        let count = u32::try_from(LONGEST_FILE).unwrap_or(u32::MAX);
        let arguments = nfs3::READ3args { file: file_handle(file), offset: 0, count };
        let call = nfs(NFS_PROGRAM::NFSPROC3_READ, &action);
        let read = |results: &mut Results<'_>| {
            results.optional(Results::attributes)?;
            let _count = results.word()?;
            let is_end = results.flag()?;
            Some(Ok((is_end, results.opaque(LONGEST_FILE)?)))
        };
        match self.call(call, &arguments, read).await? {
            (true, content) => Ok(content),
            (false, _) => Err(NfsFault::Garbage { action, why: "the file is too long".to_owned() }),
        }
    }

    /// RENAME. `false`: there is no such entry.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn rename(
        &mut self,
        from: (&Handle, &Name),
        to: (&Handle, &Name),
    ) -> Result<bool, NfsFault> {
        let action = format!("rename {:?} to {:?}", from.1, to.1);
        let arguments = nfs3::RENAME3args { from: entry(from.0, from.1), to: entry(to.0, to.1) };
        let call = nfs(NFS_PROGRAM::NFSPROC3_RENAME, &action);
        let renamed = self.call(call, &arguments, nothing).await.unless(Status::NOENT)?;
        Ok(renamed.is_some())
    }

    /// REMOVE: of anything but a directory; a link goes, what it leads to stays. One that is gone is no error.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn remove_file(&mut self, directory: &Handle, name: &Name) -> Result<(), NfsFault> {
        let action = format!("remove {name:?}");
        let arguments = nfs3::REMOVE3args { object: entry(directory, name) };
        let call = nfs(NFS_PROGRAM::NFSPROC3_REMOVE, &action);
        self.call(call, &arguments, nothing).await.unless(Status::NOENT).map(drop)
    }

    /// RMDIR of an empty directory. One that is gone is no error.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn remove_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
    ) -> Result<(), NfsFault> {
        let action = format!("remove the directory {name:?}");
        let arguments = nfs3::RMDIR3args { object: entry(directory, name) };
        let call = nfs(NFS_PROGRAM::NFSPROC3_RMDIR, &action);
        self.call(call, &arguments, nothing).await.unless(Status::NOENT).map(drop)
    }

    /// READDIRPLUS: some entries of a directory, from a place on.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn read_directory(
        &mut self,
        directory: &Handle,
        name: &Name,
        from: Place,
    ) -> Result<Page, NfsFault> {
        let action = format!("read the directory {name:?}");
        let arguments = nfs3::READDIRPLUS3args {
            dir: file_handle(directory),
            cookie: from.cookie,
            cookieverf: nfs3::cookieverf3(from.verifier.to_be_bytes()),
            dircount: PAGE / 8,
            maxcount: PAGE,
        };
        let call = nfs(NFS_PROGRAM::NFSPROC3_READDIRPLUS, &action);
        self.call(call, &arguments, |results| results.page()).await
    }

    /// Makes a call, again while the server wants it later, and reads its result.
    async fn call<T>(
        &mut self,
        call: Procedure<'_>,
        arguments: &impl Pack,
        read: impl Fn(&mut Results<'_>) -> Option<Result<T, NameError>>,
    ) -> Result<T, NfsFault> {
        let action = || call.action.to_owned();
        let garbage = |why: &str| NfsFault::Garbage { action: action(), why: why.to_owned() };
        let arguments = message::packed(arguments).map_err(|error| garbage(&error.to_string()))?;
        let message = Call::new(call.program, call.number, arguments).by_root_of(&self.host);
        let deadline = Instant::now() + CALL_DEADLINE;
        loop {
            let result = self.exchange(&message, call.action, deadline).await?;
            let mut results = Results(&result);
            match results.word().map(Status) {
                Some(Status(0)) => {
                    let read = read(&mut results).ok_or_else(|| garbage("it is cut short"))?;
                    return read.map_err(|source| NfsFault::Name { action: action(), source });
                }
                Some(Status::JUKEBOX) if Instant::now() + LATER < deadline => sleep(LATER).await,
                Some(status) => {
                    self.is_stale |= status == Status::STALE;
                    return Err(NfsFault::Refused { action: action(), status });
                }
                None => return Err(garbage("it has no status")),
            }
        }
    }

    async fn exchange(
        &mut self,
        call: &Call,
        action: &str,
        deadline: Instant,
    ) -> Result<Vec<u8>, NfsFault> {
        let action = || action.to_owned();
        // Until the whole reply is here. Whoever drops this future leaves it so.
        let was_usable = std::mem::replace(&mut self.between_calls, false);
        if !was_usable {
            let source = io::Error::other("an earlier call on it was cut");
            return Err(NfsFault::Lost { action: action(), source });
        }
        let answered = message::call_for(&mut self.stream, transaction(), call, LONGEST_REPLY);
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => {
                self.between_calls = true;
                answer.map_err(|source| NfsFault::Rpc { action: action(), source })
            }
            Ok(Err(source)) => Err(NfsFault::Lost { action: action(), source }),
            Err(_) => Err(NfsFault::NoAnswer { action: action(), waited: CALL_DEADLINE }),
        }
    }
}

/// What is called, and why.
#[derive(Clone, Copy)]
struct Procedure<'a> {
    program: Program,
    number: u32,
    action: &'a str,
}

fn nfs(procedure: NFS_PROGRAM, action: &str) -> Procedure<'_> {
    Procedure { program: NFS, number: procedure as u32, action }
}

/// The status says it all.
fn nothing(_: &mut Results<'_>) -> Option<Result<(), NameError>> {
    Some(Ok(()))
}

fn file_handle(handle: &Handle) -> nfs3::nfs_fh3 {
    nfs3::nfs_fh3 { data: Opaque::owned(handle.as_bytes().to_owned()) }
}

fn entry<'a>(directory: &Handle, name: &'a Name) -> nfs3::diropargs3<'a> {
    nfs3::diropargs3 { dir: file_handle(directory), name: name.as_bytes().into() }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::io::DuplexStream;

    use super::*;

    const REMOVE: u32 = 12;

    pub(in crate::nfs::client) fn client() -> (NfsClient<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        (NfsClient::new(ours), theirs)
    }

    pub(in crate::nfs::client) static DIRECTORY: LazyLock<Handle> =
        LazyLock::new(|| Handle::from_bytes(b"a handle").unwrap());
    pub(in crate::nfs::client) static NAME: LazyLock<Name> =
        LazyLock::new(|| Name::parse("a name").unwrap());

    /// Answers one call with these words, and says which procedure it was.
    pub(in crate::nfs::client) async fn answer(server: &mut DuplexStream, words: &[u32]) -> u32 {
        let length = server.read_u32().await.unwrap() & 0x7fff_ffff;
        let mut call = vec![0; usize::try_from(length).unwrap()];
        server.read_exact(&mut call).await.unwrap();
        let word = |at: usize| u32::from_be_bytes(call[4 * at..4 * at + 4].try_into().unwrap());
        // xid, REPLY, MSG_ACCEPTED, AUTH_NONE of no length, SUCCESS.
        let reply = [&[word(0), 1, 0, 0, 0, 0], words].concat();
        let length = u32::try_from(4 * reply.len()).unwrap();
        server.write_u32(0x8000_0000 | length).await.unwrap();
        for word in reply {
            server.write_u32(word).await.unwrap();
        }
        word(5)
    }

    #[tokio::test]
    async fn a_refusal_says_what_was_tried_and_what_to_do() {
        let (mut client, mut server) = client();
        let (outcome, procedure) = tokio::join!(
            client.remove_file(&DIRECTORY, &NAME),
            answer(&mut server, &[Status::ACCES.0]),
        );
        assert_eq!(procedure, REMOVE);
        let text = outcome.unwrap_err().to_string();
        assert!(text.starts_with("failed to remove \"a name\": permission denied"), "{text}");
        assert!(text.contains("permission group") && client.is_usable(), "{text}");
    }

    #[tokio::test]
    async fn what_is_gone_or_there_already_is_no_error() {
        let (mut client, mut server) = client();
        let (outcome, _) = tokio::join!(
            client.remove_file(&DIRECTORY, &NAME),
            answer(&mut server, &[Status::NOENT.0]),
        );
        outcome.unwrap();
        let (made, _) = tokio::join!(
            client.make_directory(&DIRECTORY, &NAME, 0o700),
            answer(&mut server, &[Status::EXIST.0]),
        );
        assert!(!made.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_wants_to_be_asked_later_is_asked_later() {
        let (mut client, mut server) = client();
        let serve = async {
            for _ in 0..3 {
                answer(&mut server, &[Status::JUKEBOX.0]).await;
            }
            answer(&mut server, &[0]).await
        };
        let started = Instant::now();
        let (outcome, _) = tokio::join!(client.remove_file(&DIRECTORY, &NAME), serve);
        outcome.unwrap();
        assert_eq!(started.elapsed(), 3 * LATER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_left_at_the_deadline_and_its_connection_is_not_used_again() {
        let (mut client, _server) = client();
        let started = Instant::now();
        let fault = client.remove_file(&DIRECTORY, &NAME).await.unwrap_err();
        assert!(matches!(fault, NfsFault::NoAnswer { .. }), "{fault}");
        assert_eq!(started.elapsed(), CALL_DEADLINE);
        assert!(!client.is_usable());
        let fault = client.remove_file(&DIRECTORY, &NAME).await.unwrap_err();
        assert!(matches!(fault, NfsFault::Lost { .. }), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_cut_spoils_the_connection() {
        let (mut client, _server) = client();
        let soon = Duration::from_millis(1);
        let cut = tokio::time::timeout(soon, client.remove_file(&DIRECTORY, &NAME)).await;
        assert!(cut.is_err() && !client.is_usable());
    }

    #[tokio::test]
    async fn the_end_of_a_stream_is_an_error_at_once() {
        let (mut client, server) = client();
        drop(server);
        let fault = client.remove_file(&DIRECTORY, &NAME).await.unwrap_err();
        assert!(matches!(fault, NfsFault::Lost { .. }), "{fault}");
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_short_is_no_result() {
        let (mut client, mut server) = client();
        let (outcome, _) = tokio::join!(
            client.look_up(&DIRECTORY, &NAME),
            // OK, and a handle of 64 bytes that are not there.
            answer(&mut server, &[0, 64, 1]),
        );
        assert!(matches!(outcome, Err(NfsFault::Garbage { .. })));
    }

    #[tokio::test]
    async fn a_handle_that_is_gone_keeps_the_connection_from_others() {
        let (mut client, mut server) = client();
        let (outcome, _) = tokio::join!(
            client.attributes(&DIRECTORY, &NAME),
            answer(&mut server, &[Status::STALE.0]),
        );
        assert_eq!(outcome.unwrap_err().status(), Some(Status::STALE));
        assert!(!client.is_usable());
    }
}
