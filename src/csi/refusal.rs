//! An error on its way out: logged once, and made a status that says everything.

use std::error::Error;

use tonic::Code;
use tonic::Status;

use crate::runtime::Chain;
use crate::runtime::request;
use crate::runtime::request::Field;
use crate::runtime::request_layer::code_word;

/// Logs a failed call, whose request says of which volume, and makes its status. Secrets are in no request type of ours, so they are in no error.
///
/// CSI 1.13, "Error Scheme": the message must not be empty. It ends up in the events of the pod.
fn refuse(call: &str, code: Code, error: &(dyn Error + 'static)) -> Status {
    let message = Chain(error).to_string();
    tracing::warn!(code = code_word(code), error = %message, "{call} failed");
    let message = if message.is_empty() { format!("{call} failed") } else { message };
    Status::new(code, message)
}

/// Which call failed, and for which volume.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    /// The call.
    pub(super) name: &'static str,
    /// The volume's id, or its name where it has none yet.
    pub(super) volume: &'a str,
}

impl<'a> Call<'a> {
    /// A call about the volume of this id. From here on its lines in the log say so.
    pub(super) fn on(name: &'static str, volume: &'a str) -> Self {
        Self::about(Field::VolumeId, name, volume)
    }

    /// A call about what is no volume, or none yet.
    pub(super) fn about(field: Field, name: &'static str, volume: &'a str) -> Self {
        request::note(field, volume);
        Self { name, volume }
    }
}

/// An error becomes a status.
pub(super) trait OrRefuse<T, E> {
    /// Logs an error and makes it a status, by its call's table.
    fn or_refuse(self, call: Call<'_>, code_of: impl Fn(&E) -> Code) -> Result<T, Status>;
}

impl<T, E: Error + 'static> OrRefuse<T, E> for Result<T, E> {
    fn or_refuse(self, call: Call<'_>, code_of: impl Fn(&E) -> Code) -> Result<T, Status> {
        self.map_err(|error| refuse(call.name, code_of(&error), &error))
    }
}

/// A call that this driver does not serve, and does not announce.
pub(super) fn not_served(call: &str) -> Status {
    Status::unimplemented(format!("{call} is not served by this driver"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("")]
    struct Silent;

    #[test]
    fn a_status_always_says_something() {
        let status = refuse("NodeStageVolume", Code::Internal, &Silent);
        assert_eq!(status.message(), "NodeStageVolume failed");
        assert_eq!(not_served("NodeExpandVolume").code(), Code::Unimplemented);
        assert!(!not_served("NodeExpandVolume").message().is_empty());
    }
}
