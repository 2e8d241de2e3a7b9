//! `kubectl tidemark`, as a person uses it.

use std::process::Output;

use serde_json::Value;
use tidemark::model::Flavor;

use crate::cluster::{Namespace, kubectl_tidemark, operator, run, succeed};
use crate::database::{Site, Store};

#[test]
fn a_person_sees_backs_up_and_restores_with_the_plugin_alone() {
    let _operator = operator();
    let site = Site::new("plugin", Flavor::Mysql, Store::S3);
    site.source().sql(
        "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY); INSERT INTO shop.orders VALUES (1), (2)",
    );
    site.protect();
    site.namespace.await_condition("backuppolicy/shop", "Ready", "True");
    let good = |args: &[&str]| succeed(kubectl_tidemark(&site.namespace, args), None);

    let drawn = good(&["status", "shop"]);
    println!("{drawn}");
    for part in ["shop in tidemark-e2e-plugin: Ready (Protected)", "▼", ", growing"] {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }
    assert!(!drawn.contains('\x1b'), "no colours in a pipe");

    let output = ended(&site.namespace, &["backup", "shop", "--name", "by-hand", "--wait"]);
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    assert!(
        said.starts_with("fullbackup.tidemark.dev/by-hand created\n") && said.contains(" stored in "),
        "{said}{told}"
    );
    assert!(told.contains("Succeeded"), "{told}");
    let twice = refused(&site.namespace, &["backup", "shop", "--name", "by-hand"]);
    assert!(twice.contains("there is a FullBackup by-hand already"), "{twice}");
    let report: Value = serde_json::from_str(&good(&["status", "--output", "json"])).unwrap();
    let fulls = report["policies"][0]["fulls"].as_array().unwrap();
    assert_eq!(fulls.len(), 2, "{report:#}");
    assert!(fulls.iter().all(|full| full["phase"] == "Succeeded"), "{report:#}");

    let image = crate::cluster::image("mysql");
    let restore = ["restore", "shop", "--latest", "--name", "rescue", "--image", &image, "--storage", "1Gi"];
    let plan = good(&[&restore[..], &["--dry-run"]].concat());
    println!("{plan}");
    assert!(plan.starts_with("full ") && plan.contains("Nothing was made"), "{plan}");
    assert_eq!(site.namespace.list("restorerequests"), Vec::<Value>::new(), "a dry run leaves nothing behind");
    let said = good(&[&restore[..], &["--wait"]].concat());
    println!("{said}");
    assert!(said.contains("Service rescue in tidemark-e2e-plugin"), "{said}");
    assert_eq!(site.restored("rescue").sql("SELECT COUNT(*) FROM shop.orders"), "2");

    for (object, line) in
        [("policy/shop", "shop-stream-0/"), ("full/by-hand", "by-hand"), ("restore/rescue", "rescue-0/server")]
    {
        let logs = good(&["logs", object, "--tail", "20"]);
        assert!(logs.contains(line), "{object}: {logs}");
    }

    let none = refused(&site.namespace, &["backup", "shup"]);
    assert!(none.contains("there is no BackupPolicy shup in namespace tidemark-e2e-plugin; there are: shop"), "{none}");
}

fn ended(namespace: &Namespace, args: &[&str]) -> Output {
    let output = run(kubectl_tidemark(namespace, args), None);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    output
}

fn refused(namespace: &Namespace, args: &[&str]) -> String {
    let output = run(kubectl_tidemark(namespace, args), None);
    assert!(!output.status.success(), "{args:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
