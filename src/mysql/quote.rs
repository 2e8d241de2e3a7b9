//! Names and texts inside SQL.

use crate::model::Flavor;

/// The statement that makes text come and go as it is stored. The collation is not that of bytes: MySQL reads a table's partitions with it, and
/// would take bounds that are text for other ones, or refuse to open the table.
pub const AS_STORED: &str =
    "SET character_set_client = binary, character_set_results = binary, collation_connection = utf8mb4_general_ci";

/// `` `name` ``, with backticks doubled.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `schema`.`name` ``.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// A text literal that means the same under any `sql_mode` and connection character set, and finds names by index in
/// `information_schema`.
pub fn text(value: &str) -> String {
    if value.is_empty() { "_utf8mb3''".to_owned() } else { format!("_utf8mb3 x'{}'", hex::encode(value)) }
}

/// A text literal for statements that take no expression; the session's `sql_mode` must know backslashes.
pub fn plain_text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A statement without what quotes names in it: flavors and versions print that in several ways.
pub fn bare(sql: &[u8]) -> Vec<u8> {
    sql.iter().copied().filter(|byte| !b"'`\\".contains(byte)).collect()
}

/// `` `user`@`host` ``; a MariaDB role has no host.
pub fn account(user: &str, host: &str) -> String {
    if host.is_empty() { identifier(user) } else { format!("{}@{}", identifier(user), identifier(host)) }
}

/// The same on MySQL, where an empty host is another one than none.
pub fn account_of(flavor: Flavor, user: &str, host: &str) -> String {
    match flavor {
        Flavor::Mysql if host.is_empty() => {
            format!("{}@''", if user.is_empty() { "''".to_owned() } else { identifier(user) })
        }
        _ => account(user, host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_names_are_doubled() {
        assert_eq!(qualified("a`b", "c\nd"), "`a``b`.`c\nd`");
        assert_eq!(text("é'"), "_utf8mb3 x'c3a927'");
        assert_eq!(plain_text("it's \\"), "'it''s \\\\'");
        assert_eq!(account("o`k", "%"), "`o``k`@`%`");
        assert_eq!(account_of(Flavor::Mysql, "a", ""), "`a`@''");
        assert_eq!(account_of(Flavor::Mariadb, "role", ""), "`role`");
    }
}
