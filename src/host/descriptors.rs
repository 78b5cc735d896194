//! How many descriptors this process may have open.

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

/// Raises the limit to what the system allows without a privilege (getrlimit(2), RLIMIT_NOFILE), and answers it;
/// none is no limit. A shell or a container runtime often gives 1024, for programs that use select(2).
///
/// A limit that cannot be raised stays; the answer says how it is.
pub fn allow_as_many_as_possible() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return before.current;
    }
    let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => before.maximum,
        Err(error) => {
            tracing::warn!(%error, limit = before.current, "failed to raise the limit of descriptors");
            before.current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_highest_that_needs_no_privilege() {
        let highest = getrlimit(Resource::Nofile).maximum;
        assert_eq!(allow_as_many_as_possible(), highest);
        assert_eq!(getrlimit(Resource::Nofile).current, highest);
    }
}
