//! Every type survives capture and rollback bit for bit: compared in the binary form that the server itself sends.

use super::{Shop, rows};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{UndoOptions, snapshot::Snapshot};

/// Every so often a type is tried in a table without a key as well.
const KEYLESS: usize = 8;

/// Type and values, as SQL.
const VALUES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("float4", &["'-0'", "'NaN'", "'-Infinity'", "1.1754944e-38", "3.4028235e38", "1e-45", "0.1"]),
    (
        "float8",
        &["'-0'", "'NaN'", "'Infinity'", "2.2250738585072014e-308", "5e-324", "0.1", "123456789.123456789"],
    ),
    ("numeric", &["1.10", "1.1", "'NaN'", "'Infinity'", "-0.000", "1e100", "repeat('9', 1000)::numeric"]),
    ("numeric(10,4)", &["1.1", "-0.00005"]),
    ("money", &["'$1,234.56'", "-92233720368547758.08"]),
    (
        "text",
        &[
            "''",
            "e'a\\tb\\nc\\rd\\\\e\\\\N\\\\.\\b\\f\\v'",
            "'\\N'",
            "'é𝄞 \u{200b}'",
            "repeat('x', 100000)",
            "'NULL'",
            "'\"'",
        ],
    ),
    ("varchar(5)", &["'a  '", "''"]),
    ("char(5)", &["'a'", "''", "'  b'"]),
    ("\"char\"", &["'a'", "''", "chr(127)::\"char\""]),
    ("name", &["'a_name'"]),
    ("bytea", &["''", "'\\x00ff0a5c'", "decode(repeat('00', 5000), 'hex')"]),
    ("date", &["'0001-01-01 BC'", "'infinity'", "'5874897-12-31'", "'2024-02-29'"]),
    ("time", &["'24:00:00'", "'00:00:00.000001'"]),
    ("timetz", &["'12:34:56.789+05:30'", "'00:00:00-15:59:59'"]),
    ("timestamp", &["'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", "'-infinity'"]),
    ("timestamptz", &["'1883-11-18 12:03:57.5+00'", "'2024-03-31 02:30:00 Europe/Berlin'", "'infinity'"]),
    (
        "interval",
        &[
            "'-1 mons +2 days -03:04:05.678901'",
            "'178000000 years'",
            "'0'",
            "make_interval(days => 30)",
            "make_interval(months => 1)",
        ],
    ),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("json", &["'{\"a\": 1,  \"a\":2.10}'", "'null'", "'\"\\u0041\"'", "' [ ] '"]),
    ("jsonb", &["'{\"b\": 1.10, \"a\": null}'", "'null'", "'1e3'", "'\"\\\\ \\n \\\"\"'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("xml", &["'<a b=\"c\">&amp;<!-- d --></a>'", "'text'"]),
    ("bit(5)", &["b'10101'"]),
    ("varbit", &["b''", "b'1010101'"]),
    ("inet", &["'10.1.2.3/8'", "'::ffff:1.2.3.4'", "'1.2.3.4'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("point", &["'(-0,1e-300)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,-1,0.1}'"]),
    ("lseg", &["'[(0,0),(1,0.1)]'"]),
    ("box", &["'((0,0),(1,0.1))'"]),
    ("path", &["'[(0,0),(1,0.1)]'", "'((0,0),(1,0.1))'"]),
    ("polygon", &["'((0,0),(1,0.1),(2,-0))'"]),
    ("circle", &["'<(0,0.1),2>'"]),
    ("tsvector", &["'a:1A b:2,3 ''c d'''"]),
    ("tsquery", &["'a & !(b | c:*A) <2> d'"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,5)'"]),
    ("numrange", &["'(1.10,2]'"]),
    ("tstzrange", &["'[2024-01-01 00:00+00,)'"]),
    ("daterange", &["'[-infinity,infinity]'"]),
    ("int4multirange", &["'{[1,3),[5,8)}'", "'{}'"]),
    ("int4[]", &["'[2:3][-1:0]={{1,2},{3,NULL}}'", "'{}'", "'{NULL}'"]),
    ("text[]", &["array['a,b', '\"', '\\', '', 'NULL', null, ' x ', e'\\n']"]),
    ("jsonb[]", &["array['{\"a\": \"b,c\"}'::jsonb]"]),
    ("oid", &["4294967295"]),
    ("xid", &["'4294967295'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("cid", &["'7'"]),
    ("tid", &["'(4294967295,65535)'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("txid_snapshot", &["'10:20:10,14,15'"]),
    ("pg_snapshot", &["'10:20:10,14,15'"]),
    ("regclass", &["'public.here'"]),
    ("regtype", &["'numeric'"]),
    ("regproc", &["'pg_catalog.now'"]),
    ("regprocedure", &["'pg_catalog.abs(integer)'"]),
    ("regnamespace", &["'public'"]),
    ("regrole", &["'postgres'"]),
    ("refcursor", &["'a cursor'"]),
    ("mood", &["'fine'", "'so so'"]),
    ("positive", &["1", "7"]),
    ("pair", &["row(1, 'a,b')", "row(null, '')", "row(null, null)"]),
    ("pair[]", &["array[row(1, '\"')::pair, null]"]),
    ("citext", &["'Foo'"]),
    ("hstore", &["'a=>1, b=>NULL, \"c d\"=>\"\\\"\"'", "''"]),
    ("ltree", &["'a.b_1.c'"]),
    ("lquery", &["'a.*{1,2}.!b'"]),
    ("ltxtquery", &["'a & b*@'"]),
    ("cube", &["'(0.1,2),(3,4)'"]),
    ("seg", &["'1.10 .. 2'", "'<3'"]),
    ("isbn", &["'978-0-393-04002-9'"]),
    ("ean13", &["'0220356483481'"]),
    ("query_int", &["'1&(2|!3)'"]),
    ("earth", &["ll_to_earth(52.5, 13.4)"]),
];

#[tokio::test]
async fn every_type_comes_back_bit_for_bit() {
    let mut schema = String::from(
        "create schema untouched; create type mood as enum ('fine', 'so so'); create domain positive as int check (value > 0); create type pair as (a int, b text); create table here (a int);",
    );
    for extension in ["citext", "hstore", "ltree", "cube", "seg", "isn", "intarray", "earthdistance"] {
        schema.push_str(&format!("create extension {extension};"));
    }
    for (number, (ty, values)) in VALUES.iter().enumerate() {
        schema.push_str(&format!(
            "create table t{number} (id int primary key, x {ty}); create table n{number} (x {ty});"
        ));
        for (id, value) in values.iter().enumerate() {
            schema.push_str(&format!("insert into t{number} values ({id}, ({value})::{ty});"));
        }
        schema.push_str(&format!("insert into t{number} values (-1, null); insert into n{number} select x from t{number} where {number} % {KEYLESS} = 0; create table untouched.t{number} as select * from t{number};"));
    }
    let shop = Shop::new(&schema).await;
    // Settings of the database that would change texts, if they were not pinned.
    let database = shop.ask("select current_database()").await;
    for setting in [
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = -3",
        "timezone = 'Asia/Kathmandu'",
        "bytea_output = 'escape'",
    ] {
        shop.sql(&format!("alter database {database} set {setting}")).await;
    }
    let shop = shop.fresh().await;
    assert_eq!(differences(&shop).await, Vec::<&str>::new());
    let mut sql = String::from("with x as (select 1)");
    for number in 0..VALUES.len() {
        sql.push_str(&format!(
            ", d{number} as (delete from t{number}), e{number} as (delete from n{number})"
        ));
    }
    let snapshot: Snapshot = shop.run(&format!("{sql} select 1")).await;
    assert_eq!(rows(&shop.client, "select * from t0").await.len(), 0);
    let options = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
    let (_, undo) = shop.undo(&snapshot, &options).await.unwrap();
    assert_eq!(differences(&shop).await, Vec::<&str>::new());
    let (_, redo) = shop.undo(&undo.unwrap(), &options).await.unwrap();
    shop.undo(&redo.unwrap(), &options).await.unwrap();
    assert_eq!(differences(&shop).await, Vec::<&str>::new());
}

/// The types of which a value is not the very same bytes as in the copy that was never touched. `record_image_eq` compares
/// as they lie on the disk, whatever the type takes for equal.
async fn differences(shop: &Shop) -> Vec<&'static str> {
    let mut different = Vec::new();
    for (number, (ty, values)) in VALUES.iter().enumerate() {
        let same = shop
            .ask(&format!(
                "select (select count(*) from t{number} t join untouched.t{number} c on c.id = t.id where record_image_eq(row(t.x), row(c.x))) || ' ' || \
                 (select count(*) from t{number}) || ' ' || (select count(*) from n{number}) || ' ' || \
                 (select count(*) from n{number} n where exists (select 1 from untouched.t{number} c where record_image_eq(row(n.x), row(c.x))))"
            ))
            .await;
        let all = values.len() + 1;
        let keyless = if number % KEYLESS == 0 { all } else { 0 };
        if same != format!("{all} {all} {keyless} {keyless}") {
            different.push(*ty);
        }
    }
    different
}

/// Keys that are one to the server and differ in their bytes: 1.0 and 1.00, 0 and -0, `Ann` and `ANN`.
#[tokio::test]
async fn keys_that_are_equal_and_not_the_same_come_back() {
    let shop = Shop::new(
        "create extension citext; create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table n (k numeric primary key, v int); insert into n values (1.0, 1), (2, 2);
         create table f (k float8 primary key, v int); insert into f values (0, 1), (5, 2);
         create table c (k text collate blind primary key, v int); insert into c values ('Ann', 1), ('bob', 2);
         create table i (k citext primary key, v int); insert into i values ('Ann', 1), ('bob', 2);",
    )
    .await;
    let before = shop.dump().await;
    let options = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
    for sql in [
        &["update n set k = k + 0.00"][..],
        &["update n set k = k + 0.00, v = 7 where v = 1"],
        &["delete from n where k = 1", "insert into n values (1, 9)"],
        &["update f set k = -k where v = 1"],
        &["update c set k = upper(k)"],
        &["update c set k = upper(k), v = v + 1"],
        &["delete from c where k = 'ann'", "insert into c values ('ANN', 9)"],
        &["insert into c values ('BOB', 7) on conflict (k) do update set k = excluded.k"],
        &["update i set k = upper(k::text)"],
        &["delete from i", "insert into i values ('ANN', 9), ('bob', 2)"],
    ] {
        let list: Vec<_> = sql.iter().map(|sql| super::statement(sql)).collect();
        let mut pending = shop.target.execute(&list).await.unwrap_or_else(|e| panic!("{sql:?}: {e}"));
        let (_, snapshot) = shop.captured(&mut pending).await;
        pending.commit().await.unwrap();
        let after = shop.dump().await;
        assert_ne!(after, before, "{sql:?}");
        let (plan, undone) = shop.undo(&snapshot, &options).await.unwrap_or_else(|e| panic!("{sql:?}: {e}"));
        assert_eq!((plan.conflict_count, shop.dump().await), (0, before.clone()), "{sql:?}");
        let (plan, again) = shop.undo(&undone.unwrap(), &options).await.unwrap();
        assert_eq!((plan.conflict_count, shop.dump().await), (0, after), "{sql:?}");
        shop.undo(&again.unwrap(), &options).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql:?}");
    }
}
