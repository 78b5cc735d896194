//! What a gRPC status says to people.

use std::error::Error;

use tonic::Status;

use crate::runtime::Chain;

/// The cause alone: tonic's own text around it says "transport error" and little else.
#[must_use]
pub fn status_words(status: &Status) -> String {
    match status.source() {
        Some(source) => Chain(source).to_string(),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_cause_is_said_and_not_what_is_around_it() {
        let broken: Box<dyn Error + Send + Sync> = io::Error::other("broken pipe").into();
        for (status, words) in [
            (Status::from_error(broken), "broken pipe"),
            (Status::unavailable("nobody is there"), "nobody is there"),
            (Status::aborted(""), "The operation was aborted"),
        ] {
            assert_eq!(status_words(&status), words);
        }
    }
}
