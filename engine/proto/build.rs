//! Generates the message types, and with the feature `client` the clients, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["rpc.proto", "kv.proto", "health.proto", "quorate.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
