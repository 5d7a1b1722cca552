//! tests
pub(super) fn point() {}
