//! Where the servers and their stock clients are: what the user names in the environment, or what `tests/tools/install` made.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the tool `name` (as `tests/tools/install` calls it), which holds `bin/`.
pub fn tool_dir(name: &str) -> PathBuf {
    let (dir, variable) = expected_dir(name);
    assert!(dir.is_dir(), "{name} is not installed: run `tests/tools/install {name}`, or set {variable} to its folder");
    dir
}

/// A binary of a tool that may be absent.
pub fn find_tool(name: &str, binary: &str) -> Option<PathBuf> {
    let path = expected_dir(name).0.join("bin").join(binary);
    path.is_file().then_some(path)
}

fn expected_dir(name: &str) -> (PathBuf, String) {
    let variable = format!("TIDEMARK_TEST_{}", name.to_uppercase().replace('-', "_"));
    if let Some(dir) = std::env::var_os(&variable) {
        return (PathBuf::from(dir), variable);
    }
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/install");
    let output = Command::new(install).args(["--path", name]).output().expect("tests/tools/install runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()), variable)
}

/// The first of the binaries `names` that the tool has in `bin/`, `sbin/` or `libexec/`.
pub fn tool(name: &str, names: &[&str]) -> PathBuf {
    let dir = tool_dir(name);
    let found =
        names.iter().flat_map(|n| ["bin", "sbin", "libexec"].map(|d| dir.join(d).join(n))).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("{} has none of {names:?} in its bin folder", dir.display()))
}
