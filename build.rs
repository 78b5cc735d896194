//! Turns the protobuf files in `proto/` into Rust, with a compiler written in Rust: a machine that
//! builds this crate needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 4] = [
        "proto/csi/v1/csi.proto",
        "proto/alinas/log/v1/log.proto",
        "proto/alinas/tunnel/v1/tunnel.proto",
        "proto/kubelet/pluginregistration/v1/api.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
