//! What belongs to the server, and what of its own schemas is its users'.

/// Schemas that come with a server.
pub(super) const SCHEMAS: &str = "('mysql','information_schema','performance_schema','sys')";

/// Those of them in which users can make things, as providers do: heartbeats, procedures of their own.
const SHARED: &str = "('mysql','sys')";

/// Tables that servers keep for themselves in `mysql` and `sys`, of every version and plugin that is known.
const TABLES: &str = "columns_priv column_stats component db default_roles engine_cost event func general_log global_grants global_priv \
    gtid_executed host index_stats password_history plugin proc procs_priv proxies_priv query_attributes role_edges roles_mapping server_cost servers \
    slow_log sys_config table_stats tables_priv transaction_registry user";

/// Beginnings of the names of others.
const FAMILIES: &str = "audit_log_ clone_ firewall_ gtid_slave_pos help_ innodb_ masking_ ndb_ replication_ slave_ spider_ time_zone wsrep_";

/// Whom the server's own views and routines belong to.
const DEFINERS: &str =
    "('mysql.sys@localhost','mysql.infoschema@localhost','mysql.session@localhost','mariadb.sys@localhost')";

/// Routines that MariaDB may have made in another one's name.
const ROUTINES: &str = "('addgeometrycolumn','dropgeometrycolumn')";

/// The condition that a table named in these columns belongs to users.
pub(super) fn users_tables(schema: &str, table: &str) -> String {
    let names = TABLES.split_whitespace().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",");
    let families = FAMILIES.split_whitespace().map(|start| start.replace('_', "\\_"));
    let others: Vec<_> = families.map(|start| format!("LOWER({table}) NOT LIKE '{start}%'")).collect();
    format!(
        "(LOWER({schema}) NOT IN {SCHEMAS} OR (LOWER({schema}) IN {SHARED} AND LOWER({table}) NOT IN ({names}) AND {}))",
        others.join(" AND ")
    )
}

/// The condition that a view, a routine, a trigger or an event belongs to users.
pub(super) fn users_programs(schema: &str, name: &str, definer: &str) -> String {
    format!(
        "(LOWER({schema}) NOT IN {SCHEMAS} OR \
         (LOWER({schema}) IN {SHARED} AND {definer} NOT IN {DEFINERS} AND LOWER({name}) NOT IN {ROUTINES}))"
    )
}
