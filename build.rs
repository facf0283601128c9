//! Compiles `proto/*.proto` into Rust messages; `protox` is the compiler, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return Err("ShoalDB runs on Linux only: it is built on /dev/shm, pidfd, eventfd and fork".into());
    }
    let descriptors = protox::compile(["proto/milvus.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
