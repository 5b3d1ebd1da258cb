//! Generates the gRPC types from `cosigner.proto`, without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/cosigner.proto");
    let files = protox::compile(["proto/cosigner.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::WholeCodec")
        .compile_fds(files)?;
    Ok(())
}
