use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{ObjectRef, SecretKeyRef};

/// Where an archive lives: exactly one of the stores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.s3), has(self.gcs), has(self.azblob), has(self.fs)].filter(x, x).size() == 1", "name exactly one store: s3, gcs, azblob or fs"))]
pub struct StorageSpec {
    /// Amazon S3 and every store that speaks its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Spec>,
    /// Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsSpec>,
    /// Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azblob: Option<AzblobSpec>,
    /// A folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs: Option<FsSpec>,
}

/// A bucket of an S3 store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.endpoint) || self.endpoint.startsWith('https://') || self.endpoint.startsWith('http://')", "an endpoint is an address: write https://HOST[:PORT]"))]
pub struct S3Spec {
    /// The bucket; it must exist.
    #[schemars(length(min = 3))]
    pub bucket: String,
    /// Folder within the bucket. One archive per prefix; one source per archive.
    #[serde(default)]
    pub prefix: String,
    /// The bucket's region; `us-east-1` for stores that have none.
    #[serde(default = "default_region")]
    pub region: String,
    /// Address of a store other than Amazon's, for example `https://minio.example:9000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint: Option<String>,
    /// Secret with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`). Without it the
    /// process's own identity is used: environment, web identity token or instance metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<ObjectRef>,
    /// Secret with the certificate authority (PEM) that signed the endpoint's certificate, besides the machine's own authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Address the bucket as `https://bucket.host/` instead of `https://host/bucket/`.
    #[serde(default)]
    pub virtual_host_style: bool,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.endpoint) || self.endpoint.startsWith('https://') || self.endpoint.startsWith('http://')", "an endpoint is an address: write https://HOST[:PORT]"))]
pub struct GcsSpec {
    /// The bucket; it must exist.
    #[schemars(length(min = 3))]
    pub bucket: String,
    /// Folder within the bucket. One archive per prefix; one source per archive.
    #[serde(default)]
    pub prefix: String,
    /// Address of a store other than Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint: Option<String>,
    /// Secret with the key `credentials.json` (a service account's key). Without it the process's own identity is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<ObjectRef>,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.endpoint) || self.endpoint.startsWith('https://') || self.endpoint.startsWith('http://')", "an endpoint is an address: write https://HOST[:PORT]"))]
pub struct AzblobSpec {
    /// The container; it must exist.
    #[schemars(length(min = 3))]
    pub container: String,
    /// Folder within the container. One archive per prefix; one source per archive.
    #[serde(default)]
    pub prefix: String,
    /// The storage account.
    #[schemars(length(min = 1))]
    pub account: String,
    /// Address of the store; `https://<account>.blob.core.windows.net` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint: Option<String>,
    /// Secret with the key `AZURE_STORAGE_ACCOUNT_KEY`. Without it the process's own identity is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<ObjectRef>,
}

/// A folder on a disk or a mounted volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.claimName) || self.path.startsWith('/')", "a claim is mounted at an absolute path: write for example /archive"))]
pub struct FsSpec {
    /// The folder; relative paths start at the working directory. One archive per folder; one source per archive.
    #[schemars(length(min = 1))]
    pub path: String,
    /// In a cluster: the PersistentVolumeClaim that is mounted there in every pod that reads or writes the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub claim_name: Option<String>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}
