use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::Resolver;
use crate::api::{AzblobSpec, GcsSpec, S3Spec, StorageSpec};
use crate::archive::store::{AzblobConfig, GcsConfig, S3Config, StoreConfig};

/// The store that a manifest names, with its credentials.
pub fn resolve<T>(resolver: &mut Resolver<'_, T>, field: &str, spec: &StorageSpec) -> Option<StoreConfig> {
    match spec {
        StorageSpec { fs: Some(fs), s3: None, gcs: None, azblob: None } => {
            if fs.path.trim().is_empty() {
                resolver.refuse(&format!("{field}.fs.path"), "name a folder");
                return None;
            }
            if let Some(claim) = &fs.claim_name {
                tracing::debug!(
                    field,
                    claim,
                    "fs.claimName has a meaning in a cluster only: the folder is used as it is"
                );
            }
            Some(StoreConfig::Fs { root: PathBuf::from(&fs.path) })
        }
        StorageSpec { s3: Some(s3), fs: None, gcs: None, azblob: None } => resolve_s3(resolver, field, s3),
        StorageSpec { gcs: Some(gcs), fs: None, s3: None, azblob: None } => resolve_gcs(resolver, field, gcs),
        StorageSpec { azblob: Some(azblob), fs: None, s3: None, gcs: None } => resolve_azblob(resolver, field, azblob),
        _ => {
            resolver.refuse(field, "name exactly one store: s3, gcs, azblob or fs");
            None
        }
    }
}

fn prefix(text: &str) -> String {
    text.trim_matches('/').to_owned()
}

fn endpoint_is_url<T>(resolver: &mut Resolver<'_, T>, field: &str, endpoint: Option<&str>) -> bool {
    let fine = endpoint.is_none_or(|text| text.starts_with("https://") || text.starts_with("http://"));
    if !fine {
        let text = endpoint.unwrap_or_default();
        resolver
            .refuse(&format!("{field}.endpoint"), &format!("{text:?} is not an address: write https://HOST[:PORT]"));
    }
    fine
}

fn resolve_s3<T>(resolver: &mut Resolver<'_, T>, field: &str, spec: &S3Spec) -> Option<StoreConfig> {
    let field = format!("{field}.s3");
    let fine = endpoint_is_url(resolver, &field, spec.endpoint.as_deref());
    let mut config = S3Config {
        endpoint: spec.endpoint.clone(),
        region: spec.region.clone(),
        bucket: spec.bucket.clone(),
        prefix: prefix(&spec.prefix),
        virtual_host_style: spec.virtual_host_style,
        ..S3Config::default()
    };
    if let Some(reference) = &spec.credentials_secret_ref {
        let field = format!("{field}.credentialsSecretRef");
        resolver.secret(&field, &reference.name)?;
        let id = resolver.key(&field, &reference.name, "AWS_ACCESS_KEY_ID");
        let secret = resolver.key(&field, &reference.name, "AWS_SECRET_ACCESS_KEY");
        config.access_key = Some(id?.expose_secret().to_owned());
        config.secret_key = Some(secret?);
        config.session_token = resolver.optional_key(&field, &reference.name, "AWS_SESSION_TOKEN");
    }
    if let Some(reference) = &spec.ca_secret_ref {
        config.ca_pem = Some(resolver.authority(&format!("{field}.caSecretRef"), reference)?);
    }
    fine.then_some(StoreConfig::S3(config))
}

fn resolve_gcs<T>(resolver: &mut Resolver<'_, T>, field: &str, spec: &GcsSpec) -> Option<StoreConfig> {
    let field = format!("{field}.gcs");
    let fine = endpoint_is_url(resolver, &field, spec.endpoint.as_deref());
    let mut config = GcsConfig {
        bucket: spec.bucket.clone(),
        prefix: prefix(&spec.prefix),
        endpoint: spec.endpoint.clone(),
        ..GcsConfig::default()
    };
    if let Some(reference) = &spec.credentials_secret_ref {
        let field = format!("{field}.credentialsSecretRef");
        config.service_account_json = Some(resolver.key(&field, &reference.name, "credentials.json")?);
    }
    fine.then_some(StoreConfig::Gcs(config))
}

fn resolve_azblob<T>(resolver: &mut Resolver<'_, T>, field: &str, spec: &AzblobSpec) -> Option<StoreConfig> {
    let field = format!("{field}.azblob");
    let fine = endpoint_is_url(resolver, &field, spec.endpoint.as_deref());
    let mut config = AzblobConfig {
        endpoint: spec.endpoint.clone().unwrap_or_else(|| format!("https://{}.blob.core.windows.net", spec.account)),
        container: spec.container.clone(),
        prefix: prefix(&spec.prefix),
        account: Some(spec.account.clone()),
        ..AzblobConfig::default()
    };
    if let Some(reference) = &spec.credentials_secret_ref {
        let field = format!("{field}.credentialsSecretRef");
        config.account_key = Some(resolver.key(&field, &reference.name, "AZURE_STORAGE_ACCOUNT_KEY")?);
    }
    fine.then_some(StoreConfig::Azblob(config))
}
