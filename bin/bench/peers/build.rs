//! Compiles the same echo service for tonic; protox parses the file, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto/echo.proto");
    let files = protox::compile(["echo.proto"], ["../proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
