//! The `slq` command line: everything it does, the `slq` library does too.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
