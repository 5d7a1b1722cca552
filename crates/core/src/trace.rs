//! The caller's place in its own trace: W3C Trace Context, level 1.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A `traceparent`: in which trace, below which span, and whether that trace is recorded by the caller. Text:
/// `00-<32 hex>-<16 hex>-<2 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl Traceparent {
    /// Reads a header's value; `None` where it is malformed, as the standard has it: such a one is ignored, never an
    /// error. Of later versions the part that this one knows is read.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let [version] = hex(bytes.get(..2)?)?;
        let ended = match version {
            0xFF => false,
            0 => bytes.len() == 55,
            _ => matches!(bytes.get(55), None | Some(b'-')),
        };
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let trace_id: [u8; 16] = hex(bytes.get(3..35)?)?;
        let span_id: [u8; 8] = hex(bytes.get(36..52)?)?;
        let [flags] = hex(bytes.get(53..55)?)?;
        let valid = ended && dashes && trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, flags })
    }

    /// The trace, 32 lower-case hexadecimal digits.
    pub fn trace_id(&self) -> String {
        crate::fingerprint::hex(&self.trace_id)
    }

    /// The span that the caller is in, 16 lower-case hexadecimal digits.
    pub fn span_id(&self) -> String {
        crate::fingerprint::hex(&self.span_id)
    }

    /// Whether the caller records its trace.
    pub const fn sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// Lower-case digits only, as the standard wants it.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(*high)? << 4 | value(*low)?;
    }
    (digits.len() == 2 * N).then_some(out)
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id(), self.span_id(), self.flags)
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Traceparent {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// For a member that is optional: what is malformed is none.
///
/// # Errors
/// When it is neither a text nor `null`.
pub fn lenient<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Traceparent>, D::Error> {
    let text = Option::<std::borrow::Cow<'_, str>>::deserialize(d)?;
    Ok(text.and_then(|text| Traceparent::parse(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn is_read_as_the_standard_says() {
        let trace = Traceparent::parse(GOOD).unwrap();
        assert_eq!(trace.to_string(), GOOD);
        assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((trace.span_id().as_str(), trace.sampled()), ("b7ad6b7169203331", true));
        assert!(!Traceparent::parse(&GOOD.replace("-01", "-02")).unwrap().sampled());
        // A later version may have more, after a dash.
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(Traceparent::parse(&later), Some(trace));
        assert_eq!(Traceparent::parse(&format!("{later}-what-the-future-holds")), Some(trace));
    }

    #[test]
    fn what_is_malformed_is_none() {
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replacen("00", "ff", 1),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            format!("{}.x", GOOD.replacen("00", "cc", 1)),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace('-', "_"),
            GOOD.replace("b7ad", "b7ax"),
            "é".repeat(28),
        ];
        for text in bad.iter().map(String::as_str).chain((0..GOOD.len()).filter_map(|end| GOOD.get(..end))) {
            assert_eq!(Traceparent::parse(text), None, "{text}");
        }
    }
}
