//! Documents of MySQL's JSON come back with the types that their text does not tell.

use tidemark::archive::manifest::Content;
use tidemark::model::Progress;
use tidemark::restore::base::{self, BaseConfig, BaseError};
use tokio_util::sync::CancellationToken;

use crate::fidelity::{back_up, endpoint, folder, restore};
use crate::support::{Server, ServerOptions};

const SCHEMA: &str = "SET NAMES utf8mb4; SET sql_mode = 'ALLOW_INVALID_DATES'; SET time_zone = '+00:00'; CREATE DATABASE app; USE app;
  CREATE TABLE typed (ts TIMESTAMP(6), y YEAR, b5 BIT(5), b12 BIT(12), b64 BIT(64), vb VARBINARY(200), bn BINARY(4), bl BLOB, lb LONGBLOB, tb TINYBLOB,
    mb MEDIUMBLOB, f FLOAT, e ENUM('a','b'), g GEOMETRY, u BIGINT UNSIGNED, d DATE, t TIME(2), dt DATETIME);
  INSERT INTO typed VALUES ('2026-11-21 06:26:20.288515', 2020, 5, 300, 18446744073709551615, REPEAT(x'ff00', 90), 'bn', '', REPEAT('l', 300), x'8000', 'mb', 1.1, 'b',
    ST_GeomFromText('POINT(1 2)'), 7, '0000-00-00', '-10:00:00.25', '2020-02-31');
  CREATE TABLE docs (id INT PRIMARY KEY, other JSON, j JSON, made TIMESTAMP NOT NULL DEFAULT '2001-01-01' ON UPDATE CURRENT_TIMESTAMP, u INT AS (j->'$.u') STORED, KEY (u));
  INSERT INTO docs (id, j) SELECT 1, JSON_OBJECT('ts',ts,'y',y,'b5',b5,'b12',b12,'b64',b64,'vb',vb,'bn',bn,'bl',bl,'lb',lb,'tb',tb,'mb',mb,'f',f,'e',e,'g',g,'u',u,'d',d,'t',t,'dt',dt)
    FROM typed;
  INSERT INTO docs (id, j) SELECT 2, JSON_OBJECT('', JSON_ARRAY(1, u, 1.0, JSON_OBJECT('k\"\\'', u, '😀\\\\', JSON_ARRAY(dt, JSON_ARRAY(u, -1, 5e0)))), 'a.b[0]', u, '$', NOW(6)) FROM typed;
  INSERT INTO docs (id, j) VALUES (3, JSON_OBJECT('a', CAST(1.10 AS DECIMAL(5,2)), 't', NOW(6), 'b', CAST('x' AS BINARY), 'n', CAST(-0.05 AS DECIMAL(65,30)),
    'i', CAST(12345678901234567890123456789012345678901234567890123456789012345 AS DECIMAL(65,0)), 'z', 0.0));
  INSERT INTO docs (id, other, j) VALUES (4, '{\"plain\": 1.10}', CAST(CAST(7 AS UNSIGNED) AS JSON)), (5, CAST(18446744073709551615 AS JSON), CAST(x'00' AS JSON)), (6, 'null', NULL),
    (7, '[]', '{\"a\": [1, 2.0, \"2020-01-01 00:00:00.000000\", \"base64:type15:AA==\"]}');
  INSERT INTO docs (id, j) SELECT 8, JSON_OBJECT('large', REPEAT('x\\\\', 800000), 'n', 1.50, 'blob', lb) FROM typed;
  CREATE TABLE no_key (j JSON NOT NULL);
  INSERT INTO no_key SELECT JSON_OBJECT('id', CAST(n AS UNSIGNED), 'list', JSON_ARRAY(n * 1.5, n * 2.25, n, n, CAST(n AS DECIMAL), n/7, n/3, n/9, n/11, n/13))
    FROM (WITH RECURSIVE c AS (SELECT 1 n UNION ALL SELECT n + 1 FROM c WHERE n < 1000) SELECT n FROM c) x;
  CREATE TABLE plain (id INT PRIMARY KEY, m JSON);
  INSERT INTO plain VALUES (1, '{\"a\": 1}'), (2, '[1.5, \"x\"]');";

#[tokio::test(flavor = "multi_thread")]
async fn every_value_in_a_document_keeps_its_type_and_the_proof_sees_one_that_did_not() {
    let (source, target) = (ServerOptions::mysql().start(), ServerOptions::mysql().start());
    source.sql(SCHEMA);
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up(&source, &store).await;
    let Content::Logical(content) = &manifest.content;
    assert_eq!(content.warnings, [""; 0]);
    restore(&store, &manifest, &target).await;
    let types = types(&source);
    for kind in ["DECIMAL", "UNSIGNED", "INTEGER", "DOUBLE", "DATE\t", "TIME\t", "DATETIME", "TIMESTAMP", "BLOB", "BIT"]
    {
        assert!(types.contains(kind), "{kind}");
    }
    assert_eq!(types, self::types(&target));
    for table in ["docs", "no_key", "plain", "typed"] {
        let sql = format!("CHECKSUM TABLE app.{table}");
        assert_eq!(source.sql(&sql), target.sql(&sql));
    }
    // Equal text and another type is a difference.
    for (table, column, id) in [("docs", "j", "id = 3"), ("docs", "j", "id = 4"), ("docs", "j", "id = 2")] {
        let before = target.sql(&format!("SELECT JSON_STORAGE_SIZE({column}) FROM app.{table} WHERE {id}"));
        target.sql(&format!(
            "SET sql_log_bin = 0; CREATE TABLE app.kept AS SELECT * FROM app.{table} WHERE {id}; \
             UPDATE app.{table} SET {column} = '0', made = made WHERE {id}; \
             UPDATE app.{table} d, app.kept k SET d.{column} = CAST(k.{column} AS CHAR), d.made = k.made WHERE d.{id}"
        ));
        let (at, config) = (endpoint(&target), BaseConfig::default());
        let differs =
            base::verify(&store, &manifest, &at, &config, Progress::default(), CancellationToken::new()).await;
        assert!(
            matches!(&differs, Err(BaseError::Differs { table: name, .. }) if name.contains(table)),
            "{id} {before}: {differs:?}"
        );
        target.sql(&format!(
            "SET sql_log_bin = 0; UPDATE app.{table} SET {column} = '0', made = made WHERE {id}; \
             UPDATE app.{table} d, app.kept k SET d.{column} = k.{column}, d.made = k.made WHERE d.{id}; DROP TABLE app.kept"
        ));
    }
    let (at, config) = (endpoint(&target), BaseConfig::default());
    base::verify(&store, &manifest, &at, &config, Progress::default(), CancellationToken::new()).await.unwrap();
}

/// Every value of every document with its type and its storage size, by walking it.
fn types(server: &Server) -> String {
    let walk = |table: &str, column: &str, order: &str| {
        server.sql(&format!(
            "SELECT {order}, LEFT(SHA2({column}, 256), 8), JSON_TYPE({column}), x1, x2, JSON_TYPE(v) a, JSON_TYPE(w) b, LEFT(v, 60), LEFT(w, 60) \
             FROM app.{table} LEFT JOIN JSON_TABLE({column}, '$' COLUMNS (NESTED PATH '$**.*' COLUMNS (x1 FOR ORDINALITY, v JSON PATH '$'), \
             NESTED PATH '$**[*]' COLUMNS (x2 FOR ORDINALITY, w JSON PATH '$'))) x ON TRUE ORDER BY 1, 2, 4, 5"
        ))
    };
    [walk("docs", "j", "id"), walk("docs", "other", "id"), walk("no_key", "j", "1"), walk("plain", "m", "id")]
        .join("\n")
}
