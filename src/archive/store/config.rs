use std::path::PathBuf;

use secrecy::SecretString;

use super::protection::Lock;

/// Where an archive lives. Plain values; secrets are already resolved.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// A folder.
    Fs {
        /// The archive's root; made when a writer first needs it.
        root: PathBuf,
    },
    /// Amazon S3 or anything that speaks its protocol.
    S3(S3Config),
    /// Google Cloud Storage.
    Gcs(GcsConfig),
    /// Azure Blob Storage.
    Azblob(AzblobConfig),
}

/// An S3 bucket. Paths are used (`https://endpoint/bucket/key`) unless `virtual_host_style` is set.
#[derive(Clone, Debug, Default)]
pub struct S3Config {
    /// `https://…` or `http://…`; none is AWS's own for the region.
    pub endpoint: Option<String>,
    /// Region; many other servers accept any.
    pub region: String,
    /// Bucket; it must exist.
    pub bucket: String,
    /// Prefix of every key, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Static credentials: id. Without them the environment's (IRSA, instance role, …) are used.
    pub access_key: Option<String>,
    /// Static credentials: secret.
    pub secret_key: Option<SecretString>,
    /// Static credentials: session token.
    pub session_token: Option<SecretString>,
    /// `https://bucket.endpoint/key` instead of `https://endpoint/bucket/key`.
    pub virtual_host_style: bool,
    /// PEM of the authority that signed the endpoint's certificate, besides the public ones.
    pub ca_pem: Option<String>,
    /// What each object of the archive is locked with from the moment it exists; none: with what the bucket does by itself, if anything.
    pub lock: Option<Lock>,
}

/// A Google Cloud Storage bucket.
#[derive(Clone, Debug, Default)]
pub struct GcsConfig {
    /// Bucket; it must exist.
    pub bucket: String,
    /// Prefix of every key; may be empty.
    pub prefix: String,
    /// Other endpoint than Google's.
    pub endpoint: Option<String>,
    /// Service account key (JSON). Without it the environment's identity is used.
    pub service_account_json: Option<SecretString>,
}

/// An Azure Blob Storage container.
#[derive(Clone, Debug, Default)]
pub struct AzblobConfig {
    /// `https://<account>.blob.core.windows.net` or another.
    pub endpoint: String,
    /// Container; it must exist.
    pub container: String,
    /// Prefix of every key; may be empty.
    pub prefix: String,
    /// Storage account.
    pub account: Option<String>,
    /// Account key. Without it the environment's identity is used.
    pub account_key: Option<SecretString>,
}
