use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::services::{Azblob, Fs, Gcs, S3};
use opendal::{Builder, HttpTransporter, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use secrecy::ExposeSecret;
use snafu::ResultExt;

use super::bucket::{Bucket, Guard, Locking, Signing};
use super::config::{AzblobConfig, GcsConfig, S3Config};
use super::error::{CaSnafu, OpenSnafu};
use super::fs::Folder;
use super::{Inner, Store, StoreConfig, StoreError, from_io};
use crate::archive::crypt::Identities;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// One call, or one part of a long one. A part of 8 MiB in this time needs 280 kB/s.
pub(super) const IO_TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: usize = 4;

pub(super) fn open(config: &StoreConfig) -> Result<Store, StoreError> {
    let url = url(config);
    let (operator, folder, guard) = match config {
        StoreConfig::Fs { root } => {
            let (operator, folder) = folder(root).context(OpenSnafu { store: &url })?;
            (operator, Some(folder), None)
        }
        StoreConfig::S3(config) => {
            let transport = transport(&url, config.ca_pem.as_deref())?;
            let guard = guard(config, &transport, &url)?;
            (remote(s3(config), &url, transport)?, None, Some(guard))
        }
        StoreConfig::Gcs(config) => (remote(gcs(config), &url, transport(&url, None)?)?, None, None),
        StoreConfig::Azblob(config) => (remote(azblob(config), &url, transport(&url, None)?)?, None, None),
    };
    let inner = Inner { url, operator: patient(operator), folder, guard, requests: AtomicU64::new(0) };
    Ok(Store { inner: Arc::new(inner), identities: Identities::default(), as_of: None, packs: Arc::default() })
}

/// The folders that this process has opened, by the name it was given for each.
static FOLDERS: Mutex<BTreeMap<PathBuf, (Operator, Folder)>> = Mutex::new(BTreeMap::new());

fn folders() -> MutexGuard<'static, BTreeMap<PathBuf, (Operator, Folder)>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a folder that is not there, but once: where one was that this process had open, it is away, and no other takes its place.
fn folder(root: &Path) -> Result<(Operator, Folder), opendal::Error> {
    let mut folders = folders();
    if let Some((operator, folder)) = folders.get(root)
        // Unless the name has come to mean another place.
        && root.canonicalize().map_or(true, |now| now == folder.root())
    {
        return Ok((operator.clone(), folder.clone()));
    }
    std::fs::create_dir_all(root).map_err(from_io)?;
    let place = root.canonicalize().map_err(from_io)?;
    let folder = Folder::new(place.clone()).map_err(from_io)?;
    let operator = Operator::new(Fs::default().root(&place.to_string_lossy()))?;
    folders.insert(root.to_owned(), (operator.clone(), folder.clone()));
    Ok((operator, folder))
}

/// Whether it is a folder that this process has opened.
pub(super) fn was_opened(config: &StoreConfig) -> bool {
    matches!(config, StoreConfig::Fs { root } if folders().contains_key(root))
}

/// Bounded in time, and tried again.
fn patient(operator: Operator) -> Operator {
    // The time-out belongs inside the retries: dropping a retry half-way loses the body's state.
    operator
        .layer(TimeoutLayer::default().with_timeout(IO_TIMEOUT).with_io_timeout(IO_TIMEOUT))
        .layer(RetryLayer::default().with_max_times(RETRIES).with_min_delay(Duration::from_millis(200)).with_jitter())
}

/// What asks a bucket how it protects what it holds, and what writes locked objects there.
fn guard(config: &S3Config, transport: &HttpTransporter, url: &str) -> Result<Guard, StoreError> {
    let unsigned = |config: &S3Config| s3(config).skip_signature();
    let at_root = S3Config { prefix: String::new(), ..config.clone() };
    let addresses = remote(unsigned(&at_root), url, transport.clone())?;
    let bucket = Bucket::new(&config.bucket, addresses, Signing::new(config, transport.clone(), None));
    let locking = match config.lock {
        Some(lock) => {
            let signing = HttpTransporter::new(Signing::new(config, transport.clone(), Some(lock)));
            Some(Locking::new(lock, patient(remote(unsigned(config), url, signing)?)))
        }
        None => None,
    };
    Ok(Guard { bucket, locking })
}

fn url(config: &StoreConfig) -> String {
    let join = |scheme: &str, bucket: &str, prefix: &str| match prefix.trim_matches('/') {
        "" => format!("{scheme}://{bucket}"),
        prefix => format!("{scheme}://{bucket}/{prefix}"),
    };
    match config {
        StoreConfig::Fs { root } => root.display().to_string(),
        StoreConfig::S3(c) => join("s3", &c.bucket, &c.prefix),
        StoreConfig::Gcs(c) => join("gs", &c.bucket, &c.prefix),
        StoreConfig::Azblob(c) => join("azblob", &c.container, &c.prefix),
    }
}

fn transport(url: &str, ca_pem: Option<&str>) -> Result<HttpTransporter, StoreError> {
    let mut client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
    if let Some(pem) = ca_pem {
        for certificate in reqwest::Certificate::from_pem_bundle(pem.as_bytes()).context(CaSnafu { store: url })? {
            client = client.add_root_certificate(certificate);
        }
    }
    let client = client.build().context(CaSnafu { store: url })?;
    Ok(HttpTransporter::new(ReqwestTransport::new(client)))
}

fn remote(builder: impl Builder, url: &str, transport: HttpTransporter) -> Result<Operator, StoreError> {
    let operator = Operator::new(builder).context(OpenSnafu { store: url })?;
    let context = operator.base_context().with_http_transport(transport);
    Ok(operator.with_context(context))
}

fn s3(config: &S3Config) -> S3 {
    let mut s3 = S3::default().bucket(&config.bucket).root(&config.prefix).region(&config.region);
    if let Some(endpoint) = &config.endpoint {
        s3 = s3.endpoint(endpoint);
    }
    if let (Some(id), Some(secret)) = (&config.access_key, &config.secret_key) {
        // Never fall back to whatever the machine happens to offer.
        s3 =
            s3.access_key_id(id).secret_access_key(secret.expose_secret()).disable_config_load().disable_ec2_metadata();
        if let Some(token) = &config.session_token {
            s3 = s3.session_token(token.expose_secret());
        }
    }
    if config.lock.is_some() {
        // Amazon takes nothing into a bucket that locks by default, and no lock, without a checksum.
        s3 = s3.checksum_algorithm("crc32c");
    }
    if config.virtual_host_style { s3.enable_virtual_host_style() } else { s3 }
}

fn gcs(config: &GcsConfig) -> Gcs {
    let mut gcs = Gcs::default().bucket(&config.bucket).root(&config.prefix);
    if let Some(endpoint) = &config.endpoint {
        gcs = gcs.endpoint(endpoint);
    }
    if let Some(json) = &config.service_account_json {
        // The client wants the key's JSON in Base64.
        gcs = gcs.credential(&BASE64_STANDARD.encode(json.expose_secret())).disable_config_load().disable_vm_metadata();
    }
    gcs
}

fn azblob(config: &AzblobConfig) -> Azblob {
    let mut azblob = Azblob::default().endpoint(&config.endpoint).container(&config.container).root(&config.prefix);
    if let Some(account) = &config.account {
        azblob = azblob.account_name(account);
    }
    if let Some(key) = &config.account_key {
        azblob = azblob.account_key(key.expose_secret());
    }
    azblob
}
