//! The command `tributary`: arguments in, an exit code out.

use clap::Parser;
use std::process::ExitCode;
use tributary::cli::{self, Cli};

/// Columns are allocated and freed by the megabyte, on one thread and another: the system's allocator gives such pages back and asks for
/// them again all the time, which cost a third of the CPU; others keep twice of what is in use.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Asking for help is no mistake; everything else is one in the command.
            let code = if usage.use_stderr() { 2 } else { 0 };
            let _ = usage.print();
            return ExitCode::from(code);
        }
    };
    cli::logging(&cli);
    match cli::dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            cli::report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
