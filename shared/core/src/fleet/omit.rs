//! Which fields a stored row leaves out.

pub(super) const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The same of a number of workers.
pub(super) const fn is_nobody(n: &u32) -> bool {
    *n == 0
}

pub(super) const fn is_false(flag: &bool) -> bool {
    !*flag
}
