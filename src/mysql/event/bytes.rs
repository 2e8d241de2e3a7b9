use super::error::{MalformedSnafu, ParseEventError, TruncatedSnafu};

/// Reads little-endian fields off a slice; every read is length-checked.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    event: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(event: &'static str, bytes: &'a [u8]) -> Self {
        Self { event, bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn malformed<T>(&self, reason: &'static str) -> Result<T, ParseEventError> {
        MalformedSnafu { event: self.event, at: self.at, reason }.fail()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ParseEventError> {
        let taken = self.rest().get(..count);
        let Some(taken) = taken else {
            return TruncatedSnafu { event: self.event, have: self.bytes.len() }.fail();
        };
        self.at += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseEventError> {
        let taken = self.take(N)?;
        match taken.try_into() {
            Ok(array) => Ok(array),
            Err(_) => self.malformed("a field is cut"),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, ParseEventError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ParseEventError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ParseEventError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u56(&mut self) -> Result<u64, ParseEventError> {
        let [a, b, c, d, e, f, g] = self.array()?;
        Ok(u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
    }

    pub(super) fn u64(&mut self) -> Result<u64, ParseEventError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, ParseEventError> {
        self.array().map(i64::from_le_bytes)
    }

    /// The classic protocol's length-encoded integer.
    pub(super) fn lenenc(&mut self) -> Result<u64, ParseEventError> {
        match self.u8()? {
            small @ 0..=250 => Ok(small.into()),
            252 => self.u16().map(u64::from),
            253 => {
                let [a, b, c] = self.array()?;
                Ok(u32::from_le_bytes([a, b, c, 0]).into())
            }
            254 => self.u64(),
            _ => self.malformed("a length is malformed"),
        }
    }

    /// A variable-length integer of MySQL's serialisation library: as many further bytes as the first has trailing
    /// ones, the value above them.
    pub(super) fn varlen(&mut self) -> Result<u64, ParseEventError> {
        let first = self.u8()?;
        let further = first.trailing_ones();
        let low = u64::from(first).checked_shr(further + 1).unwrap_or(0);
        let mut high = [0; 8];
        for (to, from) in high.iter_mut().zip(self.take(further as usize)?) {
            *to = *from;
        }
        // Below 8 further bytes the first gives 7 - further low bits; with 8 it gives none.
        let above = 7_u32.saturating_sub(further);
        Ok(low | u64::from_le_bytes(high) << above)
    }

    /// The same of a signed value: the lowest bit is the sign, the others the value or, when negative, its complement.
    pub(super) fn varlen_signed(&mut self) -> Result<i64, ParseEventError> {
        let raw = self.varlen()?;
        let magnitude = (raw >> 1).cast_signed();
        Ok(if raw & 1 == 0 { magnitude } else { !magnitude })
    }
}
