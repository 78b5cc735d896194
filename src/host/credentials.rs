//! RAM credentials, from the vendor's file or from the directory of a mounted Secret.
//!
//! The file is the one of aliyun-alinas-utils: section `[NASCredentials]` with `accessKeyID`, `accessKeySecret`
//! and, for a role, `securityToken`. In a directory each of them is a file.
//!
//! Blocking. A secret is wiped when dropped, and no error or `{:?}` shows one.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use secrecy::SecretString;
use zeroize::Zeroizing;

const SECTION: &str = "NASCredentials";
const ID: &str = "accessKeyID";
const SECRET: &str = "accessKeySecret";
const TOKEN: &str = "securityToken";

/// A security token has about a kibibyte.
const LONGEST_FILE: u64 = 64 * 1024;

/// Of a RAM user, or of a role for as long as its token holds.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Which user: no secret.
    pub access_key_id: String,
    /// What signatures are made with.
    pub access_key_secret: SecretString,
    /// Of a role.
    pub security_token: Option<SecretString>,
}

/// Why there are no credentials. Names files and keys, never a value.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file is missing or may not be read.
    #[error("failed to read RAM credentials file {path:?}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is none of the vendor's.
    #[error("RAM credentials file {0:?} has no section [{SECTION}]")]
    NoSection(PathBuf),
    /// A value is missing or empty.
    #[error("RAM credentials in {path:?} lack {key}")]
    Missing {
        /// The file or directory.
        path: PathBuf,
        /// What it lacks.
        key: &'static str,
    },
    /// A value has a line end or the like in it.
    #[error("RAM credentials in {path:?}: {key} holds a control character")]
    Control {
        /// The file or directory.
        path: PathBuf,
        /// Of which value.
        key: &'static str,
    },
}

impl Credentials {
    /// Reads what there is now, at a file or a directory.
    ///
    /// # Errors
    /// Says which file or key cannot be used.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        if !path.is_dir() {
            return Self::of_file(path, &read(path)?);
        }
        match Self::of_directory(path) {
            // The kubelet has swapped the Secret meanwhile, and what was begun with is gone.
            Err(CredentialsError::Unreadable { .. }) => Self::of_directory(path),
            whole => whole,
        }
    }

    fn of_file(path: &Path, text: &str) -> Result<Self, CredentialsError> {
        let mut lines = text.lines().map(str::trim);
        if !lines.any(|line| is_section(line, SECTION)) {
            return Err(CredentialsError::NoSection(path.to_owned()));
        }
        let settings: Vec<_> =
            lines.take_while(|line| !line.starts_with('[')).filter_map(setting).collect();
        let value = |wanted: &str| {
            let ours = |(key, _): &&(&str, _)| key.eq_ignore_ascii_case(wanted);
            settings.iter().rfind(ours).map(|(_, value)| *value)
        };
        Self::of_values(path, value(ID), value(SECRET), value(TOKEN))
    }

    /// All of one version: in a mounted Secret the files are links through `..data`, which is swapped at once.
    fn of_directory(path: &Path) -> Result<Self, CredentialsError> {
        let version = path.join("..data").canonicalize().unwrap_or_else(|_| path.to_owned());
        let file = |key| {
            let file = version.join(key);
            if file.exists() { read(&file).map(Some) } else { Ok(None) }
        };
        let (id, secret, token) = (file(ID)?, file(SECRET)?, file(TOKEN)?);
        Self::of_values(path, trimmed(&id), trimmed(&secret), trimmed(&token))
    }

    fn of_values(
        path: &Path,
        id: Option<&str>,
        secret: Option<&str>,
        token: Option<&str>,
    ) -> Result<Self, CredentialsError> {
        let checked = |key, value: Option<&str>| match value.filter(|value| !value.is_empty()) {
            Some(value) if value.chars().any(char::is_control) => {
                Err(CredentialsError::Control { path: path.to_owned(), key })
            }
            value => Ok(value.map(str::to_owned)),
        };
        let required = |key, value| {
            let missing = || CredentialsError::Missing { path: path.to_owned(), key };
            checked(key, value)?.ok_or_else(missing)
        };
        Ok(Self {
            access_key_id: required(ID, id)?,
            access_key_secret: required(SECRET, secret)?.into(),
            security_token: checked(TOKEN, token)?.map(SecretString::from),
        })
    }
}

fn is_section(line: &str, name: &str) -> bool {
    line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) == Some(name)
}

/// `key = value` or `key: value`, as Python's configparser reads them.
fn setting(line: &str) -> Option<(&str, &str)> {
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once(['=', ':'])?;
    Some((key.trim(), value.trim()))
}

fn trimmed(file: &Option<Zeroizing<String>>) -> Option<&str> {
    file.as_ref().map(|text| text.trim())
}

fn read(path: &Path) -> Result<Zeroizing<String>, CredentialsError> {
    let unreadable = |source| CredentialsError::Unreadable { path: path.to_owned(), source };
    // In one piece from the start: growing would leave copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > LONGEST_FILE {
        return Err(unreadable(io::Error::other(format!("it has more than {LONGEST_FILE} bytes"))));
    }
    text.reserve_exact(usize::try_from(length).unwrap_or_default() + 1);
    file.take(LONGEST_FILE).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret;

    use super::*;

    const FILE: &str = "# of the vendor\n[other]\naccessKeyID = no\n[NASCredentials]\naccessKeyID=LTAI1\n\
         ; more\naccesskeysecret : s=c:r t \nsecurityToken=\n[last]\nsecurityToken = no\n";

    fn of_text(text: &str) -> Result<Credentials, CredentialsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Credentials::read(file.path())
    }

    #[test]
    fn the_vendor_s_file_is_read() {
        let credentials = of_text(FILE).unwrap();
        assert_eq!(credentials.access_key_id, "LTAI1");
        assert_eq!(credentials.access_key_secret.expose_secret(), "s=c:r t");
        assert!(credentials.security_token.is_none());
        let role = of_text(&FILE.replace("securityToken=\n", "securityToken=t+/=\n")).unwrap();
        assert_eq!(role.security_token.unwrap().expose_secret(), "t+/=");
    }

    #[test]
    fn a_mounted_secret_is_read_in_the_version_that_is_there_now() {
        let folder = tempfile::tempdir().unwrap();
        let place = |version: &str, token: Option<&str>| {
            let at = folder.path().join(version);
            fs::create_dir(&at).unwrap();
            fs::write(at.join(ID), format!("LTAI{version}")).unwrap();
            fs::write(at.join(SECRET), "secret\n").unwrap();
            token.iter().for_each(|token| fs::write(at.join(TOKEN), token).unwrap());
            symlink(version, folder.path().join("..next")).unwrap();
            fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
        };
        place("..1", None);
        let user = Credentials::read(folder.path()).unwrap();
        assert_eq!((user.access_key_id.as_str(), user.security_token.is_none()), ("LTAI..1", true));
        assert_eq!(user.access_key_secret.expose_secret(), "secret");
        place("..2", Some("token\n"));
        fs::remove_dir_all(folder.path().join("..1")).unwrap();
        let role = Credentials::read(folder.path()).unwrap();
        assert_eq!(role.access_key_id, "LTAI..2");
        assert_eq!(role.security_token.unwrap().expose_secret(), "token");
        let plain = tempfile::tempdir().unwrap();
        fs::write(plain.path().join(ID), "a").unwrap();
        fs::write(plain.path().join(SECRET), "b").unwrap();
        assert_eq!(Credentials::read(plain.path()).unwrap().access_key_id, "a");
    }

    #[test]
    fn what_is_missing_is_named_and_no_value_is_shown() {
        let empty = tempfile::tempdir().unwrap();
        let missing = Credentials::read(empty.path()).unwrap_err().to_string();
        assert!(missing.ends_with("lack accessKeyID"), "{missing}");
        let nowhere = Credentials::read(Path::new("/nonexistent/c")).unwrap_err().to_string();
        assert!(nowhere.contains("failed to read RAM credentials file \"/nonexistent/c\""));
        for (text, said) in [
            ("", "no section [NASCredentials]"),
            ("accessKeyID = LTAI1\n", "no section [NASCredentials]"),
            ("[NASCredentials]\naccessKeySecret = topsecret\n", "lack accessKeyID"),
            ("[NASCredentials]\naccessKeyID = LTAI1\naccessKeySecret =\n", "lack accessKeySecret"),
            (
                "[NASCredentials]\naccessKeyID=x\naccessKeySecret=topsecret\u{1}x",
                "a control character",
            ),
        ] {
            let error = of_text(text).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert!(!format!("{error} {error:?}").contains("topsecret"), "{error:?}");
        }
        let shown = format!("{:?}", of_text(FILE).unwrap());
        assert!(!shown.contains("s=c:r") && shown.contains("LTAI1"), "{shown}");
    }
}
