//! R1: many mounts, many at once, and a dead server among them that delays nobody.

use crate::Steps;

pub(crate) const TESTS: &[Steps] = &[];
