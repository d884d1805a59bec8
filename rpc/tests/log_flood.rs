//! What bad peers write into the log of a server: little, however many they are.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use common::raw::*;
use common::*;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rpc::{AuthToken, MiddlewareStack, ProviderConfig, TokenAuth};

/// Keeps the warnings.
struct Warnings(Mutex<Vec<String>>);

impl Log for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

#[test]
fn a_thousand_bad_connections_are_few_lines_and_a_full_server_says_so() {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let config = ProviderConfig { connections_max: 1, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    for _ in 0..1000 {
        let mut stream = connect(ends.address);
        stream.write_all(&[0xff; 64]).unwrap();
        assert_closed(&mut stream);
    }
    let middleware = MiddlewareStack::default().with(Arc::new(TokenAuth::new([AuthToken::new("secret")])));
    let config = ProviderConfig { middleware, ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    for _ in 0..1000 {
        let mut stream = connect(ends.address);
        stream.write_all(&request("Echo", 1, b"x")).unwrap();
        assert!(stream.read(&mut [0; 64]).unwrap() > 0, "it is refused");
    }
    let warnings = WARNINGS.0.lock().unwrap();
    let count_of = |word: &str| warnings.iter().filter(|line| line.contains(word)).count();
    for word in ["connection closed", "connections_max is reached: 1 connections", "a token is needed"] {
        assert!((1..100).contains(&count_of(word)), "{word}: {warnings:?}");
    }
}
