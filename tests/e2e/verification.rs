//! The integrity of an archive, as the operator tells it.

use tidemark::model::Flavor;

use crate::cluster::{condition, kubectl_tidemark, operator, run, succeed};
use crate::database::{Site, Store};

/// What the S3 server has on its disk.
fn in_bucket(site: &Site, script: &str) -> String {
    let exec = ["exec", "deployment/s3", "--", "sh", "-c", &format!("cd /data/objects/backups/shop && {script}")];
    succeed(site.namespace.kubectl(&exec), None)
}

#[test]
#[ignore = "long: make e2e"]
fn damage_turns_the_condition_by_schedule_and_on_request_and_turns_it_back_once_it_is_mended() {
    let _operator = operator();
    let site = Site::new("verification", Flavor::Mysql, Store::S3);
    site.source().sql(
        "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT); INSERT INTO shop.t VALUES ()",
    );
    site.protect_with("schedule: { cron: '30 2 * * *' }\n  verify: { cron: '* * * * *' }");
    let namespace = &site.namespace;
    namespace.await_condition("backuppolicy/shop", "Ready", "True");
    let intact = namespace.await_condition("backuppolicy/shop", "Intact", "True");
    println!("Intact: {}", intact.message);

    // A lost object, found by schedule.
    let rows = in_bucket(&site, "find full -path '*/rows/shop/*' -name '*.zst' | head -1").trim().to_owned();
    assert!(rows.starts_with("full/"), "{rows}");
    in_bucket(&site, &format!("mv {rows} /data/lost"));
    let damaged = namespace.await_condition("backuppolicy/shop", "Intact", "False");
    println!("Damaged: {}", damaged.message);
    assert!(damaged.reason == "Damaged" && damaged.message.contains(&rows), "{damaged:?}");
    let full = rows.split('/').nth(1).unwrap();
    let policy = namespace.await_object("backuppolicy/shop", "the policy to be no longer ready", |policy| {
        condition(policy, "Ready").filter(|ready| ready.reason == "Damaged").map(|_| policy.clone())
    });
    let verification = &policy["status"]["verification"];
    assert_eq!((&verification["findings"], &verification["depth"]), (&1.into(), &"Quick".into()), "{verification:#}");
    assert!(verification["affected"].as_str().unwrap().contains(full), "{verification:#}");
    in_bucket(&site, &format!("mv /data/lost {rows}"));
    namespace.await_condition("backuppolicy/shop", "Intact", "True");

    // A flipped bit, which only a deep one finds; a person asks for it.
    let policy = r#"{"spec":{"verify":null}}"#;
    succeed(namespace.kubectl(&["patch", "backuppolicy/shop", "--type=merge", "--patch", policy]), None);
    let verify = |args: &[&str]| run(kubectl_tidemark(namespace, &[&["verify", "shop"], args].concat()), None);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let good = verify(&[]);
    assert!(good.status.success() && text(&good.stdout).starts_with("intact: "), "{}", text(&good.stderr));
    in_bucket(&site, &format!("cp {rows} /data/good && printf X | dd of={rows} bs=1 seek=9 conv=notrunc"));
    assert!(verify(&[]).status.success(), "nothing is read");
    let found = verify(&["--deep"]);
    println!("{}{}", text(&found.stderr), text(&found.stdout));
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found.stdout).contains(&format!("Changed {rows}")), "{}", text(&found.stdout));
    assert!(text(&found.stderr).contains("affected: full"), "{}", text(&found.stderr));
    in_bucket(&site, &format!("cat /data/good > {rows}"));
    // Only as thorough a look takes it back.
    assert_eq!(verify(&[]).status.code(), Some(1));
    assert!(verify(&["--deep"]).status.success());
    namespace.await_condition("backuppolicy/shop", "Intact", "True");
}
