//! `alinas-csi explain`: what a mount option or the name of a message means, from the tables that the program reads.

use clap::Args;

use crate::app::doctor;
use crate::app::messages;
use crate::app::metrics;
use crate::kubernetes::reason;
use crate::model::nfs_option::explain;
use crate::model::nfs_option::explain::UnknownOption;

/// What to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A mount option in any spelling; with a value (rsize=5000), also what becomes of it. Or the name that a message
    /// ends in, as in nfs.no-answer.
    #[arg(required_unless_present_any = ["all", "markdown", "metrics", "doctor", "events", "messages"])]
    option: Option<String>,
    /// Lists every option, a line each.
    #[arg(long, conflicts_with = "option")]
    all: bool,
    /// Prints the document about all options, docs/mount-options.md.
    #[arg(long, conflicts_with_all = ["option", "all"])]
    markdown: bool,
    /// Prints the document about all metrics, docs/metrics.md.
    #[arg(long, conflicts_with_all = ["option", "all", "markdown"])]
    metrics: bool,
    /// Prints the document about the checks of `doctor`, docs/doctor.md.
    #[arg(long, conflicts_with_all = ["option", "all", "markdown", "metrics"])]
    doctor: bool,
    /// Prints the document about all events, docs/events.md.
    #[arg(long, conflicts_with_all = ["option", "all", "markdown", "metrics", "doctor"])]
    events: bool,
    /// Prints the document about all messages that have a name, docs/messages.md.
    #[arg(long, conflicts_with_all = ["option", "all", "markdown", "metrics", "doctor", "events"])]
    messages: bool,
}

/// The text to print.
///
/// # Errors
/// When it is in no table; names the nearest option.
pub fn answer(arguments: &ExplainArgs) -> Result<String, UnknownOption> {
    match &arguments.option {
        Some(name) => {
            explain::explain(name).or_else(|unknown| messages::explain(name).ok_or(unknown))
        }
        None if arguments.markdown => Ok(explain::page()),
        None if arguments.metrics => Ok(metrics::family::page()),
        None if arguments.doctor => Ok(doctor::page()),
        None if arguments.events => Ok(reason::page()),
        None if arguments.messages => Ok(messages::page()),
        None => Ok(explain::summary()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: ExplainArgs,
    }

    fn ask(words: &[&str]) -> Result<String, String> {
        let line = std::iter::once("explain").chain(words.iter().copied());
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        answer(&line.arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn one_option_all_of_them_or_the_document_are_printed() {
        assert!(ask(&["nfsvers"]).unwrap().starts_with("vers=VERSION"));
        assert!(ask(&["--all"]).unwrap().contains("\nrsize=NUMBER "));
        assert!(ask(&["--markdown"]).unwrap().starts_with("# Mount options\n"));
        assert!(ask(&["nfs.no-answer"]).unwrap().starts_with("nfs.no-answer ("));
        assert!(ask(&["--messages"]).unwrap().contains("| `nfs.export-missing` | tunnel |"));
    }

    #[test]
    fn an_option_that_nobody_knows_and_no_question_at_all_are_refused() {
        assert!(ask(&["rsise"]).unwrap_err().ends_with("did you mean \"rsize\"?"));
        assert!(ask(&[]).is_err() && ask(&["ro", "--all"]).is_err());
    }

    /// Renewed by `alinas-csi explain --markdown > docs/mount-options.md`.
    #[test]
    fn the_document_about_mount_options_is_what_the_table_says() {
        let committed = include_str!("../../docs/mount-options.md");
        assert!(committed == explain::page(), "docs/mount-options.md is old; renew it (see above)");
    }
}
