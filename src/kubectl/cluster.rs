//! A cluster as its user's kubeconfig names it.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snafu::ResultExt;

use super::args::ClusterArgs;
use super::error::{ApiSnafu, Error};

/// A kind of this project, or a pod.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + 'static
{
}

/// A cluster, and a namespace of it.
pub struct Cluster {
    client: Client,
    /// Where objects are looked for and made.
    pub namespace: String,
}

impl Cluster {
    /// Finds it. Nothing is asked of it yet.
    pub async fn connect(args: &ClusterArgs) -> Result<Self, Error> {
        let ClusterArgs { namespace, context, kubeconfig } = args;
        let mut config = config(context.clone(), kubeconfig.as_deref()).await?;
        // A log may be silent for long.
        config.read_timeout = None;
        let namespace = namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context(ApiSnafu { doing: "use the kubeconfig" })?;
        Ok(Self { client, namespace })
    }

    /// Objects of the namespace.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of all namespaces.
    pub fn everywhere<K: Kind>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// All of a kind of ours.
    pub async fn list<K: Kind>(&self, api: Api<K>) -> Result<Vec<K>, Error> {
        match api.list(&ListParams::default()).await {
            Ok(list) => Ok(list.items),
            // A list of nothing is no error: 404 means that the kind itself is unknown.
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Error::NotInstalled),
            Err(source) => Err(Error::Api { doing: format!("list {}", K::plural(&())), source }),
        }
    }

    /// One object of ours; if it is not there, the error says which are.
    pub async fn get<K: Kind>(&self, name: &str) -> Result<K, Error> {
        match self.api::<K>().get(name).await {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let there = self.list(self.api::<K>()).await?.iter().map(ResourceExt::name_any).collect();
                let (kind, namespace) = (K::kind(&()).into_owned(), self.namespace.clone());
                Err(Error::NotFound { kind, name: name.to_owned(), namespace, there })
            }
            Err(source) => Err(Error::Api { doing: format!("read {} {name}", K::kind(&())), source }),
        }
    }

    /// Sets an annotation of an object of ours.
    pub async fn annotate<K: Kind>(&self, name: &str, key: &str, value: &str) -> Result<K, Error> {
        let patch = Patch::Merge(serde_json::json!({"metadata": {"annotations": {key: value}}}));
        let manager = PatchParams { field_manager: Some("kubectl-tidemark".to_owned()), ..PatchParams::default() };
        let doing = || format!("annotate {} {name}", K::kind(&()));
        self.api::<K>().patch(name, &manager, &patch).await.map_err(|source| Error::Api { doing: doing(), source })
    }

    /// Makes an object, and says so as kubectl does.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let manager = PostParams { field_manager: Some("kubectl-tidemark".to_owned()), ..PostParams::default() };
        let kind = K::kind(&()).into_owned();
        match self.api::<K>().create(&manager, object).await {
            Ok(made) => Ok(made),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Error::NotInstalled),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Error::Exists { kind, name: object.name_any() }),
            Err(source) => Err(Error::Api { doing: format!("make the {kind}"), source }),
        }
    }
}

async fn config(context: Option<String>, file: Option<&std::path::Path>) -> Result<Config, Error> {
    let no_cluster = |error: &dyn std::error::Error| Error::NoCluster { why: error.to_string() };
    if context.is_none() && file.is_none() {
        return Config::infer().await.map_err(|e| no_cluster(&e));
    }
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    match file {
        None => Config::from_kubeconfig(&options).await.map_err(|e| no_cluster(&e)),
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|e| no_cluster(&e))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| no_cluster(&e))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::{MethodRouter, any};
    use axum::{Json, Router};
    use serde_json::{Value, json};

    use super::*;
    use crate::api::BackupPolicy;

    /// A cluster whose API server answers like this.
    async fn cluster(api_server: Router) -> Cluster {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, api_server).await.unwrap() });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        Cluster { client: Client::try_from(config).unwrap(), namespace: "shop".to_owned() }
    }

    fn answer(status: StatusCode, body: Value) -> MethodRouter {
        any(move || {
            let body = body.clone();
            async move { (status, Json(body)) }
        })
    }

    async fn refusal(api_server: Router) -> String {
        cluster(api_server).await.get::<BackupPolicy>("order").await.unwrap_err().to_string()
    }

    const POLICIES: &str = "/apis/tidemark.dev/v1alpha1/namespaces/shop/backuppolicies";

    #[tokio::test]
    async fn a_cluster_without_the_crds_is_told_from_one_without_the_policy() {
        // What an API server says of a group that it does not know.
        let unknown = Router::new().fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") });
        let said = refusal(unknown).await;
        assert!(said.starts_with("this cluster does not know tidemark.dev: install Tidemark (helm install"), "{said}");

        let policy = |name: &str| {
            json!({"apiVersion": "tidemark.dev/v1alpha1", "kind": "BackupPolicy", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"source": {"host": "db", "credentialsSecretRef": {"name": "l"}}, "storage": {"s3": {"bucket": "abc"}}}})
        };
        let list = json!({"apiVersion": "tidemark.dev/v1alpha1", "kind": "BackupPolicyList", "metadata": {},
            "items": [policy("orders"), policy("users")]});
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
            "message": "backuppolicies.tidemark.dev \"order\" not found"});
        let known = Router::new()
            .route(POLICIES, answer(StatusCode::OK, list))
            .fallback(answer(StatusCode::NOT_FOUND, missing));
        assert_eq!(refusal(known).await, "there is no BackupPolicy order in namespace shop; there are: orders, users");
    }

    #[tokio::test]
    async fn what_the_account_may_not_do_is_said_in_the_api_servers_words() {
        let forbidden = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "backuppolicies.tidemark.dev \"order\" is forbidden: User \"eve\" cannot get resource"});
        let said = refusal(Router::new().fallback(answer(StatusCode::FORBIDDEN, forbidden))).await;
        assert_eq!(
            said,
            "cannot read BackupPolicy order: backuppolicies.tidemark.dev \"order\" is forbidden: User \"eve\" cannot get resource"
        );
    }
}
