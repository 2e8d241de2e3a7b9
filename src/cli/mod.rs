//! Arguments → validated config → one verb a file; exit codes.

use std::process::ExitCode;

/// Runs the verb that the process's arguments ask for.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
