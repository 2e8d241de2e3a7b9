/// How a base is loaded and proved.
#[derive(Clone, Debug)]
pub struct BaseConfig {
    /// Connections that load, build keys or read rows at the same time.
    pub connections: usize,
    /// Accept a target that already holds schemas or accounts; what has the same name is still an error.
    pub allow_non_empty: bool,
    /// Switch the redo log of an empty MySQL off while loading; a crash of the *server* meanwhile means a fresh server.
    pub disable_redo_log: bool,
    /// Tables smaller than this before compression get their keys before their rows.
    pub defer_keys_above_bytes: u64,
}

impl Default for BaseConfig {
    fn default() -> Self {
        Self { connections: 4, allow_non_empty: false, disable_redo_log: true, defer_keys_above_bytes: 4 << 20 }
    }
}
