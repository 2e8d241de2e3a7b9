//! The `tidemark` binary: hands the process's arguments to [`tidemark::cli`] and its verdict to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemark::cli::main()
}
