//! The binaries under test.

use std::path::PathBuf;
use std::process::Command;

/// `tidemark ARGS…`, built with the tests. Run it with `.output()`, or in the background by `Process::spawn`.
pub fn tidemark_command<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let mut command = Command::new(binary("tidemark", option_env!("CARGO_BIN_EXE_tidemark")));
    command.args(args).env_remove("RUST_LOG").env_remove("FAILPOINTS");
    command
}

/// The kubectl plugin.
pub fn plugin() -> PathBuf {
    binary("kubectl-tidemark", option_env!("CARGO_BIN_EXE_kubectl-tidemark"))
}

/// Cargo names the binaries to tests and benchmarks; an example finds them beside itself.
fn binary(name: &str, told: Option<&str>) -> PathBuf {
    if let Some(path) = told {
        return PathBuf::from(path);
    }
    let this = std::env::current_exe().unwrap();
    let path = this.parent().and_then(|examples| examples.parent()).unwrap().join(name);
    assert!(path.is_file(), "{} is not built: run `cargo build --features failpoints`", path.display());
    path
}
