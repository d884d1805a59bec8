//! What all the echo clients and servers have in common: the service, the arguments, the measuring and the line of JSON at
//! the end. The peers in `peers/` use it too, so that nobody is measured in another way than the others.

pub mod load;
pub mod tally;

/// The echo service.
#[expect(missing_docs, reason = "generated; the .proto file documents the fields")]
pub mod echo {
    include!(concat!(env!("OUT_DIR"), "/bench.rs"));
}
