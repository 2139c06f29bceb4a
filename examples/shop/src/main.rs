//! The shop as a program; everything it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    shop::command::main()
}
