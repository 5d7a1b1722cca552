//! How state is written down: fixed fields, little-endian, one after the other.
//!
//! Everything is kept bit for bit, so that a restored baseline scores as the one that was saved.

/// Something with a fixed binary form.
pub(super) trait Packed: Sized {
    /// Appends itself.
    fn pack(&self, out: &mut Vec<u8>);
    /// Reads itself off the front. `None` when the bytes end early or cannot have been written by [`Packed::pack`].
    fn unpack(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! packed_numbers {
    ($($number:ty),*) => {$(
        impl Packed for $number {
            fn pack(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn unpack(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}

packed_numbers!(u8, u16, u32, u64, i64);

impl Packed for f32 {
    fn pack(&self, out: &mut Vec<u8>) {
        self.to_bits().pack(out);
    }
    fn unpack(from: &mut &[u8]) -> Option<Self> {
        u32::unpack(from).map(Self::from_bits).filter(|value| value.is_finite())
    }
}

impl Packed for f64 {
    fn pack(&self, out: &mut Vec<u8>) {
        self.to_bits().pack(out);
    }
    fn unpack(from: &mut &[u8]) -> Option<Self> {
        u64::unpack(from).map(Self::from_bits).filter(|value| value.is_finite())
    }
}

impl Packed for bool {
    fn pack(&self, out: &mut Vec<u8>) {
        u8::from(*self).pack(out);
    }
    fn unpack(from: &mut &[u8]) -> Option<Self> {
        match u8::unpack(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Packed + Copy + Default, const N: usize> Packed for [T; N] {
    fn pack(&self, out: &mut Vec<u8>) {
        for item in self {
            item.pack(out);
        }
    }
    fn unpack(from: &mut &[u8]) -> Option<Self> {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = T::unpack(from)?;
        }
        Some(items)
    }
}

/// Declares a struct together with its binary form: its fields in their order.
macro_rules! packed {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$about:meta])* $field_vis:vis $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$about])* $field_vis $field: $type),* }

        impl $crate::drift::codec::Packed for $name {
            fn pack(&self, out: &mut Vec<u8>) {
                $($crate::drift::codec::Packed::pack(&self.$field, out);)*
            }
            fn unpack(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::drift::codec::Packed::unpack(from)?),* })
            }
        }
    };
}
pub(super) use packed;
