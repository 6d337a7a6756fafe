//! Turns the bus's protocol into Rust, without a compiler of its own having to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/bus.proto"], ["proto"])?;
    tonic_prost_build::compile_fds(files)?;
    rerun_if_changed("proto/bus.proto");
    Ok(())
}

fn rerun_if_changed(path: &str) {
    println!("cargo:rerun-if-changed={path}");
}
