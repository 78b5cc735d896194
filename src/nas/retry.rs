//! What to do after an attempt that failed, as a pure function: the one place that says what may be done twice.

use crate::nas::action::Repeat;
use crate::nas::fault::NasCause;
use crate::nas::http::HttpFault;
use crate::nas::refusal::Kind;

/// After so many the fault is a lasting one. Throttled attempts do not count: they are an order to wait.
const MOST_ATTEMPTS: u32 = 5;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Again, after a pause that grows.
    Again,
    /// Again when the service takes calls again.
    AgainWhenOpen,
    /// Again with credentials that are new.
    AgainWithOthers,
    /// It has failed.
    GiveUp,
}

/// How it went so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SoFar {
    /// Requests that were sent.
    pub(super) attempts: u32,
    /// Attempts that failed, without those that were throttled.
    pub(super) failed: u32,
    /// Other credentials have been tried already.
    pub(super) renewed: bool,
}

/// Decides.
pub(super) fn next(repeat: Repeat, cause: &NasCause, so_far: SoFar) -> Next {
    let in_time = so_far.failed < MOST_ATTEMPTS;
    let again = |fits: bool| if fits && in_time { Next::Again } else { Next::GiveUp };
    match cause {
        NasCause::Unreached(_) => again(true),
        NasCause::Unanswered(_) => again(repeat != Repeat::MakesTwo),
        NasCause::Refused(refusal) => match refusal.kind {
            Kind::Throttled => Next::AgainWhenOpen,
            // One that was replayed has come before: somebody on the way has sent it twice.
            Kind::ServerTrouble | Kind::Replayed => again(repeat != Repeat::MakesTwo),
            Kind::KeyUnknown | Kind::TokenInvalid | Kind::WrongSecret if !so_far.renewed => {
                Next::AgainWithOthers
            }
            Kind::KeyUnknown
            | Kind::TokenInvalid
            | Kind::WrongSecret
            | Kind::NotAllowed
            | Kind::ClockOff
            | Kind::NotFound
            | Kind::AtLimit
            | Kind::Busy
            | Kind::Wrong => Next::GiveUp,
        },
        NasCause::Credentials(_)
        | NasCause::Crowded { .. }
        | NasCause::Strange { .. }
        | NasCause::Unsendable(_) => Next::GiveUp,
    }
}

/// What a lost answer means for the call.
pub(super) fn lost(fault: HttpFault) -> NasCause {
    if fault.may_have_arrived() { NasCause::Unanswered(fault) } else { NasCause::Unreached(fault) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::nas::action::Action;
    use crate::nas::credentials::Credentials;
    use crate::nas::credentials::Origin;

    use super::*;

    fn refused(code: &str, status: u16) -> NasCause {
        let used = Credentials {
            access_key_id: "LTAI1".to_owned(),
            access_key_secret: "s".into(),
            security_token: None,
            expires: None,
            origin: Origin::Environment,
        };
        let body = format!(r#"{{"Code":"{code}","Message":"","RequestId":""}}"#);
        NasCause::of_answer(Action::CreateDir, status, body.as_bytes(), &used)
    }

    #[test]
    fn what_may_have_been_done_is_repeated_only_where_twice_is_once() {
        use Repeat::{Harmless, KnownByToken, MakesTwo};
        let late = lost(HttpFault::Late { deadline: Duration::from_secs(1) });
        let broken = lost(HttpFault::Broken { why: String::new() });
        let trouble = refused("ServiceUnavailable", 503);
        let replayed = refused("SignatureNonceUsed", 400);
        for cause in [&late, &broken, &trouble, &replayed] {
            for (repeat, then) in
                [(Harmless, Next::Again), (KnownByToken, Next::Again), (MakesTwo, Next::GiveUp)]
            {
                assert_eq!(next(repeat, cause, SoFar::default()), then, "{cause}");
                let often = SoFar { failed: MOST_ATTEMPTS, ..SoFar::default() };
                assert_eq!(next(repeat, cause, often), Next::GiveUp, "{cause}");
            }
        }
        let unreached = lost(HttpFault::Unreached { why: String::new() });
        assert_eq!(next(MakesTwo, &unreached, SoFar::default()), Next::Again);
    }

    #[test]
    fn refusals_are_repeated_where_time_or_other_credentials_help() {
        let (fresh, renewed) = (SoFar::default(), SoFar { attempts: 1, failed: 0, renewed: true });
        for (code, status, first, then) in [
            ("Throttling.User", 400, Next::AgainWhenOpen, Next::AgainWhenOpen),
            ("InvalidSecurityToken.Expired", 400, Next::AgainWithOthers, Next::GiveUp),
            ("InvalidAccessKeyId.Inactive", 403, Next::AgainWithOthers, Next::GiveUp),
            ("SignatureDoesNotMatch", 400, Next::AgainWithOthers, Next::GiveUp),
            ("NoPermission", 403, Next::GiveUp, Next::GiveUp),
            ("InvalidFileSystem.NotFound", 404, Next::GiveUp, Next::GiveUp),
            ("InvalidParameter", 400, Next::GiveUp, Next::GiveUp),
        ] {
            let cause = refused(code, status);
            assert_eq!(next(Repeat::MakesTwo, &cause, fresh), first, "{code}");
            assert_eq!(next(Repeat::MakesTwo, &cause, renewed), then, "{code}");
        }
    }
}
