//! Who may log in at a fresh server: the restore while it is shut, root with the user's password once it is open.

use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use rand::Rng;
use rand::distr::Alphanumeric;
use secrecy::{ExposeSecret, SecretString};

use super::{Flavor, PORT};

/// The restore's account. A source has none of this name: neither loading accounts nor replaying `ALTER USER` locks the restore out.
const RESTORE_USER: &str = "tidemark-restore";
const PASSWORD_CHARS: usize = 32;

/// Passwords of one fresh server: letters and digits, which need no quoting anywhere.
pub struct Passwords {
    root: SecretString,
    restore: SecretString,
}

impl Passwords {
    /// New ones.
    pub fn random() -> Self {
        let random =
            || -> String { rand::rng().sample_iter(Alphanumeric).take(PASSWORD_CHARS).map(char::from).collect() };
        Self { root: SecretString::from(random()), restore: SecretString::from(random()) }
    }

    /// Known ones.
    #[cfg(test)]
    pub fn fixed(root: &str, restore: &str) -> Self {
        Self { root: SecretString::from(root), restore: SecretString::from(restore) }
    }

    /// The Secret of the restore, with what the server does at each start while it is shut.
    pub fn login(&self, metadata: ObjectMeta, flavor: Flavor) -> Secret {
        let password = self.restore.expose_secret();
        let init = init_sql(flavor, password);
        secret(metadata, [("username", RESTORE_USER), ("password", password), ("init.sql", &init)])
    }

    /// The Secret for people, with what the server does when it opens.
    pub fn root(&self, metadata: ObjectMeta, host: &str) -> Secret {
        let password = self.root.expose_secret();
        let client = format!("[client]\nuser=root\npassword={password}\n");
        let (port, open) = (PORT.to_string(), open_sql(password));
        let keys = [
            ("username", "root"),
            ("password", password),
            ("host", host),
            ("port", &port),
            ("client.cnf", &client),
            ("open.sql", &open),
        ];
        secret(metadata, keys)
    }
}

fn secret<const N: usize>(metadata: ObjectMeta, keys: [(&str, &str); N]) -> Secret {
    let string_data = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Secret { metadata, string_data: Some(string_data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

/// A statement a line. Nothing of it is logged: the restored history is the source's.
fn init_sql(flavor: Flavor, password: &str) -> String {
    let account = format!("'{RESTORE_USER}'@'127.0.0.1'");
    // To pass PROXY on, one must have it; and who runs MariaDB's init-file has not.
    let proxy = match flavor {
        Flavor::Mysql => format!("GRANT PROXY ON ''@'' TO {account} WITH GRANT OPTION;\n"),
        Flavor::Mariadb => format!(
            "REPLACE INTO mysql.proxies_priv (Host, User, Proxied_host, Proxied_user, With_grant, Grantor) VALUES ('127.0.0.1', \
             '{RESTORE_USER}', '', '', 1, '');\nFLUSH PRIVILEGES;\n"
        ),
    };
    format!(
        "SET SESSION sql_log_bin = 0;\n\
         CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}';\n\
         ALTER USER {account} IDENTIFIED BY '{password}';\n\
         GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;\n\
         {proxy}"
    )
}

/// Takes the restore's account away and gives root the user's password, wherever root may log in from: once, while that account is there.
/// A password that is changed later is left alone.
fn open_sql(password: &str) -> String {
    let mut sql = format!(
        "SET SESSION sql_log_bin = 0;\n\
         SET SESSION sql_mode = '';\n\
         SET SESSION group_concat_max_len = 1048576;\n\
         SET @once = (SELECT COUNT(*) FROM mysql.user WHERE User = '{RESTORE_USER}' AND Host = '127.0.0.1');\n"
    );
    let roots = format!(
        "(SELECT CONCAT('ALTER USER ', GROUP_CONCAT(QUOTE(User), '@', QUOTE(Host), \" IDENTIFIED BY '{password}'\" SEPARATOR ', '), ' \
         ACCOUNT UNLOCK') FROM mysql.user WHERE User = 'root')"
    );
    let statements = [
        format!("\"CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '{password}'\""),
        "\"GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION\"".to_owned(),
        roots,
        format!("\"DROP USER '{RESTORE_USER}'@'127.0.0.1'\""),
    ];
    for statement in statements {
        sql.push_str(&format!("SET @sql = IF(@once, {statement}, 'DO 0');\nPREPARE step FROM @sql;\nEXECUTE step;\n"));
    }
    sql
}
