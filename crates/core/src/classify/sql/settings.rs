//! Functions and settings, and whether they do anything.

use sqlparser::ast::Set;

/// Functions that do something beside returning a value. A function that is not known here reads: most SQL
/// calls some, and treating each unknown one as an execution would stop every report. An operator who has
/// functions that act states so with a policy on their statement's tool.
pub(super) fn acts(function: &str) -> bool {
    function.starts_with("dblink")
        || function.starts_with("lo_")
        || function.starts_with("pg_terminate")
        || function.starts_with("pg_cancel")
        || function.starts_with("pg_reload")
        || function.starts_with("pg_rotate")
        || function.starts_with("pg_write")
        || function.starts_with("pg_read")
        || function.starts_with("pg_ls_")
        || function.starts_with("pg_file_")
        || function.starts_with("pg_replication_")
        || function.starts_with("pg_create_")
        || function.starts_with("pg_drop_")
        || function.starts_with("pg_logical_")
        || function.starts_with("pg_advisory_")
        || function.starts_with("xp_")
        || function.starts_with("sp_")
        || function.starts_with("sys_")
        || function.starts_with("aws_")
        || function.starts_with("cron")
        || function.starts_with("http_")
        || ["query", "cursor", "table", "schema", "database"].iter().any(|of| {
            // What these read stands in a text, or in none.
            function.strip_prefix(of).is_some_and(|rest| rest.starts_with("_to_xml"))
        })
        || function.starts_with("utl_")
        || function.starts_with("dbms_")
        || matches!(
            function,
            "set_config"
                | "setval"
                | "load_extension"
                | "load_file"
                | "writefile"
                | "readfile"
                | "edit"
                | "fts3_tokenizer"
                | "pg_promote"
                | "pg_switch_wal"
                | "pg_backup_start"
                | "pg_backup_stop"
                | "pg_notify"
                | "pg_stat_reset"
                | "ts_stat"
                | "sleep"
                | "pg_sleep"
                | "benchmark"
                | "get_lock"
                | "openrowset"
                | "opendatasource"
                | "openquery"
                | "eval"
                | "exec"
                | "system"
                | "shell"
                | "url"
                | "file"
                | "remote"
                | "schedule"
                | "unschedule"
                | "create_hypertable"
                | "drop_chunks"
                | "lowrite"
                | "connectby"
                | "xpath_table"
                | "cypher"
                | "http"
                | "query"
                | "query_table"
                | "postgres_query"
                | "postgres_execute"
                | "mysql_query"
                | "mysql_execute"
                | "sqlite_query"
                | "heap_force_kill"
        )
        || function.starts_with("crosstab")
        || acts_by_name(function)
}

/// `purge_all_users()`: a function that says itself that it acts. One word alone (`truncate(x, 2)`,
/// `replace(…)`) is the name of a built-in one that returns a value.
fn acts_by_name(function: &str) -> bool {
    let Some((first, _)) = function.split_once('_') else { return false };
    matches!(
        first,
        "delete"
            | "drop"
            | "truncate"
            | "send"
            | "exec"
            | "execute"
            | "grant"
            | "revoke"
            | "kill"
            | "terminate"
    ) || function.split('_').any(|word| matches!(word, "purge" | "destroy" | "wipe" | "erase"))
}

pub(super) fn harmless_setting(set: &Set) -> bool {
    match set {
        Set::SetTimeZone { .. }
        | Set::SetNames { .. }
        | Set::SetNamesDefault {}
        | Set::SetTransaction { .. } => true,
        Set::SingleAssignment { variable, scope, .. } => {
            let global =
                scope.as_ref().is_some_and(|s| s.to_string().to_ascii_lowercase().contains("global"));
            !global && is_harmless(&variable.to_string())
        }
        Set::MultipleAssignments { assignments } => assignments.iter().all(|a| {
            let global =
                a.scope.as_ref().is_some_and(|s| s.to_string().to_ascii_lowercase().contains("global"));
            !global && is_harmless(&a.name.to_string())
        }),
        _ => false,
    }
}

/// Settings of one session that change neither what a statement does nor what it may.
pub(super) fn is_harmless(setting: &str) -> bool {
    let setting = setting.to_ascii_lowercase();
    let user_variable = setting.starts_with('@') && !setting.starts_with("@@");
    user_variable
        || matches!(
            setting.as_str(),
            "statement_timeout"
                | "lock_timeout"
                | "idle_in_transaction_session_timeout"
                | "application_name"
                | "timezone"
                | "time_zone"
                | "client_encoding"
                | "datestyle"
                | "intervalstyle"
                | "extra_float_digits"
                | "bytea_output"
                | "work_mem"
                | "names"
                | "max_execution_time"
                | "client_min_messages"
                | "enable_seqscan"
                | "random_page_cost"
                | "nocount"
        )
}
