//! A logarithm that is quick and the same on every machine: a saved baseline scores alike wherever it is
//! restored.

use std::f32::consts::{LOG10_2, SQRT_2};

/// The decimal logarithm of a positive normal number, to 1e-4.
pub(super) fn log10(x: f32) -> f32 {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let exponent = f32::from(u8::try_from((bits >> 23) & 0xFF).unwrap_or(0)) - 127.0;
    // The mantissa, from 1 to 2, shifted to where a polynomial in one third of the range is most exact.
    let m = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000);
    let t = (m - SQRT_2) / (m + SQRT_2);
    let t2 = t * t;
    // log2(m) = 1/2 + 2/ln 2 · atanh(t)
    let log2 = exponent + 0.5 + t * (2.885_39 + t2 * (0.961_8 + t2 * 0.598));
    log2 * LOG10_2
}

#[cfg(test)]
mod tests {
    use super::log10;

    #[test]
    fn is_exact_enough() {
        let mut x = 1e-30_f32;
        while x < 1e30 {
            assert!((log10(x) - x.log10()).abs() < 1e-4, "{x}: {} {}", log10(x), x.log10());
            x *= 1.01;
        }
        assert!(log10(0.0) < -37.0);
    }
}
