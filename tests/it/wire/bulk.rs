use bytes::Bytes;
use futures::stream;
use tidemark::model::Flavor;
use tidemark::mysql::wire::Error;

use super::connect;
use crate::support::{Server, ServerOptions};

const BOTH: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];

fn roomy(flavor: Flavor) -> Server {
    ServerOptions::of(flavor).arg("--max-allowed-packet=256M").arg("--local-infile=ON").start()
}

#[tokio::test]
async fn packets_around_and_over_16_mb_go_both_ways() {
    for flavor in BOTH {
        let server = roomy(flavor);
        let mut connection = connect(&server).await;
        // Row packets are the value and its length: these land below, at and above the edge of a packet.
        for length in [(1 << 24) - 6, (1 << 24) - 5, (1 << 24) - 4, 20 << 20, 2 * ((1 << 24) - 1) - 4] {
            let value: String =
                (0..length / 8).map(|n| format!("{n:08}")).collect::<String>() + &"x".repeat(length % 8);
            let rows = connection.stream_rows(&format!("SELECT '{value}', 7"), 1 << 30).await;
            let mut rows = rows.unwrap();
            let row = rows.next().await.unwrap().expect("one row");
            let fields: Vec<_> = row.fields().map(|f| f.unwrap().unwrap()).collect();
            assert!(fields[0] == value.as_bytes() && fields[1] == b"7", "{flavor}: {length} bytes");
            assert!(rows.next().await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn rows_stream_with_their_columns_nulls_and_bytes() {
    for flavor in BOTH {
        let server = roomy(flavor);
        server.sql(
            "CREATE DATABASE d; CREATE TABLE d.t (id INT UNSIGNED PRIMARY KEY, n VARCHAR(20), b LONGBLOB) CHARSET utf8mb4; \
             INSERT INTO d.t VALUES (1, 'a', REPEAT(x'00ff27', 100000)), (2, NULL, ''), (3, '\u{1F600}', NULL)",
        );
        let mut connection = connect(&server).await;
        let mut rows = connection.stream_rows("SELECT * FROM d.t ORDER BY id", 1 << 20).await.unwrap();
        let columns: Vec<_> =
            rows.columns().iter().map(|c| (c.name.as_str(), c.column_type, c.flags & 34, c.collation == 63)).collect();
        assert_eq!(columns, [("id", 3, 34, true), ("n", 0xfd, 0, false), ("b", 0xfc, 0, true)]);
        let mut seen = Vec::new();
        while let Some(row) = rows.next().await.unwrap() {
            seen.push(row.fields().map(|f| f.unwrap().map(<[u8]>::to_vec)).collect::<Vec<_>>());
        }
        let text = |t: &str| Some(t.as_bytes().to_vec());
        assert_eq!(seen[0], [text("1"), text("a"), Some([0, 255, 39].repeat(100_000))]);
        assert_eq!(seen[1], [text("2"), None, text("")]);
        assert_eq!(seen[2], [text("3"), text("\u{1F600}"), None]);
        // A row over the limit is an error, and the connection does not pretend to be whole afterwards.
        let mut rows = connection.stream_rows("SELECT REPEAT('x', 2000000)", 1 << 20).await.unwrap();
        assert!(matches!(rows.next().await, Err(Error::PacketTooLarge { .. })));
        assert!(matches!(connection.query("SELECT 1").await, Err(Error::Abandoned)));
        // An error in the middle of a result leaves the connection usable.
        let mut connection = connect(&server).await;
        let error = connection.query("SELECT id, (SELECT 1 UNION SELECT id) FROM d.t").await.expect_err("two rows");
        assert!(matches!(&error, Error::Server { source, .. } if source.code == 1242), "{error}");
        assert_eq!(connection.query("SELECT 1").await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn load_data_streams_from_the_client_and_keeps_nothing_of_a_source_that_fails() {
    const SQL: &str = "LOAD DATA LOCAL INFILE 'rows' INTO TABLE d.t";
    for flavor in BOTH {
        let server = roomy(flavor);
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT)");
        let mut connection = connect(&server).await;
        let rows: Vec<String> = (0..200_000).map(|n| format!("{n}\tvalue {n}\n")).collect();
        let chunks: Vec<_> = rows.chunks(70_000).map(|c| Ok::<_, std::io::Error>(Bytes::from(c.concat()))).collect();
        let done = connection.load_data(SQL, stream::iter(chunks)).await.unwrap();
        assert_eq!((done.affected_rows, done.warnings), (200_000, 0), "{flavor}: {done:?}");
        assert!(done.info.starts_with("Records: 200000"), "{:?}", done.info);
        assert_eq!(server.sql("SELECT COUNT(*), SUM(v = CONCAT('value ', id)) FROM d.t"), "200000\t200000");

        // A warning is counted: id 1 is there already (LOCAL makes duplicates warnings).
        let again = stream::iter([Ok::<_, std::io::Error>(Bytes::from("1\tagain\n-1\tnew\n"))]);
        let done = connection.load_data(SQL, again).await.unwrap();
        assert_eq!((done.affected_rows, done.warnings), (1, 1), "{flavor}");

        let broken = stream::iter([Ok(Bytes::from("-2\thalf\n")), Err(std::io::Error::other("store gone"))]);
        let error = connection.load_data(SQL, broken).await.expect_err("the source failed");
        assert!(error.to_string().contains("store gone"), "{error}");
        crate::support::wait_for("the server to drop the load", std::time::Duration::from_secs(20), || {
            let busy = server.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'LOAD DATA%'");
            (busy == "0").then_some(())
        });
        assert_eq!(server.sql("SELECT COUNT(*) FROM d.t WHERE id = -2"), "0", "{flavor}");

        server.sql("SET GLOBAL local_infile = OFF");
        let mut connection = connect(&server).await;
        let nothing = stream::iter([Ok::<_, std::io::Error>(Bytes::new())]);
        let error = connection.load_data(SQL, nothing).await.expect_err("local_infile is off");
        assert!(matches!(error, Error::LocalInfileOff { .. }), "{flavor}: {error}");
    }
}
