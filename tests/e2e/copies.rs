//! A store is lost, and its copy is not.

use tidemark::model::Flavor;

use crate::cluster::{image, operator, succeed};
use crate::database::{SCHEDULE, Site, Store, time};
use crate::disaster::{Lost, lose_a_table};
use crate::load::has_exactly;

#[test]
#[ignore = "long: make e2e"]
fn a_bucket_that_is_emptied_is_restored_from_its_copy_in_a_claim() {
    let _operator = operator();
    let site = Site::new("copies", Flavor::Mysql, Store::S3);
    site.namespace.claim("near");
    let Lost { newest, before } = lose_a_table(&site, SCHEDULE, |_, _| {});
    // A copy that is added late is filled from the beginning.
    let copy = "fs: {path: /near, claimName: near}";
    site.protect_with(&format!(
        "schedule: {{ cron: '30 2 * * *' }}\n  copies: [{{name: near, storage: {{ {copy} }}}}]"
    ));
    site.namespace.await_condition("backuppolicy/shop", "Copied", "True");
    site.namespace.await_object("backuppolicy/shop", "a copy of what was there behind the drop", |policy| {
        time(&policy["status"]["copies"][0]["asOf"]).filter(|as_of| *as_of > before)
    });

    let empty = ["exec", "deployment/s3", "--", "sh", "-c", "rm -rf /data/objects/backups/shop"];
    succeed(site.namespace.kubectl(&empty), None);
    site.namespace.apply(&format!(
        "{{apiVersion: tidemark.dev/v1alpha1, kind: RestoreRequest, metadata: {{name: rescue}}, spec: {{storage: {{ {copy} }}, \
         target: {{time: '{before}'}}, into: {{image: '{}', storage: {{size: 1Gi}}}}}}}}",
        image(site.name())
    ));
    site.await_restored("rescue");
    has_exactly(&site.restored("rescue"), newest);
}
