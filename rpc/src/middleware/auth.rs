//! Who may call: a connection shows a token in its first frame, and is believed from then on.
//!
//! The token travels as it is. On a network that others can read, it is worth as much as a password on a postcard.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::{Middleware, Refused};
use crate::log_gate::LogGate;
use crate::protocol::status::Status;
use crate::reactor::clock;

/// Longest token, in bytes; a channel with a longer one refuses its calls.
pub const AUTH_TOKEN_BYTES_MAX: usize = 2048;

/// A secret that is sent, and never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthToken(Bytes);

impl AuthToken {
    /// The token of these bytes; none if they are empty.
    pub fn new(token: impl Into<Bytes>) -> AuthToken {
        AuthToken(token.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "none" } else { "(a secret)" })
    }
}

/// Serves only connections that show one of its tokens. The others' calls are answered `UNAUTHENTICATED`; programs of the
/// origin, which have no token, get their `0x00`.
#[derive(Debug)]
pub struct TokenAuth {
    tokens: Vec<AuthToken>,
    warnings: LogGate,
}

impl TokenAuth {
    /// Accepts these tokens: several, so that a token can be replaced while clients still show the old one.
    pub fn new(tokens: impl IntoIterator<Item = AuthToken>) -> TokenAuth {
        let tokens = tokens.into_iter().filter(|token| !token.0.is_empty()).collect();
        TokenAuth { tokens, warnings: LogGate::default() }
    }
}

impl Middleware for TokenAuth {
    fn connected(&self, peer: SocketAddr, token: &[u8]) -> Result<(), Refused> {
        let is_known = self.tokens.iter().fold(false, |is_known, own| is_known | is_same(own.bytes(), token));
        if is_known {
            return Ok(());
        }
        let text = if token.is_empty() { "a token is needed" } else { "the token is not known" };
        let now = clock::turn_begun().unwrap_or_else(|| clock::nanos_of(Instant::now()));
        self.warnings.warn(now, || format!("{peer}: {text}"));
        Err(Refused { status: Status::Unauthenticated, text: text.to_owned() })
    }
}

/// Compares without telling by its duration where the first difference is.
fn is_same(own: &[u8], shown: &[u8]) -> bool {
    let differences = own.iter().zip(shown).fold(0, |differences, (own, shown)| differences | (own ^ shown));
    own.len() == shown.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_is_accepted_and_never_shown() {
        let auth = TokenAuth::new([AuthToken::new("old"), AuthToken::new("new"), AuthToken::default()]);
        let peer = "127.0.0.1:1".parse().unwrap();
        for (token, is_good) in [("old", true), ("new", true), ("", false), ("ol", false), ("olds", false)] {
            assert_eq!(auth.connected(peer, token.as_bytes()).is_ok(), is_good, "{token}");
        }
        assert!(!format!("{auth:?}").contains("old"));
    }
}
