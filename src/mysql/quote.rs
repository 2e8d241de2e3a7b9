//! Names and texts inside SQL.

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

/// `` `user`@`host` ``; a MariaDB role has no host.
pub fn account(user: &str, host: &str) -> String {
    if host.is_empty() { identifier(user) } else { format!("{}@{}", identifier(user), identifier(host)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_names_are_doubled() {
        assert_eq!(qualified("a`b", "c\nd"), "`a``b`.`c\nd`");
        assert_eq!(text("é'"), "_utf8mb3 x'c3a927'");
        assert_eq!(account("o`k", "%"), "`o``k`@`%`");
    }
}
