//! Segments of closed binlog files become packs: in a process that is killed at every step, under a restore, and for everything that reads an
//! archive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tidemark::binlog::StreamConfig;
use tidemark::model::Flavor;
use tidemark::restore::plan::Target;

use crate::lab::{Lab, checksums, request};
use crate::support::{Process, ROOT_PASSWORD, ServerOptions, tidemark_command};

const DAMAGED: i32 = 4;

/// Where a compaction is killed.
const STEPS: [&str; 3] = ["compaction::after_pack", "compaction::before_delete", "compaction::after_object"];

struct Rig {
    lab: Lab,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new(flavor: Flavor) -> Rig {
        let rig = Rig { lab: Lab::new(ServerOptions::of(flavor)), dir: tempfile::tempdir().unwrap() };
        rig.policy("");
        rig.lab.source.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT)");
        rig
    }

    /// Writes the policy, with such further settings.
    fn policy(&self, settings: &str) {
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: lab}}\nspec:\n  source: {{host: 127.0.0.1, port: {}, \
             credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  storage: {{fs: {{path: {}}}}}\n  {settings}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n",
            self.lab.source.port(),
            self.lab.root.display()
        );
        fs::write(self.dir.path().join("policy.yaml"), text).unwrap();
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = tidemark_command([verb, "-f"]);
        command.arg(self.dir.path().join("policy.yaml")).args(arguments);
        command.env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
        command
    }

    fn json(&self, verb: &str, arguments: &[&str]) -> Value {
        let Output { status, stdout, stderr } = self.command(verb, arguments).args(["-o", "json"]).output().unwrap();
        assert!(status.success(), "{verb} {arguments:?}: {}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    }

    /// What a verify that finds damage says.
    fn damage(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command("verify", arguments).output().unwrap();
        assert_eq!(status.code(), Some(DAMAGED), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Closed binlog files of many small segments, and one that is open.
    fn write(&self, files: usize) {
        let config = StreamConfig { flush_interval: Duration::from_millis(20), ..StreamConfig::default() };
        let streaming = self.lab.stream(config);
        for _ in 0..files {
            for _ in 0..8 {
                self.lab.source.sql("INSERT INTO d.t (text) VALUES (REPEAT(UUID(), 60))");
                self.lab.durable(&streaming);
            }
            self.lab.source.sql("FLUSH BINARY LOGS");
            self.lab.durable(&streaming);
        }
        self.lab.stop(streaming);
    }

    /// Keys of all objects of binlog files.
    fn objects(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for server in fs::read_dir(self.lab.root.join("binlog")).unwrap() {
            for file in fs::read_dir(server.unwrap().path()).unwrap() {
                for object in fs::read_dir(file.unwrap().path()).unwrap() {
                    let path = object.unwrap().path();
                    found.insert(path.strip_prefix(&self.lab.root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found
    }

    fn packs(&self) -> Vec<PathBuf> {
        self.objects().iter().filter(|key| key.ends_with(".pack.zst")).map(|key| self.lab.root.join(key)).collect()
    }
}

#[test]
fn a_compaction_that_is_killed_at_every_step_changes_nothing_for_a_reader_and_the_next_ones_end_it() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let rig = Rig::new(flavor);
        rig.write(4);
        let before = rig.objects();
        let plan = rig.json("prune", &["--dry-run"]);
        assert_eq!((&plan["filesToPack"], rig.objects()), (&4.into(), before.clone()), "{plan:#}");
        let wanted = checksums(&rig.lab.source);
        for step in STEPS {
            let mut command = rig.command("prune", &[]);
            command.env("FAILPOINTS", format!("{step}=pause"));
            let mut child = Process::spawn(command);
            child.wait_to_pause_at(step, || !rig.packs().is_empty());
            child.kill9();
            rig.json("verify", &["--deep"]);
        }
        let done = rig.json("prune", &[]);
        assert_eq!(rig.json("prune", &[])["packed"]["files"], 0, "nothing is left to do");
        let after = rig.objects();
        println!(
            "{flavor}: 4 closed binlog files and an open one: {} objects, {} after compaction",
            before.len(),
            after.len()
        );
        assert!(after.len() * 2 < before.len(), "{before:?}\n{after:?}\n{done:#}");
        assert_eq!(rig.json("verify", &["--deep"])["objects"], rig.json("verify", &[])["objects"]);

        // Stock zstd reads a pack, and what comes out is what the server wrote.
        let packs = rig.packs();
        assert_eq!(packs.len(), 4);
        for pack in &packs {
            let folder = pack.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let name = folder.split('@').next().unwrap();
            let own = rig.lab.source.binlogs().into_iter().find(|file| file.ends_with(name)).unwrap();
            let raw = Command::new("zstd").args(["-qdc"]).arg(pack).output().unwrap().stdout;
            assert!(raw == fs::read(own).unwrap(), "{}", pack.display());
        }
        let (target, _) = rig.lab.restore(&request(Target::Latest));
        assert_eq!(checksums(&target), wanted, "{flavor}");
        damage_is_told(&rig, &packs[1]);
        a_copy_is_filled_from_packs(&rig);

        // What is packed goes as a whole.
        rig.policy("retention: {keepLast: 1}");
        rig.lab.full();
        rig.write(1);
        let pruned = rig.json("prune", &[]);
        assert!(pruned["pruned"]["files"].as_u64().unwrap() >= 4, "{pruned:#}");
        assert!(packs.iter().all(|pack| !pack.parent().unwrap().exists()), "{pruned:#}");
        rig.json("verify", &["--deep"]);
    }
}

fn damage_is_told(rig: &Rig, pack: &Path) {
    let bytes = fs::read(pack).unwrap();
    let name = pack.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let mut flipped = bytes.clone();
    flipped[100] ^= 1;
    fs::write(pack, flipped).unwrap();
    let told = rig.damage(&["--deep"]);
    assert!(told.contains(name) && told.contains("00000000000000000000-"), "{told}");
    fs::remove_file(pack).unwrap();
    let told = rig.damage(&[]);
    assert!(told.contains(name) && told.contains("Lost"), "{told}");
    fs::write(pack, bytes).unwrap();
    rig.json("verify", &["--deep"]);
}

fn a_copy_is_filled_from_packs(rig: &Rig) {
    let copy = tempfile::tempdir().unwrap();
    rig.policy(&format!("copies: [{{name: second, storage: {{fs: {{path: {}}}}}}}]", copy.path().display()));
    rig.json("copy", &[]);
    rig.json("verify", &["--deep", "--copy", "second"]);
    assert!(
        rig.json("prune", &["--copy", "second"])["packed"]["files"].as_u64() == Some(4),
        "it is compacted by itself"
    );
    rig.json("verify", &["--deep", "--copy", "second"]);
    rig.policy("");
}

#[test]
fn a_restore_goes_on_while_what_it_reads_is_packed() {
    let rig = Rig::new(Flavor::Mysql);
    rig.write(3);
    let wanted = checksums(&rig.lab.source);
    let target = ServerOptions::of(Flavor::Mysql).start();
    let plan = rig.lab.plan(&request(Target::Latest)).unwrap();
    let (policy, packed) = (rig.dir.path().join("policy.yaml"), Arc::new(AtomicBool::new(false)));
    let done = packed.clone();
    let pack = move || {
        let output = tidemark_command(["prune", "-f", policy.to_str().unwrap(), "-o", "json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        done.store(report["packed"]["files"] == 3, Ordering::SeqCst);
    };
    // It has looked for every segment by then, and read none.
    rig.lab.run_with(&plan, &target, "restore::base::loaded", pack).unwrap();
    assert!(packed.load(Ordering::SeqCst));
    assert_eq!(checksums(&target), wanted);
}
