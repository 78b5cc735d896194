//! The FIPS build (cargo feature `fips`): rustls takes its cryptography from AWS-LC's FIPS module, and what is not
//! in it is refused.
//!
//! That is a property of the binary. It cannot be switched on where it was not built in, so there it is an error
//! to require it.

use crate::tls::config::provider;

/// This binary was built to use nothing but the module.
pub const BUILT_IN: bool = cfg!(feature = "fips");

/// Why the second backend is refused.
pub(super) const NO_OPENSSL: &str = "OpenSSL was asked for, and it is not part of the FIPS module that this build is \
     limited to; have the server offer TLS 1.3, or TLS 1.2 with ECDHE";

/// Why a process must not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FipsError {
    /// It is another build.
    #[error(
        "FIPS mode is required, and this binary was built without it; build it with \"--features fips\", or do not \
         require it"
    )]
    NotBuiltIn,
    /// The module has not passed its own tests, or is not what is linked.
    #[error(
        "this binary was built for FIPS mode, and its cryptographic module is not in that mode; do not use it"
    )]
    NotInForce,
}

/// Whether all of rustls' cryptography comes from the module.
#[must_use]
pub fn in_force() -> bool {
    BUILT_IN && aws_lc_rs::try_fips_mode().is_ok() && provider().fips()
}

/// To be asked before anything else; a binary that was built for FIPS mode requires it by itself.
///
/// # Errors
/// When it is required and not in force.
pub fn ensure(required: bool) -> Result<(), FipsError> {
    verdict(required, BUILT_IN, in_force())
}

fn verdict(required: bool, built_in: bool, in_force: bool) -> Result<(), FipsError> {
    match (built_in, in_force) {
        (false, _) if required => Err(FipsError::NotBuiltIn),
        (true, false) => Err(FipsError::NotInForce),
        (true, true) | (false, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_and_not_in_force_is_an_error_and_the_build_requires_it_by_itself() {
        for (required, built_in, in_force, expected) in [
            (false, false, false, Ok(())),
            (true, false, false, Err(FipsError::NotBuiltIn)),
            (false, true, false, Err(FipsError::NotInForce)),
            (true, true, false, Err(FipsError::NotInForce)),
            (false, true, true, Ok(())),
            (true, true, true, Ok(())),
        ] {
            assert_eq!(verdict(required, built_in, in_force), expected);
        }
    }

    #[test]
    fn the_mode_is_in_force_in_a_fips_build_and_in_no_other() {
        assert_eq!(in_force(), cfg!(feature = "fips"));
        assert_eq!(ensure(true).is_ok(), cfg!(feature = "fips"));
    }
}
