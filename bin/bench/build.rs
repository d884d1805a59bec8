//! Compiles the echo service.

fn main() {
    rpc_codegen::compile(&["proto/echo.proto"]);
}
