use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which server family the source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlavorChoice {
    /// Ask the server.
    #[default]
    Auto,
    /// MySQL or Percona Server 8.0 and later.
    Mysql,
    /// MariaDB 10.11 and later.
    Mariadb,
}

/// The server to protect and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.host), has(self.hosts), has(self.serviceRef), has(self.selector)].filter(x, x).size() == 1", "name the server by exactly one of host, hosts, serviceRef and selector"))]
#[x_kube(validation = ("!has(self.host) || (self.host.matches(r'^[^/@\\s]+$') && self.host.split(':').size() != 2)", "host is a name or an address, without scheme; the port is written as port"))]
#[x_kube(validation = ("!has(self.hosts) || self.hosts.all(host, host.matches(r'^[^/@\\s]+$') && host.split(':').size() != 2)", "hosts are names or addresses, without scheme; the port is written as port"))]
pub struct SourceSpec {
    /// `mysql`, `mariadb`, or `auto` to ask the server. A server of another flavor than stated is refused.
    #[serde(default)]
    pub flavor: FlavorChoice,
    /// The server's name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,
    /// The servers of one replication group, best first: the first that can be reached and is not read-only is used. A name with several
    /// addresses stands for a server at each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 253)))]
    pub hosts: Option<Vec<String>>,
    /// A Service in the cluster in front of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<ServiceRef>,
    /// The pods of one replication group, in this namespace: the one that is not read-only is used, and the next one after a failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<PodSelector>,
    /// TCP port.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Secret with the keys `username` and `password`.
    pub credentials_secret_ref: ObjectRef,
    /// Encryption of the connection.
    #[serde(default)]
    pub tls: TlsSpec,
    /// Read full backups from a replica where one of `hosts` is one.
    #[serde(default)]
    pub prefer_replica: bool,
}

/// Encryption of a connection to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.mode != 'VerifyCA' || has(self.caSecretRef)", "VerifyCA needs caSecretRef: the certificate authority to trust"))]
pub struct TlsSpec {
    /// `VerifyIdentity`: encrypted, and the certificate must be signed by `caSecretRef` (without one: by one of the web's public
    /// authorities) and name the host. `VerifyCA`: it must be signed by `caSecretRef`, for whatever host; for the certificates that MySQL makes
    /// for itself. `Required`: encrypted, the certificate not checked. `Disabled`: plain text.
    #[serde(default)]
    pub mode: TlsMode,
    /// Secret that holds the certificate authority in PEM form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// How much of a TLS connection is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// Plain text.
    Disabled,
    /// Encrypted; the certificate is not checked.
    Required,
    /// Encrypted; the certificate is signed by the given authority.
    VerifyCA,
    /// Encrypted; the certificate is signed by a trusted authority and names the host.
    #[default]
    VerifyIdentity,
}

/// A Service in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Name of the Service.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its namespace; the policy's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Pods, by their labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// A pod that has all of these labels is meant.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

/// An object in the same namespace (or the same file), by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Name of the object.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// One key of a Secret in the same namespace (or the same file).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Key within the Secret; `ca.crt` for a certificate authority, `identity` for an age identity when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

fn default_port() -> u16 {
    3306
}
