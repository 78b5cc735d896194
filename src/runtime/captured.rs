//! For tests: a log that is kept.

use std::io;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;

use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;

/// Beside it there is never one log alone in this process: of one alone, tracing asks only the thread that comes first
/// to a line whether it is wanted, and another test's thread would say no for all.
static ANOTHER: OnceLock<Dispatch> = OnceLock::new();

/// A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Default for Captured {
    fn default() -> Self {
        ANOTHER.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
        Self(Arc::default())
    }
}

impl Captured {
    /// Everything that was written.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
