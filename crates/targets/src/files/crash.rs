//! Where a rollback may be cut off, and the test that cuts it off everywhere.

/// Between any two steps. Nothing, but in the test of crashes.
pub(super) fn point() {
    #[cfg(test)]
    tests::die_if_it_is_time();
}

#[cfg(test)]
mod tests;
