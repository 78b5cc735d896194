//! The side of the child process: it does one job after the other until nobody has one.

use std::io;
use std::io::BufRead;
use std::io::Write;
use std::process::ExitCode;

use rustix::process::Signal;
use rustix::process::set_parent_process_death_signal;

use super::Failure;
use super::Said;
use super::crew::READY;
use crate::host::mount_syscalls;

/// Reads jobs from standard input, a line each, and writes an answer to each of them to standard output, until the
/// input ends.
#[must_use]
pub fn child_main() -> ExitCode {
    let served = die_with_parent().and_then(|()| serve(io::stdin().lock(), io::stdout().lock()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Where the parent has ended already, the input ends before there is a job.
fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

fn serve(jobs: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    answers.write_all(READY)?;
    answers.flush()?;
    for job in jobs.lines() {
        let said = answer_to(&job?);
        serde_json::to_writer(&mut answers, &said)?;
        answers.write_all(b"\n")?;
        answers.flush()?;
    }
    Ok(())
}

fn answer_to(job: &str) -> Said {
    let mut remarks = Vec::new();
    let answer = match serde_json::from_str(job) {
        Ok(job) => mount_syscalls::perform(&job, &mut remarks),
        Err(error) => Err(Failure::Worker(format!("it was given no job: {error}"))),
    };
    Said { answer, remarks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::worker::Done;
    use crate::host::worker::Job;

    #[test]
    fn every_line_has_its_answer_and_the_end_of_the_input_is_the_end() {
        let check = serde_json::to_string(&Job::CheckTarget { target: "/".into() }).unwrap();
        let jobs = format!("{check}\nno job\n{check}\n");
        let mut answers = Vec::new();
        serve(jobs.as_bytes(), &mut answers).unwrap();
        let mut lines = answers.strip_prefix(READY).unwrap().lines().map(Result::unwrap);
        let mut next = || serde_json::from_str::<Said>(&lines.next().unwrap()).unwrap().answer;
        assert_eq!(next(), Ok(Done::Done));
        assert!(matches!(next(), Err(Failure::Worker(_))));
        assert_eq!(next(), Ok(Done::Done));
        assert!(lines.next().is_none());
    }
}
