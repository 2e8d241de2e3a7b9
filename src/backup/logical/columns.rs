//! How each column is read so that no bit is lost, and how `LOAD DATA` takes it back.
//!
//! Rows are read with [`AS_STORED`](crate::mysql::quote::AS_STORED), `time_zone = '+00:00'` and an empty `sql_mode`.

use super::json;
use crate::model::Flavor;
use crate::mysql::quote::identifier;

/// What `information_schema.COLUMNS` says of a column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnInfo {
    /// `COLUMN_NAME`.
    pub name: String,
    /// `DATA_TYPE`, lower case.
    pub data_type: String,
    /// `COLUMN_TYPE`.
    pub column_type: String,
    /// `CHARACTER_SET_NAME`; empty for none.
    pub charset: String,
    /// `EXTRA`.
    pub extra: String,
    /// `GENERATION_EXPRESSION`; empty for none.
    pub generation: String,
    /// Whether it is part of the primary key.
    pub is_key: bool,
}

impl ColumnInfo {
    /// An ENUM or SET one of whose members may have been printed with `?` for a character.
    pub fn may_be_unprintable(&self) -> bool {
        matches!(self.data_type.as_str(), "enum" | "set") && self.column_type.contains('?') && self.is_wide()
    }

    /// Whether it may hold characters that definitions are not printed in.
    pub fn is_wide(&self) -> bool {
        matches!(self.charset.as_str(), "utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030")
    }
}

/// A table's select list and its counterpart for `LOAD DATA`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Expressions to select; those past `fields` are only in the checksum.
    pub select: Vec<String>,
    /// Fields of a chunk's row.
    pub fields: usize,
    /// Column list and `SET` clause.
    pub load: String,
    /// The same for a table where a document of JSON needed a tail (see [`json`]).
    pub load_typed: String,
    /// Where documents of JSON and their probes are among the fields.
    pub json: Vec<JsonColumn>,
    /// Where the primary key's columns are among the fields.
    pub key: Vec<(usize, String)>,
    /// Whether the server's truncation warning (1265) says nothing: an ENUM's index 0 raises it.
    pub truncation_is_noise: bool,
}

/// A JSON column of MySQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonColumn {
    /// The column's name.
    pub name: String,
    /// Number of the field with its text.
    pub field: usize,
    /// Number of the field with what the probe says.
    pub probe: usize,
}

/// Decides for all columns of a table. `versioned` (MariaDB) adds the period's hidden columns if no column is one.
pub fn shape(flavor: Flavor, columns: &[ColumnInfo], versioned: bool) -> Shape {
    let mut shape = Shape::default();
    let mut checksum_only = Vec::new();
    let (mut targets, mut sets, mut typed) = (Vec::new(), Vec::new(), Vec::new());
    let mut period = false;
    for column in columns {
        let name = identifier(&column.name);
        let is_period = matches!(column.generation.as_str(), "ROW START" | "ROW END");
        period |= is_period;
        if column.extra.contains("VIRTUAL GENERATED") {
            continue;
        }
        let select = select(column, &name);
        if column.extra.contains("STORED GENERATED") && !(versioned && is_period) || column.extra.contains("PERSISTENT")
        {
            checksum_only.push(select);
            continue;
        }
        if column.is_key {
            shape.key.push((shape.select.len(), column.name.clone()));
        }
        if flavor == Flavor::Mysql && column.data_type == "json" {
            shape.json.push(JsonColumn {
                name: column.name.clone(),
                field: shape.select.len(),
                probe: checksum_only.len(),
            });
            checksum_only.push(json::probe(&column.name));
        }
        shape.select.push(select);
        shape.truncation_is_noise |= column.data_type == "enum";
        match load(flavor, column, &format!("@v{}", targets.len())) {
            None => targets.push(name),
            Some(expression) => {
                let variable = format!("@v{}", targets.len());
                let typed_expression =
                    if column.data_type == "json" { json::load(&variable) } else { expression.clone() };
                typed.push(format!("{name} = {typed_expression}"));
                sets.push(format!("{name} = {expression}"));
                targets.push(variable);
            }
        }
    }
    if versioned && !period {
        for hidden in ["ROW_START", "ROW_END"] {
            shape.select.push(hidden.to_owned());
            targets.push(hidden.to_owned());
        }
    }
    shape.fields = shape.select.len();
    shape.select.append(&mut checksum_only);
    for column in &mut shape.json {
        column.probe += shape.fields;
    }
    let clause = |sets: &[String]| {
        let set = if sets.is_empty() { "" } else { " SET " };
        format!("({}){set}{}", targets.join(","), sets.join(", "))
    };
    shape.load = clause(&sets);
    shape.load_typed = clause(&typed);
    shape
}

fn select(column: &ColumnInfo, name: &str) -> String {
    match column.data_type.as_str() {
        // Six digits are printed otherwise, and a fixed number of decimals where one is declared.
        "float" => format!("CAST({name} AS DOUBLE)"),
        "double" if column.column_type.contains('(') => format!("CAST({name} AS DOUBLE)"),
        // The text is ambiguous: '' is index 0 and may be a member; members may differ in case only.
        "enum" | "set" => format!("CAST({name} AS UNSIGNED)"),
        _ => name.to_owned(),
    }
}

fn load(flavor: Flavor, column: &ColumnInfo, variable: &str) -> Option<String> {
    match (flavor, column.data_type.as_str()) {
        // JSON refuses binary text; these take it for their 4 or 16 bytes.
        (Flavor::Mysql, "json") | (Flavor::Mariadb, "inet4" | "inet6" | "uuid") => {
            Some(format!("CONVERT({variable} USING utf8mb4)"))
        }
        // A member's number in text is taken for the member, unless a member's name looks like a number.
        (_, "enum" | "set") if !numbers_are_unambiguous(column) => Some(format!("CAST({variable} AS UNSIGNED)")),
        _ => None,
    }
}

/// Whether a number in text cannot be taken for a member: no member is a number under any collation.
fn numbers_are_unambiguous(column: &ColumnInfo) -> bool {
    let wide = matches!(column.charset.as_str(), "ucs2" | "utf16" | "utf16le" | "utf32");
    let members = column.column_type.split_once("('").map_or("", |(_, rest)| rest).trim_end_matches("')");
    let numeric = |member: &str| {
        member.chars().any(|c| c.is_numeric() && !c.is_ascii())
            || member.chars().all(|c| c.is_numeric() || c.is_whitespace())
    };
    !wide && !column.may_be_unprintable() && !members.split("','").any(numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, column_type: &str) -> ColumnInfo {
        let data_type = column_type.split(['(', ' ']).next().unwrap_or_default().to_owned();
        ColumnInfo { name: name.into(), data_type, column_type: column_type.into(), ..Default::default() }
    }

    #[test]
    fn types_whose_text_loses_bits_are_read_and_loaded_in_another_form() {
        let mut stored = column("g", "float");
        stored.extra = "STORED GENERATED".into();
        let mut hidden = column("h", "int");
        hidden.extra = "VIRTUAL GENERATED".into();
        let columns = [
            column("f", "float(7,3)"),
            stored,
            column("e", "enum('a','b')"),
            hidden,
            column("e2", "enum('1','2')"),
            column("j", "json"),
            column("o`d", "int"),
        ];
        let shape = shape(Flavor::Mysql, &columns, false);
        assert_eq!(shape.fields, 5);
        assert_eq!(shape.select[0], "CAST(`f` AS DOUBLE)");
        assert_eq!(shape.select[5], "CAST(`g` AS DOUBLE)");
        assert_eq!(shape.json, [JsonColumn { name: "j".into(), field: 3, probe: 6 }]);
        assert_eq!(shape.select[6], json::probe("j"));
        assert_eq!(
            shape.load,
            "(`f`,`e`,@v2,@v3,`o``d`) SET `e2` = CAST(@v2 AS UNSIGNED), `j` = CONVERT(@v3 USING utf8mb4)"
        );
    }

    #[test]
    fn the_history_of_a_versioned_table_is_read_and_loaded() {
        let mut start = column("s", "timestamp(6)");
        start.extra = "STORED GENERATED".into();
        start.generation = "ROW START".into();
        let mut end = start.clone();
        (end.name, end.generation) = ("e".into(), "ROW END".into());
        assert_eq!(shape(Flavor::Mariadb, &[column("a", "int"), start, end], true).load, "(`a`,`s`,`e`)");
        assert_eq!(shape(Flavor::Mariadb, &[column("a", "int")], true).load, "(`a`,ROW_START,ROW_END)");
    }
}
