//! The data that is dumped, loaded, streamed and replayed: made by the server itself, so that it costs no client.

use std::fmt::Write as _;

use crate::support::Server;

/// Tables that the data set is spread over.
pub const TABLES: u32 = 4;
/// Bytes of a row, about.
const ROW_BYTES: u64 = 256;

/// How much data there is (TIDEMARK_BENCH_MIB, 512).
pub fn bytes() -> u64 {
    std::env::var("TIDEMARK_BENCH_MIB").map_or(512, |mib| mib.parse::<u64>().expect("TIDEMARK_BENCH_MIB is a number"))
        << 20
}

/// Fills `bench.t0 …` with about `bytes` of rows of mixed columns, some of it compressible, some not.
pub fn fill_tables(server: &Server, bytes: u64) {
    let rows = bytes / ROW_BYTES / u64::from(TABLES);
    let mut sql = "CREATE DATABASE bench; USE bench; SET SESSION sql_log_bin = 0;\n".to_owned();
    for table in 0..TABLES {
        write!(
            sql,
            "CREATE TABLE t{table} (id BIGINT PRIMARY KEY AUTO_INCREMENT, customer INT NOT NULL, price DECIMAL(12,2) NOT NULL,
               created DATETIME(6) NOT NULL, ratio DOUBLE, note VARCHAR(120), payload VARBINARY(200), KEY (customer), KEY (created));
             INSERT INTO t{table} (customer, price, created, ratio, note, payload)
               WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
               SELECT RAND(i) * 100000, RAND() * 10000, NOW(6) - INTERVAL i SECOND, RAND(),
                 CONCAT('order ', i, ' of the customer, paid and shipped, ', REPEAT('-', i % 40)),
                 UNHEX(CONCAT(SHA2(RAND(), 512), SHA2(RAND(), 256))) FROM n;\n"
        )
        .unwrap();
        let mut have = 1000;
        while have < rows {
            let more = have.min(rows - have);
            writeln!(
                sql,
                "INSERT INTO t{table} (customer, price, created, ratio, note, payload)
                   SELECT (customer * 31 + 7) % 100000, price + 0.01, created + INTERVAL 1 MICROSECOND, RAND(), note,
                     UNHEX(CONCAT(SHA2(RAND(), 512), SHA2(RAND(), 256))) FROM t{table} LIMIT {more};"
            )
            .unwrap();
            have += more;
        }
    }
    server.sql(&sql);
}

/// Writes about `bytes` of binary log in transactions of a thousand rows.
pub fn write_binlog_in_large_transactions(server: &Server, bytes: u64) {
    server.sql("CREATE DATABASE stream; CREATE TABLE stream.t (id BIGINT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(200), payload VARBINARY(200))");
    let insert = "INSERT INTO stream.t (note, payload)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        SELECT CONCAT('order ', i, ' of the customer, paid and shipped, ', REPEAT('-', i % 40)),
               UNHEX(CONCAT(SHA2(RAND(), 512), SHA2(RAND(), 256))) FROM n;\n";
    let rows = bytes / 180;
    server.sql(&format!(
        "SET SESSION binlog_row_image = FULL;\n{}FLUSH BINARY LOGS;",
        insert.repeat((rows / 1000) as usize)
    ));
}

/// Commits `transactions` small ones (an insert and an update each), from four sessions at a time.
pub fn write_small_transactions(server: &Server, transactions: u32) {
    server.sql(
        "CREATE DATABASE replay; USE replay;
         DELIMITER //
         CREATE PROCEDURE work(session INT, transactions INT)
         BEGIN
           DECLARE i INT DEFAULT 0;
           WHILE i < transactions DO
             START TRANSACTION;
             INSERT INTO t (session, note, payload) VALUES (session, CONCAT('order ', i), REPEAT(SHA2(i, 256), 10));
             UPDATE counters SET value = value + 1 WHERE id = session * 100 + i % 100;
             COMMIT;
             SET i = i + 1;
           END WHILE;
         END //
         CREATE PROCEDURE steady(session INT, seconds INT)
         BEGIN
           DECLARE end_at DATETIME(6) DEFAULT SYSDATE(6) + INTERVAL seconds SECOND;
           WHILE SYSDATE(6) < end_at DO
             CALL work(session, 1);
             DO SLEEP(0.01);
           END WHILE;
         END //
         DELIMITER ;
         CREATE TABLE t (id BIGINT PRIMARY KEY AUTO_INCREMENT, session INT, note VARCHAR(100), payload VARCHAR(1000));
         CREATE TABLE counters (id INT PRIMARY KEY, value BIGINT NOT NULL);
         INSERT INTO counters WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 399) SELECT i, 0 FROM n;",
    );
    std::thread::scope(|scope| {
        for session in 0..4 {
            scope.spawn(move || server.sql(&format!("CALL replay.work({session}, {})", transactions / 4)));
        }
    });
    server.sql("FLUSH BINARY LOGS");
}
