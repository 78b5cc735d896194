//! What the log of this process shows, changed while it runs: for a while, and then it is again as it was at the start.
//!
//! A log that is left at debug fills disks, and one that is left off hides the next trouble; so there is no change
//! without an end. Whoever wants another log for good says so in the settings.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::async_trait;

use crate::proto::log as proto;
use crate::proto::log::log_server::Log;
use crate::proto::log::log_server::LogServer;

/// The longest that a change may last: a day.
pub const LONGEST: Duration = Duration::from_secs(86_400);
/// No filter that somebody types is longer.
const LONGEST_FILTER: usize = 1000;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Puts a filter in force, or says what is wrong with it.
type Change = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The log of this process. A clone is the same.
#[derive(Clone)]
pub struct LogSwitch(Arc<Shared>);

struct Shared {
    process: &'static str,
    at_start: String,
    change: Change,
    now: Mutex<Now>,
}

/// A change that is in force.
struct Changed {
    filter: String,
    until: Instant,
}

#[derive(Default)]
struct Now {
    changed: Option<Changed>,
    /// Counts changes: what ends one must not end the next one.
    turn: u64,
}

/// What a log shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Of which process.
    pub process: &'static str,
    /// Now.
    pub filter: String,
    /// For how long; nothing where that is what it showed at the start.
    pub left: Option<Duration>,
    /// At the start, and then again.
    pub at_start: String,
}

/// Why the log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum LogSwitchError {
    /// A word that would be taken for the name of a part, and silence all others.
    #[error(
        "{0:?} is no level; expected error, warn, info, debug, trace or off, or a part with its level as in \
         \"info,alinas_csi::tunnel=debug\""
    )]
    NoLevel(String),
    /// It cannot be read.
    #[error("the filter {filter:?} cannot be used: {why}")]
    Unusable {
        /// What was given.
        filter: String,
        /// In words.
        why: String,
    },
    /// Not for that long.
    #[error("a change lasts from 1 to {} s, not {} s", LONGEST.as_secs(), .0.as_secs())]
    TooLong(Duration),
}

impl LogSwitch {
    /// The log of a process that shows `at_start`, and which `change` changes.
    pub fn new(
        process: &'static str,
        at_start: &str,
        change: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let (at_start, change) = (at_start.to_owned(), Box::new(change));
        Self(Arc::new(Shared { process, at_start, change, now: Mutex::default() }))
    }

    /// The log of a process that cannot be changed.
    #[must_use]
    pub fn fixed(process: &'static str) -> Self {
        Self::new(process, "", |_| Err("this log cannot be changed".to_owned()))
    }

    /// Serves it, on the socket of the process.
    #[must_use]
    pub fn service(&self) -> LogServer<LogService> {
        LogServer::new(LogService(self.clone()))
    }

    /// What is shown.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let now = self.now();
        let at_start = self.0.at_start.clone();
        let (filter, left) = match &now.changed {
            Some(changed) => {
                (changed.filter.clone(), Some(changed.until.duration_since(Instant::now())))
            }
            None => (at_start.clone(), None),
        };
        Shown { process: self.0.process, filter, left, at_start }
    }

    /// Shows something else for a while. To be called within a runtime.
    ///
    /// # Errors
    /// Says why the log is as it was.
    pub fn change(&self, filter: &str, lasting: Duration) -> Result<(), LogSwitchError> {
        if lasting.is_zero() || lasting > LONGEST {
            return Err(LogSwitchError::TooLong(lasting));
        }
        checked(filter)?;
        let mut now = self.now();
        // Before it is: the next log may show little.
        let seconds = lasting.as_secs();
        tracing::warn!(filter, seconds, "asked to change the log for a while");
        (self.0.change)(filter)
            .map_err(|why| LogSwitchError::Unusable { filter: filter.to_owned(), why })?;
        let until = Instant::now() + lasting;
        now.changed = Some(Changed { filter: filter.to_owned(), until });
        now.turn += 1;
        let (turn, switch) = (now.turn, self.clone());
        drop(now);
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            switch.end(Some(turn));
        });
        Ok(())
    }

    /// Shows what was shown at the start.
    pub fn reset(&self) {
        self.end(None);
    }

    /// Ends the change of that turn, or whichever is in force.
    fn end(&self, turn: Option<u64>) {
        let mut now = self.now();
        let is_meant = turn.is_none_or(|turn| turn == now.turn);
        if !is_meant || now.changed.take().is_none() {
            return;
        }
        let filter = self.0.at_start.as_str();
        match (self.0.change)(filter) {
            Ok(()) => tracing::warn!(filter, "the log is again as it was at the start"),
            Err(why) => tracing::error!(filter, why, "the log stays changed"),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LogSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogSwitch").field(&self.shown()).finish()
    }
}

/// A mistyped level would be the name of a part: of that alone everything would be shown, and of the rest nothing.
fn checked(filter: &str) -> Result<(), LogSwitchError> {
    if filter.len() > LONGEST_FILTER {
        let why = format!("it has more than {LONGEST_FILTER} bytes");
        return Err(LogSwitchError::Unusable { filter: String::new(), why });
    }
    for directive in filter.split(',').map(str::trim) {
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive));
        if !is_level && !directive.contains('=') {
            return Err(LogSwitchError::NoLevel(directive.to_owned()));
        }
    }
    Ok(())
}

/// Serves [`LogSwitch`].
#[derive(Clone, Debug)]
pub struct LogService(LogSwitch);

#[async_trait]
impl Log for LogService {
    async fn set(
        &self,
        request: Request<proto::SetRequest>,
    ) -> Result<Response<proto::SetResponse>, Status> {
        let proto::SetRequest { filter, seconds, reset } = request.into_inner();
        match (reset, filter.is_empty()) {
            (true, true) => self.0.reset(),
            (true, false) => {
                return Err(Status::invalid_argument("a filter and a reset exclude each other"));
            }
            (false, true) => {}
            (false, false) => self
                .0
                .change(&filter, Duration::from_secs(seconds))
                .map_err(|error| Status::invalid_argument(error.to_string()))?,
        }
        let Shown { process, filter, left, at_start } = self.0.shown();
        // Rounded up: 0 is for a log that nobody has changed.
        let seconds_left = left.map_or(0, |left| left.as_millis().div_ceil(1000));
        let seconds_left = u64::try_from(seconds_left).unwrap_or(u64::MAX);
        let process = process.to_owned();
        Ok(Response::new(proto::SetResponse { process, filter, seconds_left, at_start }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that knows every filter but one, and each that was put in force.
    fn log() -> (LogSwitch, Arc<Mutex<Vec<String>>>) {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&said);
        let switch = LogSwitch::new("node", "info", move |filter| {
            if filter == "a=b" {
                return Err("no".to_owned());
            }
            told.lock().unwrap().push(filter.to_owned());
            Ok(())
        });
        (switch, said)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_change_ends_by_itself_and_not_before_the_last_one_of_several() {
        let (switch, said) = log();
        switch.change("debug", MINUTE).unwrap();
        tokio::time::sleep(MINUTE / 2).await;
        switch.change("trace", MINUTE).unwrap();
        tokio::time::sleep(MINUTE * 3 / 4).await;
        assert_eq!(switch.shown().filter, "trace", "the end of the first is not the second's");
        assert_eq!(switch.shown().left, Some(MINUTE / 4));
        tokio::time::sleep(MINUTE).await;
        assert_eq!((switch.shown().filter.as_str(), switch.shown().left), ("info", None));
        assert_eq!(*said.lock().unwrap(), ["debug", "trace", "info"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_shown_at_the_start_can_be_had_at_once() {
        let (switch, said) = log();
        switch.reset();
        assert!(said.lock().unwrap().is_empty(), "nothing was changed");
        switch.change("debug", MINUTE).unwrap();
        switch.reset();
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!(*said.lock().unwrap(), ["debug", "info"]);
    }

    #[tokio::test]
    async fn a_filter_that_would_silence_the_log_by_mistake_is_refused_and_nothing_changes() {
        let (switch, said) = log();
        for (filter, lasting, words) in [
            ("debg", MINUTE, "\"debg\" is no level; expected error, warn"),
            ("info,alinas_csi", MINUTE, "\"alinas_csi\" is no level"),
            ("", MINUTE, "\"\" is no level"),
            ("a=b", MINUTE, "cannot be used: no"),
            (&"x".repeat(1001), MINUTE, "more than 1000 bytes"),
            ("debug", Duration::ZERO, "from 1 to 86400 s, not 0 s"),
            ("debug", LONGEST + MINUTE, "not 86460 s"),
        ] {
            let refusal = switch.change(filter, lasting).unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
        assert!(said.lock().unwrap().is_empty());
        for filter in ["INFO", "off", "info, alinas_csi::tunnel=debug", "h2=warn"] {
            switch.change(filter, MINUTE).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_told_what_is_shown_for_how_long_and_then() {
        let (switch, _) = log();
        let service = LogService(switch);
        let ask = async |filter: &str, seconds, reset| {
            let request = proto::SetRequest { filter: filter.to_owned(), seconds, reset };
            service.set(Request::new(request)).await.map(Response::into_inner)
        };
        let told = ask("debug", 900, false).await.unwrap();
        assert_eq!((told.process.as_str(), told.filter.as_str()), ("node", "debug"));
        assert_eq!(told.seconds_left, 900);
        assert_eq!(ask("", 0, false).await.unwrap(), told);
        assert_eq!(ask("debug", 1, true).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        let told = ask("", 0, true).await.unwrap();
        assert_eq!((told.filter.as_str(), told.seconds_left), ("info", 0));
    }
}
