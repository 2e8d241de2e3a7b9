//! Where a server is and how to log in to it.

use std::net::IpAddr;
use std::time::Duration;

use secrecy::SecretString;

/// One server and the account to use on it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name or IP address.
    pub host: String,
    /// The one of the host's addresses that is meant; none: whichever answers first.
    pub at: Option<IpAddr>,
    /// TCP port, usually 3306.
    pub port: u16,
    /// Account name (without its `@host` part).
    pub user: String,
    /// The account's password; empty for none.
    pub password: SecretString,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// Bound on reaching the server and logging in.
    pub connect_timeout: Duration,
}

/// How a connection is encrypted and the server's certificate checked.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// What is asked of the server.
    pub mode: TlsMode,
    /// PEM text of the certificate authorities to trust; without it the public web's roots are.
    pub ca_pem: Option<String>,
}

/// What is asked of the server's TLS. The names are the stock clients' `--ssl-mode` values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// No encryption.
    Disabled,
    /// Encryption with whatever certificate the server shows: no protection from an active attacker.
    Required,
    /// The certificate must chain to a trusted authority; its name is not looked at.
    VerifyCa,
    /// The certificate must chain to a trusted authority and carry the host's name.
    #[default]
    VerifyIdentity,
}

impl Endpoint {
    /// `host:port`, with brackets around an IPv6 address, and the one address that is meant behind it.
    pub fn address(&self) -> String {
        let name = if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        match self.at {
            Some(at) => format!("{name} ({at})"),
            None => name,
        }
    }

    /// What to connect to.
    pub fn target(&self) -> String {
        self.at.map_or_else(|| self.host.trim_matches(['[', ']']).to_owned(), |at| at.to_string())
    }
}
