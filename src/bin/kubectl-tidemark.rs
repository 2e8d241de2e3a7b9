//! The kubectl plugin `kubectl tidemark`: hands the process's arguments to [`tidemark::kubectl`] and its verdict to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemark::kubectl::main()
}
