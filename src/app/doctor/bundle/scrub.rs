//! Leaves secrets out of a text.
//!
//! Nothing that holds one is meant to be put into the archive. This is the second wall: the values that this process can
//! find out are looked for in every text, and so is what has the form of a private key.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::percent_encode;
use zeroize::Zeroizing;

/// Shorter words are no secrets, and would be found everywhere.
const SHORTEST: usize = 8;
/// A file with more in it is none of credentials.
const LONGEST_FILE: u64 = 64 * 1024;
/// Of a directory with credentials, which has three.
const MOST_FILES: usize = 64;

/// Stands where something was.
pub(super) const LEFT_OUT: &str = "<left out>";

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const OF_A_KEY: &str = "PRIVATE KEY-----";

/// What must be found nowhere.
#[derive(Default)]
pub(super) struct Scrub(Vec<Zeroizing<String>>);

impl Scrub {
    /// Knows a secret, also as JSON and as a URL would spell it.
    pub(super) fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let json = serde_json::to_string(secret).unwrap_or_default();
        let url = percent_encode(secret.as_bytes(), NON_ALPHANUMERIC);
        let spelled = [secret.to_owned(), json.trim_matches('"').to_owned(), url.to_string()];
        self.0.extend(spelled.into_iter().map(Zeroizing::new));
        // What holds another one goes first.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self.0.dedup();
    }

    /// Knows every word of a file, or of each file of a directory. What is not there holds no secret.
    pub(super) fn add_words_at(&mut self, path: &Path) {
        for file in files_at(path) {
            let text = read(&file).unwrap_or_default();
            let is_between = |one: char| one.is_whitespace() || "=:,\"'{}".contains(one);
            text.split(is_between).for_each(|word| self.add(word));
            // And a value that has one of these in it.
            text.lines().for_each(|line| self.add(line.trim()));
        }
    }

    /// The text without them.
    pub(super) fn clean(&self, text: &str) -> String {
        let known =
            self.0.iter().fold(text.to_owned(), |text, secret| text.replace(&**secret, LEFT_OUT));
        without_keys(&known)
    }
}

fn files_at(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().take(MOST_FILES).map(|entry| entry.path()).collect(),
        Err(_) => vec![path.to_owned()],
    }
}

fn read(file: &Path) -> std::io::Result<Zeroizing<String>> {
    // A pipe would be waited for. The files of a mounted Secret are links to files.
    if !fs::metadata(file)?.is_file() {
        return Ok(Zeroizing::default());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(file)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Without what PEM has of private keys, also where only a part of one is there.
fn without_keys(text: &str) -> String {
    let mut left = text;
    let mut kept = String::new();
    loop {
        let begin = marker(left, BEGIN);
        let end = marker(left, END);
        match (begin, end) {
            (None, None) => return kept + left,
            (Some((at, _)), Some((_, behind))) if at < behind => {
                kept += left.get(..at).unwrap_or_default();
                kept += LEFT_OUT;
                left = left.get(behind..).unwrap_or_default();
            }
            (Some((at, _)), None) => return kept + left.get(..at).unwrap_or_default() + LEFT_OUT,
            // Its beginning was cut off, and is what stands before.
            (_, Some((_, behind))) => {
                LEFT_OUT.clone_into(&mut kept);
                left = left.get(behind..).unwrap_or_default();
            }
        }
    }
}

/// Where a line about a private key begins, and where it ends.
fn marker(text: &str, kind: &str) -> Option<(usize, usize)> {
    text.match_indices(kind).find_map(|(at, _)| {
        let label = text.get(at + kind.len()..)?;
        let length = label.find("-----")? + "-----".len();
        label.get(..length)?.ends_with(OF_A_KEY).then_some((at, at + kind.len() + length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_however_it_is_spelled() {
        let mut scrub = Scrub::default();
        scrub.add("top\"secret/+=");
        scrub.add("top\"secret/+= and more");
        for (text, clean) in [
            ("a top\"secret/+= b", "a <left out> b"),
            ("top\"secret/+= and more", "<left out>"),
            (r#"{"a": "top\"secret/+="}"#, r#"{"a": "<left out>"}"#),
            ("?token=top%22secret%2F%2B%3D&b", "?token=<left out>&b"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(scrub.clean(text), clean);
        }
        scrub.add("short");
        assert_eq!(scrub.clean("short"), "short");
    }

    #[test]
    fn the_words_of_a_file_and_of_each_file_of_a_directory_are_known() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("credentials");
        fs::write(&file, "[NASCredentials]\naccessKeySecret = verysecret1\n").unwrap();
        fs::create_dir(home.path().join("d")).unwrap();
        fs::write(home.path().join("d/secret"), "very=secret2\n").unwrap();
        let mut scrub = Scrub::default();
        [&file, &home.path().join("d"), &home.path().join("nothing")]
            .into_iter()
            .for_each(|path| scrub.add_words_at(path));
        assert_eq!(scrub.clean("verysecret1 very=secret2"), "<left out> <left out>");
    }

    #[test]
    fn private_keys_are_left_out_also_in_part_and_certificates_are_not() {
        let key = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----";
        let rsa = key.replace("PRIVATE", "RSA PRIVATE");
        let certificate = key.replace("PRIVATE KEY", "CERTIFICATE");
        let scrub = Scrub::default();
        for (text, clean) in [
            (format!("a\n{key}\nb"), "a\n<left out>\nb".to_owned()),
            (format!("{rsa}{key}x"), "<left out><left out>x".to_owned()),
            ("abc\n-----END PRIVATE KEY-----\nb".to_owned(), "<left out>\nb".to_owned()),
            ("a -----BEGIN EC PRIVATE KEY-----\nabc".to_owned(), "a <left out>".to_owned()),
            (format!("{certificate}\n{key}"), format!("{certificate}\n<left out>")),
            (certificate.clone(), certificate),
        ] {
            assert_eq!(scrub.clean(&text), clean, "{text}");
        }
    }
}
