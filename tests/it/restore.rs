//! Restores into real servers, each compared with the source or with an independent replay by the stock tools.

use tidemark::model::Flavor;
use tidemark::restore::plan::Target;

use crate::lab::{Lab, checksums, request};
use crate::support::ServerOptions;

const BOTH: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];

/// Schema changes and a few hundred transactions over several files.
fn load(lab: &Lab, rounds: usize) {
    let mut sql = String::from(
        "CREATE DATABASE IF NOT EXISTS d; CREATE TABLE IF NOT EXISTS d.t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(200), b INT, KEY (b));\n",
    );
    for i in 0..rounds {
        sql += &format!("INSERT INTO d.t (a, b) VALUES (REPEAT(CHAR(97 + {i} % 26), {i} % 190), {i});\n");
        match i % 25 {
            3 => sql += &format!("BEGIN; UPDATE d.t SET b = b + 1 WHERE id % 3 = 0; DELETE FROM d.t WHERE id = {i}; COMMIT;\n"),
            7 => sql += &format!("CREATE TABLE d.t{i} AS SELECT * FROM d.t WHERE id % 5 = 0;\n"),
            11 => sql += &format!("XA START 'x{i}'; INSERT INTO d.t (b) VALUES (-{i}); XA END 'x{i}'; XA PREPARE 'x{i}'; XA COMMIT 'x{i}';\n"),
            19 => sql += "FLUSH BINARY LOGS;\n",
            _ => {}
        }
    }
    lab.source.sql(&sql);
}

#[test]
fn a_restore_to_latest_equals_the_source() {
    for flavor in BOTH {
        let lab = Lab::new(ServerOptions::of(flavor));
        load(&lab, 120);
        lab.archive();
        let (target, report) = lab.restore(&request(Target::Latest));
        assert_eq!(report.executed, lab.source.gtids(), "{flavor}");
        assert_eq!(checksums(&target), checksums(&lab.source), "{flavor}");
        assert!(!checksums(&target).is_empty());
        // The target is open for its users again, is no replica, and nothing of the restore is left.
        assert_eq!(target.sql("SELECT @@GLOBAL.read_only, @@GLOBAL.event_scheduler"), lab.source.sql("SELECT 0, @@GLOBAL.event_scheduler"));
        assert_eq!(target.sql("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'tidemark_restore'"), "0");
        let status = if flavor == Flavor::Mysql { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" };
        assert_eq!(target.sql(status), "");
        target.sql("INSERT INTO d.t (b) VALUES (1)");
    }
}
