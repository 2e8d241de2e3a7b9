use super::connection::Connection;
use super::error::Error;
use super::input::{Input, parse_err};

/// One column of a result, as the server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name in the result.
    pub name: String,
    /// Protocol type number, for example 0xfd for VARCHAR (`mysql_common::constants::ColumnType`).
    pub column_type: u8,
    /// Flags (`mysql_common::constants::ColumnFlags`): 1 NOT NULL, 2 primary key, 32 unsigned, 128 binary …
    pub flags: u16,
    /// Collation id; 63 is binary.
    pub collation: u16,
    /// Longest value in bytes, as displayed.
    pub max_bytes: u32,
    /// Digits after the decimal point.
    pub decimals: u8,
}

impl Column {
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, Error> {
        let mut input = Input::new(packet);
        for _ in 0..4 {
            input.lenenc_bytes()?;
        }
        let name = String::from_utf8_lossy(input.lenenc_bytes()?).into_owned();
        input.lenenc_bytes()?;
        input.lenenc_int()?;
        let collation = input.u16()?;
        let max_bytes = input.u32()?;
        Ok(Self { name, collation, max_bytes, column_type: input.u8()?, flags: input.u16()?, decimals: input.u8()? })
    }
}

/// One row of the text protocol, lent from the connection's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    payload: &'a [u8],
}

impl<'a> Row<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { payload }
    }

    /// The raw row packet: each field a length and its bytes, or 0xfb for NULL.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The fields in order; `None` is SQL NULL. An `Err` means the server sent a broken row.
    pub fn fields(&self) -> Fields<'a> {
        Fields { input: Input::new(self.payload) }
    }
}

/// Iterates over a [`Row`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    input: Input<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Option<&'a [u8]>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let field = self.input.field();
        if field.is_err() {
            self.input = Input::new(&[]);
        }
        Some(field)
    }
}

/// A result read row by row, in bounded memory. Dropped before its end, the connection cannot be used again.
#[derive(Debug)]
pub struct RowStream<'c> {
    connection: &'c mut Connection,
    columns: Vec<Column>,
    max_row_bytes: u64,
    ended: bool,
}

impl<'c> RowStream<'c> {
    pub(crate) fn new(connection: &'c mut Connection, columns: Vec<Column>, max_row_bytes: u64) -> Self {
        Self { connection, columns, max_row_bytes, ended: false }
    }

    /// The result's columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The next row, valid until the next call; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Row<'_>>, Error> {
        if self.ended {
            return Ok(None);
        }
        let packet = self.connection.reader.read(&mut self.connection.io, self.max_row_bytes).await?;
        match packet.first() {
            Some(0xfe) if packet.len() < 9 => {
                self.ended = true;
                self.connection.in_exchange = false;
                Ok(None)
            }
            Some(0xff) => {
                self.ended = true;
                self.connection.in_exchange = false;
                Err(Error::Server { doing: "reading rows".to_owned(), source: parse_err(packet)? })
            }
            Some(_) => Ok(Some(Row::new(packet))),
            None => Err(Error::Malformed { what: "a row without a field" }),
        }
    }
}
