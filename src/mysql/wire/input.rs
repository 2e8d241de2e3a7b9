use bytes::Buf;

use super::error::{Error, ServerError};

/// A cursor over one packet that never reads past its end.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

const SHORT: Error = Error::Malformed { what: "it ends too early" };

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(SHORT)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.rest.try_get_u8().map_err(|_| SHORT)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.rest.try_get_u16_le().map_err(|_| SHORT)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.rest.try_get_u32_le().map_err(|_| SHORT)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.rest.try_get_u64_le().map_err(|_| SHORT)
    }

    /// Bytes up to a NUL, which is passed over.
    pub(crate) fn nul_terminated(&mut self) -> Result<&'a [u8], Error> {
        let end = memchr::memchr(0, self.rest).ok_or(SHORT)?;
        let text = self.bytes(end)?;
        self.rest = self.rest.get(1..).unwrap_or_default();
        Ok(text)
    }

    pub(crate) fn lenenc_int(&mut self) -> Result<u64, Error> {
        match self.u8()? {
            n @ 0..=0xfa => Ok(n.into()),
            0xfc => Ok(self.u16()?.into()),
            0xfd => self.rest.try_get_uint_le(3).map_err(|_| SHORT),
            0xfe => self.u64(),
            _ => Err(Error::Malformed { what: "not a length" }),
        }
    }

    pub(crate) fn lenenc_bytes(&mut self) -> Result<&'a [u8], Error> {
        let n = self.lenenc_int()?;
        self.bytes(usize::try_from(n).map_err(|_| SHORT)?)
    }

    /// One field of a text-protocol row; `None` is SQL NULL.
    #[inline]
    pub(crate) fn field(&mut self) -> Result<Option<&'a [u8]>, Error> {
        match self.rest.first() {
            Some(0xfb) => {
                self.rest = self.rest.get(1..).unwrap_or_default();
                Ok(None)
            }
            _ => self.lenenc_bytes().map(Some),
        }
    }
}

pub(crate) fn put_lenenc_int(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=0xfa => out.push(n as u8),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(n as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&(n as u32).to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&n.to_le_bytes());
        }
    }
}

pub(crate) fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc_int(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads an ERR packet (first byte 0xff included).
pub(crate) fn parse_err(packet: &[u8]) -> Result<ServerError, Error> {
    let mut input = Input::new(packet);
    input.u8()?;
    let code = input.u16()?;
    let mut sqlstate = String::new();
    if input.rest().first() == Some(&b'#') {
        input.u8()?;
        sqlstate = String::from_utf8_lossy(input.bytes(5)?).into_owned();
    }
    Ok(ServerError { code, sqlstate, message: String::from_utf8_lossy(input.rest()).into_owned() })
}
