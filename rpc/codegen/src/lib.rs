//! Build-time generator: `.proto` files become Rust messages, and each service in them a trait to implement, a
//! dispatcher to register at an `rpc::RpcProvider`, and a typed stub over an `rpc::RpcChannel`.
//!
//! All that `main` of a user's `build.rs` does:
//!
//! ```no_run
//! rpc_codegen::compile(&["proto/greeter.proto"]);
//! ```
//!
//! and in a source file `include!(concat!(env!("OUT_DIR"), "/greeting.rs"));`, where `package greeting;` is the package that the
//! file declares. What is done with that is shown by the documentation of `rpc`, which compiles it.
//!
//! A method whose name every stub or trait has (`New`, `Channel`, `AcceptsLegacy`, `EndOfTurn`) gets an underscore behind it: `new_`.
//! Two methods that would have one name in Rust are a fault of their file.
//!
//! Neither `protoc` nor a C++ compiler is needed (protox parses the files). `bytes` fields become `bytes::Bytes`, so a
//! large value is a slice of what was received, and leaves uncopied if it stands in a message of plain fields. Imports are looked up in the folder of each file named.
//!
//! Never does this crate become part of a running program: it is a build dependency only.

mod large;
mod names;
mod service;

use std::path::{Path, PathBuf};

use large::LargeFields;
use names::{Fault, Faults};
use protox::prost_reflect::prost_types::FileDescriptorProto;
use service::RpcServiceGenerator;

/// What went wrong: the text names the file, the line and the fault, as far as they are known.
#[derive(Debug)]
pub struct Error {
    text: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// Compiles `files` into the `OUT_DIR` of the build script that calls this, one `.rs` file per protobuf package.
/// A fault in a file is printed and ends the build script with exit code 1.
pub fn compile(files: &[impl AsRef<Path>]) {
    if let Err(error) = try_compile(files) {
        #[expect(clippy::print_stderr, reason = "a build script speaks to its user through its output")]
        {
            eprintln!("error: {error}");
        }
        std::process::exit(1);
    }
}

/// Like [`compile`], but hands a fault to the caller.
///
/// # Errors
/// When a file cannot be read or is not valid protobuf, or the output cannot be written.
pub fn try_compile(files: &[impl AsRef<Path>]) -> Result<(), Error> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for file in files {
        let file = file.as_ref();
        print_rerun_if_changed(file);
        let folder = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let descriptors =
        protox::compile(files, &folders).map_err(|error| Error { text: format!("{error:?}") })?;
    let (large, faults) = (LargeFields::of(&descriptors), Faults::default());
    prost_build::Config::new()
        .bytes(["."])
        .service_generator(Box::new(RpcServiceGenerator::new(large, faults.clone())))
        .compile_fds(descriptors.clone())
        .map_err(|error| Error { text: format!("the generated code cannot be written: {error}") })?;
    let faults = faults.borrow();
    let Some(Fault { package, service, text }) = faults.first() else { return Ok(()) };
    let has_service = |file: &&FileDescriptorProto| {
        file.package() == package && file.service.iter().any(|it| it.name() == service)
    };
    let file = descriptors.file.iter().find(has_service).map_or("a file", |file| file.name());
    Err(Error { text: format!("{file}: service {service}: {text}") })
}

/// Tells cargo to run the build script again when `file` changes.
#[expect(clippy::print_stdout, reason = "cargo reads a build script's standard output")]
fn print_rerun_if_changed(file: &Path) {
    println!("cargo:rerun-if-changed={}", file.display());
}
