//! The pod of a fresh server, shut and open.

use std::collections::BTreeSet;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, ExecAction, KeyToPath, Lifecycle,
    LifecycleHandler, PodSpec, PodTemplateSpec, Probe, SecretVolumeSource, Volume, VolumeMount,
};
use kube::api::ObjectMeta;

use super::{Flavor, PORT};
use crate::api::IntoSpec;
use crate::controller::engine_pod::{CONTAINER, EnginePod, container_security, pod_security};
use crate::controller::names::OPEN;
use crate::controller::restore_request::names::{self, SERVER, labels};
use crate::controller::restore_request::validate::Validated;
use crate::controller::secrets;

/// The claim's name.
pub const DATA: &str = "data";
/// The container that runs the server; a user's template changes it by this name, and its `args` are options of the server.
const SERVER_CONTAINER: &str = "server";
/// The one that makes an empty data directory.
const INITIALIZE: &str = "initialize";

const INITIALIZE_SCRIPT: &str = include_str!("initialize.sh");
const SERVE_SCRIPT: &str = include_str!("serve.sh");
const READY_SCRIPT: &str = include_str!("ready.sh");

const DATA_FOLDER: &str = "/var/lib/mysql";
/// On the claim: a restore that is done is not done again, whoever starts its container anew.
const DONE_FILE: &str = "/var/lib/mysql/restored.json";
/// `mysql` in the official images.
const USER: i64 = 999;
/// A server with much to write takes its time to end.
const GRACE_SECONDS: i64 = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Shut,
    Open,
}

/// The pod that restores: only the engine beside the server can reach it.
pub fn shut(
    validated: &Validated,
    into: &IntoSpec,
    flavor: Flavor,
    image: &str,
    manifests: &ConfigMap,
) -> PodTemplateSpec {
    let login = names::restore(&validated.name);
    let storage = &validated.archive.storage;
    let mut engine_secrets: BTreeSet<String> = secrets::of_storage(storage).into_iter().collect();
    engine_secrets.insert(login.clone());
    engine_secrets.extend(secrets::of_decryption(validated.decryption.as_ref()));
    let engine = EnginePod {
        image,
        arguments: vec!["restore".to_owned(), "--once".to_owned(), DONE_FILE.to_owned()],
        manifests,
        secrets: &engine_secrets,
        storage,
        copies: &[],
        ends: true,
        template: None,
    };
    let (mut volumes, mut engine_mounts) = engine.volumes();
    engine_mounts.push(mount(DATA, DATA_FOLDER));
    volumes.extend(server_volumes(validated, Stage::Shut));
    volumes.push(secret("login", &login, &["init.sql"], false));
    let account = validated.archive.job_template.as_ref().and_then(|template| template.spec.as_ref());
    let mut server = server(validated, into, flavor, Stage::Shut);
    server.volume_mounts.get_or_insert_default().push(mount("login", "/etc/tidemark/restore"));
    let spec = PodSpec {
        init_containers: Some(vec![initialize(validated, into, flavor)]),
        // In this order: the kubelet starts the engine once the server's hook has seen it answer.
        containers: vec![server, engine.container(engine_mounts)],
        volumes: Some(volumes),
        service_account_name: account.and_then(|account| account.service_account_name.clone()),
        ..base()
    };
    finish(spec, validated, into, Stage::Shut)
}

/// The pod of the server for everybody.
pub fn open(validated: &Validated, into: &IntoSpec, flavor: Flavor) -> PodTemplateSpec {
    let spec = PodSpec {
        containers: vec![server(validated, into, flavor, Stage::Open)],
        volumes: Some(server_volumes(validated, Stage::Open)),
        ..base()
    };
    finish(spec, validated, into, Stage::Open)
}

fn base() -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(pod_security(USER)),
        ..PodSpec::default()
    }
}

/// With what the user wants otherwise.
fn finish(spec: PodSpec, validated: &Validated, into: &IntoSpec, stage: Stage) -> PodTemplateSpec {
    let mut labels = labels(SERVER, &validated.name, &validated.uid);
    if stage == Stage::Open {
        labels.insert(OPEN.to_owned(), "true".to_owned());
    }
    let metadata = ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() };
    let mut template = PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) };
    if let Some(mut user) = into.pod_template.clone() {
        if let Some(spec) = user.spec.as_mut() {
            let ours = |name: &str| [SERVER_CONTAINER, INITIALIZE, CONTAINER].contains(&name);
            match stage {
                // Whatever else runs in it has to wait until the server is open.
                Stage::Shut => spec.containers.retain(|container| ours(&container.name)),
                Stage::Open => {
                    spec.containers.retain(|container| container.name != CONTAINER);
                    spec.init_containers.iter_mut().for_each(|all| all.retain(|one| !ours(&one.name)));
                }
            }
        }
        template.merge_from(user);
    }
    // Our watches and selectors go by these.
    template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels);
    // A data directory is made with the options it is used with.
    if let Some(spec) = template.spec.as_mut() {
        let options = spec.containers.iter().find(|one| one.name == SERVER_CONTAINER).and_then(|one| one.args.clone());
        for initialize in spec.init_containers.iter_mut().flatten().filter(|one| one.name == INITIALIZE) {
            initialize.args = initialize.args.take().or_else(|| options.clone());
        }
    }
    template
}

fn initialize(validated: &Validated, into: &IntoSpec, flavor: Flavor) -> Container {
    let env = vec![variable("TIDEMARK_FLAVOR", flavor.word()), variable("TIDEMARK_REQUEST", &validated.uid)];
    container(INITIALIZE, INITIALIZE_SCRIPT, into, env)
}

fn server(validated: &Validated, into: &IntoSpec, flavor: Flavor, stage: Stage) -> Container {
    // Another one than any other server's, and always the same; 0 is none.
    let server_id = crc32fast::hash(validated.uid.as_bytes()).max(1);
    let word = match stage {
        Stage::Shut => "shut",
        Stage::Open => "open",
    };
    let env = vec![
        variable("TIDEMARK_FLAVOR", flavor.word()),
        variable("TIDEMARK_STAGE", word),
        variable("TIDEMARK_SERVER_ID", &server_id.to_string()),
    ];
    let mut server = container(SERVER_CONTAINER, SERVE_SCRIPT, into, env);
    server.volume_mounts.get_or_insert_default().push(mount("root", "/etc/tidemark/root"));
    let ready = |script: String| ExecAction { command: Some(vec!["sh".to_owned(), "-c".to_owned(), script]) };
    match stage {
        Stage::Shut => {
            let script = format!("until (\n{READY_SCRIPT}) >/dev/null 2>&1; do sleep 0.2; done");
            let post_start = LifecycleHandler { exec: Some(ready(script)), ..LifecycleHandler::default() };
            server.lifecycle = Some(Lifecycle { post_start: Some(post_start), ..Lifecycle::default() });
        }
        Stage::Open => {
            let probe =
                Probe { exec: Some(ready(READY_SCRIPT.to_owned())), timeout_seconds: Some(5), ..Probe::default() };
            // Recovery after a crash may take hours, and is not made faster by a kill.
            let start = Probe { period_seconds: Some(1), failure_threshold: Some(86_400), ..probe.clone() };
            server.startup_probe = Some(start);
            server.readiness_probe = Some(Probe { period_seconds: Some(10), failure_threshold: Some(3), ..probe });
            server.ports = Some(vec![ContainerPort {
                name: Some("mysql".to_owned()),
                container_port: PORT,
                ..ContainerPort::default()
            }]);
        }
    }
    server
}

/// A container of the server's image that runs a script. Its arguments are the user's.
fn container(name: &str, script: &str, into: &IntoSpec, env: Vec<EnvVar>) -> Container {
    let command = ["sh", "-c", script, name].map(str::to_owned).into();
    Container {
        name: name.to_owned(),
        image: Some(into.image.clone()),
        command: Some(command),
        env: Some(env),
        resources: into.resources.clone(),
        security_context: Some(container_security()),
        // A server says in its log why it does not start.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount(DATA, DATA_FOLDER),
            mount("run", "/var/run/mysqld"),
            mount("server-tmp", "/tmp"),
        ]),
        ..Container::default()
    }
}

fn server_volumes(validated: &Validated, stage: Stage) -> Vec<Volume> {
    let empty = |name: &str| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    // It is used when the server opens for the first time. Its user may delete it then; nothing is restored without it.
    let optional = stage == Stage::Open;
    let root = secret("root", &names::root(&validated.name), &["open.sql", "client.cnf"], optional);
    vec![empty("run"), empty("server-tmp"), root]
}

fn secret(name: &str, secret: &str, keys: &[&str], optional: bool) -> Volume {
    let item = |key: &&str| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), ..KeyToPath::default() };
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(keys.iter().map(item).collect()),
            default_mode: Some(0o440),
            optional: Some(optional),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}
