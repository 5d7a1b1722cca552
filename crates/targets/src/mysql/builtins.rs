//! Functions of the server that change nothing, wait for nothing and read no file.

/// Names that are built into MariaDB since 10.6 and into MySQL since 8.0 alike: a name that only one of them
/// has could be a function of somebody's own in the other.
///
/// They may be called in a guarded statement. Everything else is refused: a function of
/// the server's owner may do anything, also outside of the transaction.
const HARMLESS: &str = " abs acos adddate addtime aes_decrypt aes_encrypt ascii asin atan atan2 avg bin bit_and bit_count \
 bit_length bit_or bit_xor cast ceil ceiling char char_length character_length coalesce collation \
 concat concat_ws conv convert convert_tz cos cot count crc32 cume_dist curdate current_date \
 current_time current_timestamp current_user curtime database date date_add date_format date_sub \
 datediff day dayname dayofmonth dayofweek dayofyear default degrees dense_rank elt exp export_set \
 extract extractvalue field find_in_set first_value floor format from_base64 from_days from_unixtime \
 get_format greatest group_concat hex hour if ifnull inet6_aton inet6_ntoa inet_aton inet_ntoa insert \
 instr interval is_ipv4 is_ipv6 isnull json_array json_array_append json_array_insert json_arrayagg \
 json_contains json_contains_path json_depth json_extract json_insert json_keys json_length \
 json_merge_patch json_merge_preserve json_object json_objectagg json_quote json_remove json_replace \
 json_search json_set json_type json_unquote json_valid json_value lag last_day last_insert_id \
 last_value lcase lead least left length ln localtime localtimestamp locate log log10 log2 lower lpad \
 ltrim make_set makedate maketime max md5 microsecond mid min minute mod month monthname now \
 nth_value ntile nullif oct octet_length ord percent_rank period_add period_diff pi point position \
 pow power quarter quote radians rand rank regexp_instr regexp_replace regexp_substr repeat replace \
 reverse right round row_count row_number rpad rtrim schema sec_to_time second sha sha1 sha2 sign sin \
 soundex space sqrt st_area st_asbinary st_asgeojson st_astext st_aswkb st_aswkt st_contains \
 st_distance st_equals st_geomfromgeojson st_geomfromtext st_geomfromwkb st_geometrytype \
 st_intersects st_length st_linefromtext st_pointfromtext st_polygonfromtext st_srid st_within st_x \
 st_y std stddev stddev_pop stddev_samp str_to_date strcmp subdate substr substring substring_index \
 subtime sum sysdate tan time time_format time_to_sec timediff timestamp timestampadd timestampdiff \
 to_base64 to_days to_seconds trim truncate ucase uncompress unhex unix_timestamp updatexml upper \
 user utc_date utc_time utc_timestamp uuid uuid_short values var_pop var_samp variance version week \
 weekday weekofyear weight_string year yearweek ";

/// Whether a function of this name (as written, without a database before it) is known to be harmless.
pub(super) fn is_harmless(name: &str) -> bool {
    let name = name.trim_matches('`').to_ascii_lowercase();
    !name.is_empty() && !name.contains([' ', '.']) && HARMLESS.contains(&format!(" {name} "))
}

#[cfg(test)]
mod tests {
    use super::is_harmless;

    #[test]
    fn only_what_is_known() {
        assert!(is_harmless("NOW"));
        for name in ["abs", "JSON_SET", "`coalesce`", "yearweek", "concat_ws", "sum"] {
            assert!(is_harmless(name), "{name}");
        }
        for name in [
            "",
            " ",
            "sys_exec",
            "get_lock",
            "load_file",
            "sleep",
            "nextval",
            "shop.abs",
            "abs acos",
            "nvl",
            "is_uuid",
        ] {
            assert!(!is_harmless(name), "{name}");
        }
    }
}
