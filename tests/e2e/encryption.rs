//! An archive that only the holder of a key reads, in a bucket and in a copy of it.

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use tidemark::model::Flavor;

use crate::cluster::{condition, image, operator, succeed};
use crate::database::{SCHEDULE, Site, Store, time};
use crate::disaster::{Lost, lose_a_table};
use crate::load::has_exactly;
use crate::secrets;

#[test]
#[ignore = "long: make e2e"]
fn a_table_comes_back_from_an_encrypted_archive_and_from_its_copy_for_who_holds_the_key_and_nobody_else() {
    let _operator = operator();
    let site = Site::new("encryption", Flavor::Mysql, Store::S3);
    let namespace = &site.namespace;
    let identity = Identity::generate();
    let (recipient, identity) = (identity.to_public(), identity.to_string().expose_secret().to_owned());
    namespace.claim("near");
    let near = "fs: {path: /near, claimName: near}";
    let policy = format!(
        "{SCHEDULE}\n  encryption: {{recipients: [{recipient}]}}\n  limits: {{bytesPerSecond: 50Mi, threadsRunning: 50}}\n  \
         copies: [{{name: near, storage: {{ {near} }}, bytesPerSecond: 50Mi}}]\n  verify: {{cron: '* * * * *', depth: Deep}}"
    );
    let Lost { newest, before } = lose_a_table(&site, &policy, |_, _| {});
    namespace.await_object("backuppolicy/shop", "a copy of what was there behind the drop", |policy| {
        time(&policy["status"]["copies"][0]["asOf"]).filter(|as_of| *as_of > before)
    });
    let intact = namespace.await_object("backuppolicy/shop", "a deep look without a key", |policy| {
        condition(policy, "Intact").filter(|intact| intact.status == "True")
    });
    println!("Intact: {}", intact.message);

    // What the bucket's owner sees: no name of a table, and nothing but what docs/archive-format.md says is in clear.
    let find = ["exec", "deployment/s3", "--", "sh", "-c", "cd /data/objects/backups/shop && find binlog full -type f"];
    let objects = succeed(namespace.kubectl(&find), None);
    assert!(objects.lines().filter(|name| name.ends_with(".age")).count() > 5, "{objects}");
    for name in objects.lines() {
        assert!(!name.contains("orders") && (name.ends_with(".age") || name.ends_with(".json")), "{name}");
    }

    // Without the key nothing is made.
    site.request("blind", &format!("time: '{before}'"));
    let blind = namespace.await_object("restorerequest/blind", "its end", |request| {
        (request["status"]["phase"] == "Failed").then(|| condition(request, "Planned")).flatten()
    });
    assert_eq!(blind.reason, "IdentityMissing", "{blind:?}");
    assert!(blind.message.contains(&recipient.to_string()), "{blind:?}");
    assert!(namespace.get("statefulset/blind").is_none());

    let key = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: backup-key}}, stringData: {{identity: {identity}}}}}"
    );
    namespace.apply(&key);
    let decryption = "decryption: {identitySecretRef: {name: backup-key}}";
    let into = format!("into: {{image: '{}', storage: {{size: 1Gi}}}}", image(site.name()));
    site.request_into("rescue", &format!("time: '{before}'"), &format!("{into}\n  {decryption}"));
    site.await_restored("rescue");
    has_exactly(&site.restored("rescue"), newest);
    secrets::none_shows(&site, "rescue", &[&identity]);

    namespace.apply(&format!(
        "{{apiVersion: tidemark.dev/v1alpha1, kind: RestoreRequest, metadata: {{name: nearby}}, spec: {{storage: {{ {near} }}, \
         target: {{time: '{before}'}}, {into}, {decryption}}}}}"
    ));
    site.await_restored("nearby");
    has_exactly(&site.restored("nearby"), newest);
}
