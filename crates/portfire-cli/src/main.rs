//! The `portfire` command.

fn main() -> std::process::ExitCode {
    portfire_cli::main()
}
