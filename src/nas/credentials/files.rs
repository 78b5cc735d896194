//! Credentials in the directory of a mounted Secret: `id`, `secret` and, for a role, `token`, as the vendor's chart
//! names them in its Secret `csi-access-key`.

use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::nas::credentials::Credentials;
use crate::nas::credentials::CredentialsSource;
use crate::nas::credentials::Origin;
use crate::nas::credentials::SourceFault;

const ID: &str = "id";
const SECRET: &str = "secret";
const TOKEN: &str = "token";
/// A security token has about a kibibyte.
const LONGEST: u64 = 64 * 1024;
/// The kubelet takes about as long to bring a changed Secret here.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A directory that may change, or come later.
#[derive(Debug)]
pub struct Files(Option<PathBuf>);

impl Files {
    /// At a directory, if there is one.
    #[must_use]
    pub fn at(directory: Option<PathBuf>) -> Self {
        Self(directory)
    }
}

#[async_trait]
impl CredentialsSource for Files {
    fn origin(&self) -> Origin {
        Origin::Files
    }

    async fn credentials(&self) -> Result<Credentials, SourceFault> {
        let Some(directory) = self.0.clone() else {
            return Err(SourceFault::Absent("no directory of a Secret is named".to_owned()));
        };
        let path = directory.clone();
        let reading = spawn_blocking(move || read_directory(&directory)).await;
        reading.map_err(|error| SourceFault::Unreadable { path, why: error.to_string() })?
    }

    fn look_again(&self) -> Option<Duration> {
        Some(LOOK_AGAIN)
    }
}

fn read_directory(directory: &Path) -> Result<Credentials, SourceFault> {
    match read_version(directory) {
        // The kubelet has swapped the Secret meanwhile, and what was begun with is gone.
        Err(SourceFault::Unreadable { .. }) => read_version(directory),
        read => read,
    }
}

/// All of one version: in a mounted Secret the files are links through `..data`, which is swapped at once.
fn read_version(directory: &Path) -> Result<Credentials, SourceFault> {
    let version = directory.join("..data").canonicalize().unwrap_or_else(|_| directory.to_owned());
    let (id, secret) = (read_line(&version, ID)?, read_line(&version, SECRET)?);
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Credentials {
            access_key_id: (*id).clone(),
            access_key_secret: SecretString::from(secret.as_str()),
            security_token: read_line(&version, TOKEN)?.map(|token| token.as_str().into()),
            expires: None,
            origin: Origin::Files,
        }),
        (Some(_), None) => Err(SourceFault::Half { set: "file id", missing: "file secret" }),
        (None, Some(_)) => Err(SourceFault::Half { set: "file secret", missing: "file id" }),
        (None, None) => Err(SourceFault::Absent(format!("{directory:?} has no file id"))),
    }
}

/// The line in a file, if there is such a file.
pub(super) fn read_line(
    directory: &Path,
    name: &str,
) -> Result<Option<Zeroizing<String>>, SourceFault> {
    let path = directory.join(name);
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SourceFault::Unreadable { path, why: error.to_string() }),
    };
    let line = text.trim();
    if line.is_empty() || line.chars().any(char::is_control) {
        return Err(SourceFault::NotOneLine(path));
    }
    Ok(Some(Zeroizing::new(line.to_owned())))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    if length > LONGEST {
        return Err(io::Error::other(format!("it has more than {LONGEST} bytes")));
    }
    // In one piece from the start: growing would leave copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::new());
    text.reserve_exact(usize::try_from(length).unwrap_or_default() + 1);
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret;

    use super::*;

    async fn of(files: &[(&str, &str)]) -> Result<Credentials, SourceFault> {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        Files::at(Some(folder.path().to_owned())).credentials().await
    }

    #[tokio::test]
    async fn a_secret_is_read_in_the_version_that_is_there_now() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::at(Some(folder.path().to_owned()));
        assert!(matches!(files.credentials().await, Err(SourceFault::Absent(_))), "not yet there");
        for version in ["..1", "..2"] {
            let at = folder.path().join(version);
            fs::create_dir(&at).unwrap();
            fs::write(at.join(ID), format!("LTAI{version}\n")).unwrap();
            fs::write(at.join(SECRET), "s=c:r t\n").unwrap();
            fs::write(at.join(TOKEN), "t").unwrap();
            symlink(version, folder.path().join("..next")).unwrap();
            fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
            let found = files.credentials().await.unwrap();
            assert_eq!(found.access_key_id, format!("LTAI{version}"));
            assert_eq!(found.access_key_secret.expose_secret(), "s=c:r t");
            assert_eq!(found.security_token.unwrap().expose_secret(), "t");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_file_is_named_and_its_content_is_not_shown() {
        for (files, said) in [
            (&[(ID, "k")][..], "file id is set, but file secret is not"),
            (&[(SECRET, "topsecret")], "file secret is set, but file id is not"),
            (&[(ID, "k"), (SECRET, " \n")], "must hold one line"),
            (&[(ID, "k"), (SECRET, "topsecret\nb")], "must hold one line"),
            (&[(ID, "k"), (SECRET, "topsecret"), (TOKEN, "")], "must hold one line"),
        ] {
            let fault = of(files).await.unwrap_err();
            assert!(fault.to_string().contains(said), "{fault}");
            assert!(!format!("{fault} {fault:?}").contains("topsecret"), "{fault:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(ID)).unwrap();
        let fault = Files::at(Some(folder.path().to_owned())).credentials().await.unwrap_err();
        assert!(matches!(fault, SourceFault::Unreadable { .. }), "{fault}");
    }
}
