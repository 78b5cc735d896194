//! The one binary. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    alinas_csi::app::main()
}
