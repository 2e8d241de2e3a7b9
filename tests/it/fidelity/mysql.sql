SET NAMES utf8mb4;
SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', cte_max_recursion_depth = 1000000;
CREATE DATABASE `odd ``name` CHARACTER SET latin1 COLLATE latin1_german1_ci;
CREATE DATABASE app;
CREATE DATABASE empty_one CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
USE app;

-- Values within definitions, in other character sets than that of the definitions.
CREATE TABLE words (id INT PRIMARY KEY, e ENUM('klein','groß') DEFAULT 'groß', s SET('ä','ö') DEFAULT 'ö', v VARCHAR(9) DEFAULT 'ö' COMMENT 'größe',
  raw VARBINARY(9) DEFAULT x'FF27C3', length INT AS (LENGTH(CONCAT(v, 'ö'))) STORED, KEY (v), CHECK (v <> 'ü')) CHARACTER SET latin1;
INSERT INTO words (id) VALUES (1);
CREATE TABLE words_ru (id INT, w VARCHAR(9) NOT NULL DEFAULT 'ж', e ENUM('а','б') DEFAULT 'б', PRIMARY KEY (id, w)) CHARACTER SET koi8r
  PARTITION BY LIST COLUMNS (w) (PARTITION p0 VALUES IN ('ж'), PARTITION p1 VALUES IN ('я', 'б'));
INSERT INTO words_ru (id) VALUES (1); INSERT INTO words_ru VALUES (2, 'я', 'а');
CREATE TABLE words_zh (id INT, s SET('中','日') DEFAULT '日', w VARCHAR(9) DEFAULT '中', PRIMARY KEY (id, w)) CHARACTER SET gbk
  PARTITION BY RANGE COLUMNS (w) (PARTITION p0 VALUES LESS THAN ('日'), PARTITION p1 VALUES LESS THAN ('中'), PARTITION p2 VALUES LESS THAN (MAXVALUE));
INSERT INTO words_zh (id) VALUES (1); INSERT INTO words_zh (id, w) VALUES (2, '日'), (3, '阿'), (4, 'x');

-- Every column type, with values whose text loses bits.
CREATE TABLE numbers (
  id BIGINT UNSIGNED PRIMARY KEY, t TINYINT, tu TINYINT UNSIGNED ZEROFILL, s SMALLINT, m MEDIUMINT, i INT, b BIGINT, bu BIGINT UNSIGNED,
  d DECIMAL(65,30), f FLOAT, f2 FLOAT(7,3), r DOUBLE, r2 DOUBLE(20,5), bits BIT(64), bit1 BIT, flag BOOL, y YEAR
);
INSERT INTO numbers VALUES
 (0, -128, 5, -32768, -8388608, -2147483648, -9223372036854775808, 18446744073709551615, 12345678901234567890123456789012345.123456789012345678901234567890, 1.1, 1234.567, 0.1e0+0.2e0, 12345.67891, b'1111111111111111111111111111111111111111111111111111111111111111', 1, TRUE, '0000'),
 (1, 0, 0, 0, 0, 0, 0, 0, 0, 3.4028234e38, 9999.999, 1.7976931348623157e308, 1e14/3, b'0', 0, FALSE, 2000),
 (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1.17549435e-38, 0.001, 5e-324, 0, b'1000000001000000000101000001011000', NULL, NULL, 1901),
 (18446744073709551615, 1,1,1,1,1,1,1, -0.5, 16777217, 0.1e0, -0e0, -0e0, 9, 1, 1, 2155),
 (9223372036854775808, 1,1,1,1,1,1,1, 0.000000000000000000000000000001, 0.1, 0.1, 123456789012345678, 0.00001, 10, 1, 1, 2155);

CREATE TABLE times (id INT PRIMARY KEY, d DATE, t TIME, t6 TIME(6), dt DATETIME, dt6 DATETIME(6), ts TIMESTAMP NULL, ts6 TIMESTAMP(6) NULL,
  made TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP);
INSERT INTO times VALUES
 (1, '0000-00-00', '-838:59:59', '-00:00:00.000001', '0000-00-00', '9999-12-31 23:59:59.999999', '2020-10-25 00:30:00', '2020-10-25 01:30:00.000001', '2020-01-01'),
 (2, '2020-02-31', '838:59:59', '838:59:58.999999', '2020-02-31 12:00:00', '1000-01-01', '1970-01-01 00:00:01', '2038-01-19 03:14:07.499999', '2020-01-01'),
 (3, '2020-00-00', NULL, NULL, '2020-01-00', NULL, NULL, NULL, '2020-01-01'), (4, '0001-01-01', '00:00', '0:0:0.5', '2020-01-01', NULL, '0000-00-00', NULL, '2020-01-01');

CREATE TABLE texts (id INT PRIMARY KEY, c CHAR(20), v VARCHAR(300), bin BINARY(8), vb VARBINARY(300), tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB,
  tt TINYTEXT, te TEXT, mt MEDIUMTEXT, lt LONGTEXT, l1 VARCHAR(50) CHARACTER SET latin1, sj VARCHAR(50) CHARACTER SET sjis, u16 VARCHAR(50) CHARACTER SET utf16,
  u32 CHAR(5) CHARACTER SET utf32, gb VARCHAR(50) CHARACTER SET gb18030, bi VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin);
INSERT INTO texts VALUES
 (1, 'spaces  ', 'spaces  ', 'a\0 ', x'000102030405060708090a0b0c0d0e0f1a1b22275c2c7c', x'00', x'5c4e', x'0a', x'ff00fe', '', '\\N', 'tab\there\nline\r\nend\\', '😀 é ''"`', 'é£', _sjis x'835c', 'a€😀', '😀', '中文😀', 'B '),
 (2, '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', ''), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (4, 'NULL', '\\', '\\', '\\\\', '\t', '\n', x'5c0a', x'5c09', 'NULL', '\\.', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x');
INSERT INTO texts (id, vb) SELECT 1000 + n, CHAR(n) FROM (WITH RECURSIVE c AS (SELECT 0 n UNION ALL SELECT n + 1 FROM c WHERE n < 255) SELECT n FROM c) x;

CREATE TABLE choices (id INT PRIMARY KEY, e ENUM('a','b','c'), e_empty ENUM('','x'), e_digits ENUM('2','1','3'), e_wide ENUM('p','q') CHARACTER SET utf16,
  e_quote ENUM('it''s','a,b','(') , s SET('x','y','z'), s_digits SET('1','2','4'), s64 SET('00','01','02','03','04','05','06','07','08','09','10','11','12','13','14','15','16','17','18','19','20','21','22','23','24','25','26','27','28','29','30','31','32','33','34','35','36','37','38','39','40','41','42','43','44','45','46','47','48','49','50','51','52','53','54','55','56','57','58','59','60','61','62','63'));
INSERT INTO choices VALUES (1, 'a', '', '1', 'q', 'it''s', 'x,z', '4', '00,31,63'), (2, 'nonsense', 'nonsense', 'nonsense', 'nonsense', 'nonsense', 'nonsense', 'nonsense', ''),
 (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (4, 'c', 'x', '3', 'p', 'a,b', '', '', 18446744073709551615), (5, 'b', '', '2', 'q', '(', 'y', '1,2', 9223372036854775809);

CREATE TABLE docs (id INT PRIMARY KEY, j JSON, k JSON);
INSERT INTO docs VALUES (1, '{"a": 1.0, "b": [1, -1, 18446744073709551615, 1e100, 0.1, true, null, "x\\ty\\u0001"], "😀": {}}', '[]'), (2, NULL, 'null'), (3, '"plain \\\\ text"', '1.5');
INSERT INTO docs SELECT 10, JSON_ARRAY(REPEAT('long ', 20000)), JSON_OBJECT('k', REPEAT('\\', 1000));

CREATE TABLE shapes (id INT PRIMARY KEY, g GEOMETRY, p POINT NOT NULL SRID 4326, l LINESTRING, mp MULTIPOLYGON, gc GEOMETRYCOLLECTION, SPATIAL KEY sp (p));
INSERT INTO shapes VALUES (1, ST_GeomFromText('POINT(1.1 2.2)', 3857), ST_GeomFromText('POINT(10.5 20.25)', 4326), ST_GeomFromText('LINESTRING(0 0, 1e-300 1e300)'),
  ST_GeomFromText('MULTIPOLYGON(((0 0,0 3,3 3,3 0,0 0),(1 1,1 2,2 2,2 1,1 1)))'), ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')),
  (2, NULL, ST_GeomFromText('POINT(-90 180)', 4326), NULL, NULL, ST_GeomFromText('GEOMETRYCOLLECTION EMPTY'));

CREATE SPATIAL REFERENCE SYSTEM 4120000 NAME 'our own, it''s \\ odd' ORGANIZATION 'us' IDENTIFIED BY 7 DEFINITION 'GEOGCS["ours",DATUM["World Geodetic System 1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.017453292519943278],AXIS["Lat",NORTH],AXIS["Lon",EAST]]' DESCRIPTION 'd';
CREATE SPATIAL REFERENCE SYSTEM 4120001 NAME 'bare' DEFINITION 'GEOGCS["bare",DATUM["World Geodetic System 1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.017453292519943278],AXIS["Lat",NORTH],AXIS["Lon",EAST]]';
CREATE TABLE placed (id INT PRIMARY KEY, p POINT NOT NULL SRID 4120000, SPATIAL KEY (p));
INSERT INTO placed VALUES (1, ST_GeomFromText('POINT(10.5 20.25)', 4120000));

CREATE TABLE vectors (id INT PRIMARY KEY, v VECTOR(3));
INSERT INTO vectors VALUES (1, TO_VECTOR('[1.1, -2.5e-30, 3e30]')), (2, NULL);

-- Columns and keys of every kind.
CREATE TABLE computed (id INT AUTO_INCREMENT PRIMARY KEY, a INT, hidden INT INVISIBLE DEFAULT 7, stored_sum INT GENERATED ALWAYS AS (a + 1) STORED,
  stored_float FLOAT GENERATED ALWAYS AS (a / 3) STORED, virtual_twice INT GENERATED ALWAYS AS (a * 2) VIRTUAL, expr_default VARCHAR(64) DEFAULT (CONCAT('x', 'y')), name VARCHAR(50),
  CHECK (a < 1000000), CONSTRAINT off_check CHECK (a > 5) NOT ENFORCED, KEY by_lower ((LOWER(name))), KEY by_sum (stored_sum), KEY by_virtual (virtual_twice),
  UNIQUE KEY desc_key (name DESC, id), KEY prefix_key (name(5)) COMMENT 'a,b) KEY', KEY invisible_key (a) INVISIBLE, FULLTEXT KEY words (name));
INSERT INTO computed (id, a, hidden, name) VALUES (1, 1, 2, 'One'), (2, 2, NULL, 'TWO words'), (0, 3, 3, 'zero id'), (-5, 4, 4, NULL);
CREATE TABLE multi_valued (id INT PRIMARY KEY, tags JSON, KEY by_tags ((CAST(tags->'$[*]' AS UNSIGNED ARRAY))));
INSERT INTO multi_valued VALUES (1, '[1,2]'), (2, '[3]'), (3, '[]'), (4, NULL);
ALTER TABLE computed AUTO_INCREMENT = 5000;
CREATE TABLE no_key (a INT, b VARCHAR(10));
INSERT INTO no_key VALUES (1, 'dup'), (1, 'dup'), (NULL, NULL);
CREATE TABLE unique_only (a INT NOT NULL, b VARCHAR(10), UNIQUE KEY (a), KEY (b));
INSERT INTO unique_only VALUES (2, 'x'), (1, 'y');
SET SESSION sql_generate_invisible_primary_key = ON;
CREATE TABLE generated_key (a INT);
INSERT INTO generated_key VALUES (7), (7);
SET SESSION sql_generate_invisible_primary_key = OFF;
CREATE TABLE composite (a INT, b VARCHAR(20), c DATE, v INT, counter INT NOT NULL AUTO_INCREMENT, PRIMARY KEY (b, a, c), KEY (counter));
INSERT INTO composite (a, b, c, v) VALUES (1, 'A', '2020-01-01', 1), (1, 'ä', '2021-01-01', 2), (2, 'z', '0000-00-00', 3);
CREATE TABLE `we``ird
table` (`co``l
umn` INT PRIMARY KEY, `select` INT, `é` VARCHAR(5) DEFAULT 'é😀', `?` ENUM('?') COMMENT 'comment with ''quotes'' and ) , (');
INSERT INTO `we``ird
table` VALUES (1, 2, 'x', '?');
CREATE TABLE parts (id INT, d DATE NOT NULL, v VARCHAR(20), PRIMARY KEY (id, d), KEY (v)) PARTITION BY RANGE COLUMNS (d)
  (PARTITION p0 VALUES LESS THAN ('2020-01-01'), PARTITION `p``1` VALUES LESS THAN (MAXVALUE));
INSERT INTO parts VALUES (1, '2019-05-05', 'old'), (1, '2021-05-05', 'new');
CREATE TABLE subparts (id INT, y INT) PARTITION BY RANGE (y) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 (PARTITION p0 VALUES LESS THAN (2000), PARTITION p1 VALUES LESS THAN MAXVALUE);
INSERT INTO subparts VALUES (1, 1999), (2, 2001);
CREATE TABLE packed (id INT PRIMARY KEY, v TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8 COMMENT='packed ''table'' ; --';
INSERT INTO packed VALUES (1, REPEAT('x', 10000));
CREATE TABLE myisam_table (id INT PRIMARY KEY, v VARCHAR(10), FULLTEXT KEY (v)) ENGINE=MyISAM;
INSERT INTO myisam_table VALUES (2, 'two'), (1, 'one');
CREATE TABLE memory_table (id INT PRIMARY KEY, v VARCHAR(10)) ENGINE=MEMORY;
INSERT INTO memory_table VALUES (1, 'm');
CREATE TABLE archive_table (id INT, v VARCHAR(10)) ENGINE=ARCHIVE;
INSERT INTO archive_table VALUES (1, 'a');
CREATE TABLE black_table (id INT) ENGINE=BLACKHOLE;

-- Foreign keys: forward, circular, across schemas, to oneself, to a unique key.
SET foreign_key_checks = 0;
CREATE TABLE a_child (id INT PRIMARY KEY, p INT, q INT, self INT, CONSTRAINT fk_p FOREIGN KEY (p) REFERENCES z_parent (id) ON DELETE CASCADE ON UPDATE SET NULL,
  CONSTRAINT fk_q FOREIGN KEY (q) REFERENCES z_parent (u), CONSTRAINT fk_self FOREIGN KEY (self) REFERENCES a_child (id));
CREATE TABLE z_parent (id INT PRIMARY KEY, u INT, c INT, UNIQUE KEY (u), CONSTRAINT fk_back FOREIGN KEY (c) REFERENCES a_child (id));
INSERT INTO z_parent VALUES (1, 10, 1); INSERT INTO a_child VALUES (1, 1, 10, 1), (2, 999, NULL, 1);
CREATE TABLE `odd ``name`.other (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES app.z_parent (id)) ;
INSERT INTO `odd ``name`.other VALUES (1, 1);
SET foreign_key_checks = 1;

CREATE TABLE smileys (id INT PRIMARY KEY, e ENUM('😀','?x','b😀c','','it''s') CHARACTER SET utf8mb4, s SET('😀','y?') CHARACTER SET utf8mb4 NOT NULL DEFAULT 'y?', w ENUM('😀','x') CHARACTER SET utf16);
INSERT INTO smileys VALUES (1, 1, 3, 1), (2, 3, 1, 2), (3, 5, 2, 1), (4, 4, 0, NULL);

-- A table large enough for ranges, several objects and late keys.
CREATE TABLE large (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, a INT NOT NULL, b VARCHAR(100), c DATETIME(3), UNIQUE KEY u (a, id), KEY k1 (b), KEY k2 (c, a));
INSERT INTO large (a, b, c) WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
  SELECT i % 977, CONCAT('row ', SHA2(i, 256)), '2020-01-01' + INTERVAL i SECOND FROM n;
INSERT INTO large (id, a) VALUES (18446744073709551610, 1);
ANALYZE TABLE large UPDATE HISTOGRAM ON a WITH 16 BUCKETS; ANALYZE TABLE words_ru UPDATE HISTOGRAM ON w; ANALYZE TABLE times UPDATE HISTOGRAM ON d AUTO UPDATE;
ANALYZE TABLE texts UPDATE HISTOGRAM ON te;

-- Views in the wrong order, with odd settings.
CREATE VIEW zz_base AS SELECT id, a FROM large;
CREATE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW aa_on_view AS SELECT id FROM zz_base WHERE a > 5 WITH CASCADED CHECK OPTION;
CREATE FUNCTION add_one(x INT) RETURNS INT DETERMINISTIC RETURN x + 1;
CREATE SQL SECURITY INVOKER VIEW calls AS SELECT add_one(1) AS two;
CREATE VIEW with_function AS SELECT add_one(id) AS n, 'é😀' AS txt FROM numbers;

-- Views that do not work: a table, a column, a function, a schema is gone; one of such a view; one that cannot be made as it was.
CREATE DATABASE broken; USE broken;
CREATE TABLE doomed (a INT, b VARCHAR(9), d DATE, c TEXT CHARACTER SET latin1); CREATE TABLE kept (id INT PRIMARY KEY, gone INT); INSERT INTO kept VALUES (1, 1);
CREATE FUNCTION f(x INT, y INT) RETURNS INT DETERMINISTIC RETURN x + y; CREATE DATABASE `gone.one`; CREATE TABLE `gone.one`.t (z INT);
CREATE VIEW no_table AS SELECT a FROM doomed;
CREATE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW no_column AS SELECT k.gone AS g FROM kept k WHERE k.gone > 5 AND k.id <> '😀' WITH LOCAL CHECK OPTION;
CREATE VIEW no_function AS SELECT f(id, 2) AS n FROM kept;
CREATE VIEW many AS SELECT d.a AS q, k.gone, COUNT(*) AS n FROM doomed d JOIN kept k ON d.a = k.id WHERE d.d > '2020-01-01' AND b = 'é' GROUP BY d.a, k.gone HAVING n > 1 ORDER BY 1 LIMIT 5;
CREATE VIEW aa_of_a_view AS SELECT a FROM no_table WHERE a > 1 WITH CASCADED CHECK OPTION;
CREATE VIEW no_schema AS SELECT z, x.a FROM `gone.one`.t JOIN (SELECT a FROM doomed) x;
CREATE VIEW no_charset AS SELECT c COLLATE latin1_german1_ci AS c FROM doomed;
DROP TABLE doomed; DROP FUNCTION f; ALTER TABLE kept DROP COLUMN gone; DROP DATABASE `gone.one`;
USE app;

DELIMITER //
SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'//
CREATE PROCEDURE "odd mode"(IN p INT, OUT q TEXT) COMMENT 'it''s \ one' BEGIN SELECT 'a\' || "id" INTO q FROM large LIMIT 1; END//
CREATE EVENT "odd event" ON SCHEDULE EVERY 1 DAY STARTS '2031-01-01 03:00:00' DISABLE COMMENT 'it''s \ one
more' DO SELECT 'a\' || "x"//
SET SESSION sql_mode = ''//
CREATE DEFINER='nobody'@'nowhere' PROCEDURE ghost_definer() SQL SECURITY DEFINER SELECT 1//
CREATE TRIGGER t2 BEFORE INSERT ON no_key FOR EACH ROW SET NEW.a = NEW.a + 1//
CREATE TRIGGER t1 BEFORE INSERT ON no_key FOR EACH ROW PRECEDES t2 SET NEW.a = NEW.a * 2//
CREATE TRIGGER t0 BEFORE INSERT ON no_key FOR EACH ROW FOLLOWS t2 SET NEW.b = CONCAT(NEW.b, 'é')//
CREATE TRIGGER upd AFTER UPDATE ON large FOR EACH ROW BEGIN IF NEW.a < 0 THEN SET @x = 1; END IF; END//
DELIMITER ;
SET time_zone = '-03:00';
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2031-01-01 03:00:00' ON COMPLETION PRESERVE COMMENT 'ev' DO DELETE FROM no_key;
CREATE EVENT once_disabled ON SCHEDULE AT '2035-05-05 05:05:05' DISABLE DO SET @a = 1;
SET time_zone = '+00:00';
SET NAMES latin1;
CREATE FUNCTION latin_body() RETURNS VARCHAR(20) CHARSET utf8mb4 DETERMINISTIC RETURN 'Ã©';
SET NAMES utf8mb4;
ALTER DATABASE app COLLATE utf8mb4_unicode_ci;
CREATE FUNCTION other_collation(x VARCHAR(10)) RETURNS INT DETERMINISTIC RETURN LENGTH(x);
ALTER DATABASE app COLLATE utf8mb4_0900_ai_ci;

-- Accounts.
CREATE ROLE reader, writer, `odd role`@`%.example.com`;
CREATE USER plain@'%' IDENTIFIED BY 'secret';
CREATE USER `odd``us er`@`10.0.%` IDENTIFIED WITH caching_sha2_password BY 'p''w"\\' REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 5 PASSWORD EXPIRE INTERVAL 90 DAY PASSWORD HISTORY 3 FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 COMMENT 'it''s';
CREATE USER locked@localhost IDENTIFIED BY RANDOM PASSWORD ACCOUNT LOCK;
CREATE USER dynamic@localhost IDENTIFIED BY 'x' DEFAULT ROLE reader, writer;
GRANT SELECT ON app.* TO reader; GRANT INSERT, UPDATE (a, b) ON app.large TO writer WITH GRANT OPTION; GRANT writer TO `odd role`@`%.example.com`;
GRANT BACKUP_ADMIN, REPLICATION SLAVE ON *.* TO dynamic@localhost; GRANT EXECUTE ON PROCEDURE app.ghost_definer TO plain@'%'; GRANT SELECT ON `odd ``name`.* TO plain@'%';
GRANT `odd role`@`%.example.com` TO plain@'%' WITH ADMIN OPTION;
CREATE USER rotated@'%' IDENTIFIED BY 'old'; ALTER USER rotated@'%' IDENTIFIED BY 'new' RETAIN CURRENT PASSWORD;
CREATE USER `exp''ired`@'%' IDENTIFIED BY 'old' COMMENT 'x'; ALTER USER `exp''ired`@'%' IDENTIFIED BY 'new' RETAIN CURRENT PASSWORD; ALTER USER `exp''ired`@'%' PASSWORD EXPIRE;

CREATE SERVER `far ``away` FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h', DATABASE 'd', USER 'it''s', PASSWORD 'p\\w', PORT 3307);
CREATE SERVER `by socket` FOREIGN DATA WRAPPER mysql OPTIONS (SOCKET '/a b', OWNER 'root');
CREATE DATABASE frozen; CREATE TABLE frozen.t (id INT PRIMARY KEY); INSERT INTO frozen.t VALUES (1); CREATE VIEW frozen.v AS SELECT * FROM frozen.t;
ALTER SCHEMA frozen READ ONLY = 1;

-- General tablespaces, one whose pages are compressed.
CREATE TABLESPACE `arch ``8` ADD DATAFILE 'arch8.ibd' FILE_BLOCK_SIZE = 8192;
CREATE TABLE app.archived (id INT PRIMARY KEY, t TEXT) TABLESPACE `arch ``8` ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 8;
INSERT INTO app.archived VALUES (1, 'a');
CREATE TABLESPACE growing ADD DATAFILE 'growing.ibd' AUTOEXTEND_SIZE = 8M; CREATE TABLE app.grown (id INT PRIMARY KEY) TABLESPACE growing;
