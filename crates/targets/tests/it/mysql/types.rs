//! Every type, bit for bit, as ordinary column, as key, and where there is no key.

use super::common::Shop;
use checkrein_core::rollback::OnConflict;
use checkrein_targets::snapshot::Side;
use checkrein_testbed::servers::mariadb::is_mysql;

/// Declaration, and values of it as SQL.
const TYPES: &[(&str, &[&str])] = &[
    ("TINYINT", &["-128", "127", "0"]),
    ("BIGINT UNSIGNED", &["18446744073709551615", "0"]),
    ("BIGINT", &["-9223372036854775808", "9223372036854775807"]),
    ("INT(5) ZEROFILL", &["7", "4294967295"]),
    ("BOOLEAN", &["TRUE", "FALSE"]),
    (
        "DECIMAL(65,30)",
        &[
            "12345678901234567890123456789012345.123456789012345678901234567891",
            "-0.000000000000000000000000000001",
        ],
    ),
    ("DECIMAL(20,0) UNSIGNED", &["99999999999999999999", "99999999999999999998"]),
    ("FLOAT", &["1.1", "3.4028235e38", "1.17549e-38", "16777217", "0.1"]),
    ("FLOAT(7,3)", &["1234.567", "-0.001"]),
    ("DOUBLE", &["1.1", "5e-324", "1.7976931348623157e308", "0.30000000000000004"]),
    ("BIT(1)", &["b'1'", "b'0'"]),
    ("BIT(64)", &["b'1111111111111111111111111111111111111111111111111111111111111111'", "b'10'"]),
    ("YEAR", &["1901", "2155", "0"]),
    ("DATE", &["'0000-00-00'", "'2020-00-00'", "'9999-12-31'", "'2020-02-31'"]),
    ("DATETIME", &["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'2024-03-31 02:30:00'"]),
    ("DATETIME(6)", &["'9999-12-31 23:59:59.999999'", "'2024-01-01 00:00:00.000001'"]),
    ("TIMESTAMP NULL", &["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"]),
    ("TIMESTAMP(6) NULL", &["'2024-10-27 02:30:00.123456'", "'2024-10-27 01:30:00.000001'"]),
    ("TIME", &["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"]),
    ("TIME(6)", &["'-12:13:14.151617'", "'01:02:03.000004'"]),
    ("CHAR(10) CHARACTER SET latin1", &["X'4AE9'", "'a'", "''", "'b  '"]),
    ("CHAR(5) CHARACTER SET utf8mb4", &["'日本語'", "'😀'", "''"]),
    ("VARCHAR(20) CHARACTER SET utf8mb4", &["'a '", "'b  '", "'😀é\u{301}'", "'c\\0d'", "'\\\\''\"`'"]),
    ("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", &["'A'", "'a'", "'ä'"]),
    ("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", &["'n '", "'n'"]),
    ("VARCHAR(20) CHARACTER SET utf8mb3", &["'é'", "'€'"]),
    ("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german2_ci", &["X'E4'", "X'DF41'", "X'8182'"]),
    ("VARCHAR(20) CHARACTER SET ucs2", &["'é'", "'日'"]),
    ("VARCHAR(20) CHARACTER SET utf16", &["'😀'", "'x'"]),
    ("VARCHAR(20) CHARACTER SET utf16le", &["'😀'", "'x'"]),
    ("VARCHAR(20) CHARACTER SET utf32", &["'😀'", "'y'"]),
    ("VARCHAR(20) CHARACTER SET sjis", &["_sjis X'835C'", "'a'"]),
    ("VARCHAR(20) CHARACTER SET gbk", &["_gbk X'BF5C'", "'a'"]),
    ("VARCHAR(20) CHARACTER SET big5", &["_big5 X'A55C'", "'a'"]),
    ("VARCHAR(20) CHARACTER SET ascii", &["'~'", "'a'"]),
    ("BINARY(4)", &["X'00'", "X'FF000000'"]),
    ("VARBINARY(20)", &["X''", "X'00FF'", "'a '"]),
    ("ENUM('a','b''c','d,e') CHARACTER SET utf8mb4", &["'a'", "'b''c'", "'d,e'", "0"]),
    ("SET('x','y','z')", &["'x,z'", "''", "'y'"]),
    ("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci", &["'n '", "'n'", "'Ä'", "'😀'"]),
    ("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_ja_0900_as_cs_ks", &["'は'", "'ば'", "'ハ'"]),
    ("CHAR(9) CHARACTER SET gb18030", &["'日'", "'a'"]),
    ("UUID", &["'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'"]),
    ("INET6", &["'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:1.2.3.4'"]),
    ("INET4", &["'1.2.3.4'", "'255.255.255.255'"]),
];

/// As [`TYPES`], but never in a key.
const LARGE: &[(&str, &[&str])] = &[
    ("TEXT CHARACTER SET utf8mb4", &["REPEAT('é', 30000)", "''"]),
    ("LONGTEXT CHARACTER SET latin1", &["REPEAT('x', 200000)", "'y '"]),
    ("LONGBLOB", &["REPEAT(X'00FF', 300000)", "X''"]),
    ("JSON", &["'{\"a\": [1, 2.50, null],  \"a\": 1}'", "'\"\\\\u00e9\"'"]),
    ("GEOMETRY", &["ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('LINESTRING(0 0,1 1)')"]),
    ("POINT NOT NULL SRID 4326", &["ST_GeomFromText('POINT(1 2)', 4326)"]),
    ("POLYGON", &["ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')"]),
];

/// Whether the server has this type.
fn has(kind: &str) -> bool {
    let mariadb = ["UUID", "INET", "nopad"].iter().any(|word| kind.contains(word));
    let mysql = ["_0900_", "gb18030", " SRID "].iter().any(|word| kind.contains(word));
    if is_mysql() { !mariadb } else { !mysql }
}

#[tokio::test]
async fn every_type_comes_back_bit_for_bit() {
    let mut failed = Vec::new();
    let mut shop = Shop::new("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'").await;
    shop.run("SET NAMES utf8mb4; SET character_set_results = NULL").await;
    for (number, (kind, values)) in TYPES.iter().chain(LARGE).enumerate() {
        if !has(kind) {
            continue;
        }
        let large = number >= TYPES.len();
        for shape in ["plain", "key", "loose"] {
            if large && shape == "key" {
                continue;
            }
            let table = format!("t{number}_{shape}");
            let key = if shape == "key" { ", PRIMARY KEY (v)" } else { "" };
            let id = if shape == "plain" { "id INT PRIMARY KEY AUTO_INCREMENT" } else { "id INT" };
            let declared = if shape == "key" { kind.trim_end_matches(" NULL") } else { kind };
            shop.run(&format!("CREATE TABLE {table}({id}, v {declared}{key}, n INT DEFAULT 0)")).await;
            for value in *values {
                shop.run(&format!("INSERT INTO {table}(v) VALUES ({value})")).await;
            }
            if shape != "key" && !kind.contains("NOT NULL") {
                shop.run(&format!("INSERT INTO {table}(v) VALUES (NULL)")).await;
            }
            let before = shop.dump(&[&table]).await;
            let blank = if large || shape == "key" { "n = 1" } else { "v = NULL, n = 1" };
            let all = [
                format!("DELETE FROM {table}"),
                format!("UPDATE {table} SET {blank}"),
                format!("UPDATE {table} SET n = 5"),
            ];
            let due = match shape {
                "plain" => &all[..2],
                "key" => &all[..1],
                _ => &all[2..],
            };
            for sql in due {
                let result = async {
                    let (_, snapshot) = shop.change(sql).await?;
                    shop.undo(&snapshot, OnConflict::Refuse).await
                }
                .await;
                if let Err(error) = result {
                    failed.push(format!("{kind} {shape} {sql}: {error}"));
                    break;
                }
                let now = shop.dump(&[&table]).await;
                if now != before {
                    failed.push(format!("{kind} {shape} {sql}:\n   {before:?}\n   {now:?}"));
                    break;
                }
            }
        }
    }
    assert!(failed.is_empty(), "{} of them:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn zero_is_not_a_number_to_be_given() {
    let mut shop = Shop::new("CREATE TABLE t(id INT PRIMARY KEY AUTO_INCREMENT, v INT)").await;
    shop.run("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; INSERT INTO t VALUES (0, 1), (5, 2)").await;
    let before = shop.dump(&["t"]).await;
    let (_, snapshot) = shop.change("DELETE FROM t").await.unwrap();
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["t"]).await, before);
}

#[tokio::test]
async fn computed_columns_and_stamps_come_back() {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, a INT, b INT AS (a * 2) STORED, c INT AS (a + 1) VIRTUAL, \
         h INT INVISIBLE DEFAULT 7, at TIMESTAMP(6) NULL DEFAULT '2001-01-01' ON UPDATE CURRENT_TIMESTAMP(6), UNIQUE (b)); \
         INSERT INTO t(id, a, h) VALUES (1, 1, 8), (2, 2, 9)",
    )
    .await;
    for sql in [
        "UPDATE t SET a = a + 10",
        "DELETE FROM t",
        "UPDATE t SET a = -a, at = at",
        "UPDATE t SET a = 9, at = at WHERE id = 1",
    ] {
        let before = shop.dump(&["t"]).await;
        let hidden = shop.number("SELECT SUM(h) FROM t").await;
        let (_, snapshot) = shop.change(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(shop.dump(&["t"]).await, before, "{sql}");
        assert_eq!(shop.number("SELECT SUM(h) FROM t").await, hidden);
    }
}

#[tokio::test]
async fn people_can_read_what_was_kept() {
    let shop = Shop::new(
        "CREATE TABLE t(id BIGINT UNSIGNED PRIMARY KEY, f FLOAT, d DECIMAL(10,3), e ENUM('a','b'), t TIME, \
         ts TIMESTAMP NULL, l VARCHAR(9) CHARACTER SET latin1, u VARCHAR(9) CHARACTER SET utf16, b VARBINARY(9), n INT); \
         INSERT INTO t VALUES (18446744073709551615, 0.1, 1.5, 'b', '-01:02:03', FROM_UNIXTIME(1704070923), 'é', '😀', X'00FF', NULL)",
    )
    .await;
    let (_, snapshot) = shop.change("DELETE FROM t").await.unwrap();
    let mut blocks = snapshot.blocks();
    let block = blocks.next().await.unwrap().unwrap();
    assert_eq!(block.side, Side::Before);
    let table = &snapshot.tables(0).unwrap()[0];
    let records = shop.target.decode(table, &block.data).unwrap();
    assert_eq!(
        serde_json::Value::from(records[0].clone()),
        serde_json::json!({
            "id": "18446744073709551615", "f": 0.1, "d": "1.500", "e": "b", "t": "-01:02:03",
            "ts": "2024-01-01 01:02:03Z", "l": "é", "u": "😀", "b": "0x00ff", "n": null
        })
    );
}
