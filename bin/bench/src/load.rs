//! The load that a client makes: so many connections, so many calls in flight on each, so long.

use std::time::Duration;

use clap::Args;

/// Arguments of every echo client.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// The server, HOST:PORT.
    #[arg(long)]
    pub addr: String,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub conns: u32,
    /// Calls in flight on each connection; each answer begins the next call.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub inflight: u32,
    /// Bytes of payload in each direction.
    #[arg(long, default_value_t = 16)]
    pub payload: usize,
    /// Measured time.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// Time before it, not measured.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub warmup: f64,
}

impl Load {
    /// Calls in flight on all connections together.
    pub fn lanes(&self) -> u32 {
        self.conns * self.inflight
    }

    /// The time before measuring.
    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    /// The measured time.
    pub fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// The bytes that go there and back.
    pub fn payload(&self) -> Vec<u8> {
        vec![0x5a; self.payload]
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0 to 86400".to_owned()),
    }
}
