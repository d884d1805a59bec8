//! Every limit and time-out of the framework: its name, its unit, its default, and what happens beyond it.

use std::time::Duration;

use crate::client::retry::RetryConfig;
use crate::middleware::{AuthToken, MiddlewareStack};
use crate::reactor::outbox::UnsentLimits;

/// Settings of a [`Reactor`](crate::Reactor).
#[derive(Debug, Clone)]
pub struct ReactorConfig {
    /// Bytes read from one socket at a time; default 64 KiB.
    pub read_bytes_max: usize,
    /// Reads from one connection per turn; default 4. What is left is read in the next turn, after the others.
    pub reads_per_turn_max: usize,
    /// Bytes written to one connection at a time; default 1 MiB. What is left is written in the next turn, after the others: so
    /// less than [`ProviderConfig::legacy_reply_bytes_max`] would cut replies to programs of the origin, which read once.
    pub write_bytes_per_turn_max: usize,
    /// How long this thread looks again and again before it sleeps, and the caller of a blocking call before it does; default
    /// 0, not at all. 50 µs took an echo over the loopback from 78 to 13 µs, one of a blocking caller from 85 to 55 µs
    /// (two cores, nothing else running). It takes a core that others may want: a spin in vain makes the next ones rarer, and one
    /// whose core was taken is the last for a thousand waits; still, beside two busy processes a third of the calls was lost.
    pub spin: Duration,
    /// Connections accepted from one listener per turn; default 64.
    pub accepts_per_turn_max: usize,
    /// Timers waiting at a time, which calls between two attempts are, too; default 65,536. A further one runs at once (early
    /// rather than never); a further call ends with what its latest attempt came to.
    pub timers_max: usize,
    /// Channels at a time; default 65,536. A further one refuses its calls with `Busy`.
    pub channels_max: usize,
    /// Request bytes of all channels that their servers have not taken yet; default 1 GiB. Beyond it calls are refused with
    /// `Busy`, until enough of them have left.
    pub unsent_bytes_total_max: usize,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        ReactorConfig {
            read_bytes_max: 64 * 1024,
            reads_per_turn_max: 4,
            write_bytes_per_turn_max: 1 << 20,
            spin: Duration::ZERO,
            accepts_per_turn_max: 64,
            timers_max: 65_536,
            channels_max: 65_536,
            unsent_bytes_total_max: 1 << 30,
        }
    }
}

/// Settings of an [`RpcProvider`](crate::RpcProvider).
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Largest arguments of a call, in bytes; default 64 MiB. A call with larger ones is answered `TOO_LARGE`, naming both
    /// numbers, and they are skipped as they come.
    pub args_bytes_max: usize,
    /// Largest arguments that are skipped, in bytes; default 256 MiB. A still larger frame ends its connection.
    pub skipped_bytes_max: usize,
    /// Memory held for requests of all connections together that have come in part, in bytes; default 256 MiB. The call that
    /// would take more is answered `OVERLOADED`, and its arguments are skipped.
    pub unfinished_bytes_max: usize,
    /// How long a frame that has begun to come may take to be whole, or to grow by
    /// [`ProviderConfig::unfinished_progress_bytes`]; default 10 s. A connection that does neither is cut.
    pub unfinished_timeout: Duration,
    /// Bytes that show that a slow peer is slow, not idle; default 4,096 in each such time.
    pub unfinished_progress_bytes: usize,
    /// Largest reply, in bytes; default 64 MiB. A larger one is answered `INTERNAL`, naming both numbers.
    pub reply_bytes_max: usize,
    /// Largest reply to a program of the origin, in bytes; default 1,024, which is what its client reads at once. A
    /// larger one is the single byte `0x00`.
    pub legacy_reply_bytes_max: usize,
    /// Connections at a time; default 10,000. A further one is accepted on a place of the reserve, and its first call answered
    /// `OVERLOADED`; if there is none, it waits in the system's backlog.
    pub connections_max: usize,
    /// What there is beyond the limits that all share: places to tell a further connection that there is no place for it, and
    /// for some services more; default 16 connections, and no such services.
    pub reserve: Reserve,
    /// Calls of one connection that are not answered yet; default 65,536. A further one is answered `OVERLOADED`.
    pub calls_in_flight_per_connection_max: usize,
    /// Calls of all connections that are not answered yet; default 262,144. A further one is answered `OVERLOADED`.
    pub calls_in_flight_max: usize,
    /// Reply bytes of one connection that the peer has not taken yet; default 128 MiB. A further reply is answered
    /// `INTERNAL` instead, which names the bound; a peer that does not take even that is cut.
    pub unsent_bytes_max: usize,
    /// Beyond so many of them nothing more is read from the peer, until half of it is left; default 1 MiB.
    pub unsent_bytes_high_water: usize,
    /// Reply bytes of all connections that the peers have not taken yet; default 1 GiB. Beyond it new calls are answered
    /// `OVERLOADED`, except those of the reserve's services.
    pub unsent_bytes_total_max: usize,
    /// How long a peer may take none of the replies that wait for it, before it is cut; default 30 s.
    pub stalled_timeout: Duration,
    /// Time-out told to a handler when the caller named none; default 5 s.
    pub default_timeout: Duration,
    /// How long [`RpcProvider::stop`](crate::RpcProvider::stop) waits for calls in flight, for unsent replies
    /// and for peers to leave; default 1 s.
    pub drain_timeout: Duration,
    /// How long a connection of ours is kept that says nothing while none of its calls is in flight; default 10 min. It is told
    /// to leave, and closed when it has not after as long again. Connections of the origin are kept.
    pub idle_timeout: Duration,
    /// How long a peer that has closed its sending side is kept for the replies it still awaits; default 10 s.
    pub half_closed_timeout: Duration,
    /// What happens around every call; default nothing.
    pub middleware: MiddlewareStack,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        ProviderConfig {
            args_bytes_max: 64 << 20,
            skipped_bytes_max: 256 << 20,
            unfinished_bytes_max: 256 << 20,
            unfinished_timeout: Duration::from_secs(10),
            unfinished_progress_bytes: 4096,
            reply_bytes_max: 64 << 20,
            legacy_reply_bytes_max: 1024,
            connections_max: 10_000,
            reserve: Reserve::default(),
            calls_in_flight_per_connection_max: 65_536,
            calls_in_flight_max: 262_144,
            unsent_bytes_max: 128 << 20,
            unsent_bytes_high_water: 1 << 20,
            unsent_bytes_total_max: 1 << 30,
            stalled_timeout: Duration::from_secs(30),
            default_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(600),
            half_closed_timeout: Duration::from_secs(10),
            middleware: MiddlewareStack::default(),
        }
    }
}

/// What a provider keeps for some of its services, so that their callers are never refused because others are many.
///
/// A connection beyond [`ProviderConfig::connections_max`] is accepted on a place of the reserve. Its first call shows what it
/// is for: if that is none of these services, and no ordinary place is free by then, it is answered `OVERLOADED` and the
/// connection ends.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// Short names of the services; default none.
    pub services: Vec<String>,
    /// Connections beyond [`ProviderConfig::connections_max`]; default 16.
    pub connections: usize,
    /// How long such a connection may take to make its first call; it is cut then; default 1 s.
    pub first_call_timeout: Duration,
    /// Calls in flight beyond [`ProviderConfig::calls_in_flight_max`]; default 0.
    pub calls: usize,
    /// Memory beyond [`ProviderConfig::unfinished_bytes_max`], in bytes; default 0.
    pub unfinished_bytes: usize,
}

impl Default for Reserve {
    fn default() -> Self {
        Reserve {
            services: Vec::new(),
            connections: 16,
            first_call_timeout: Duration::from_secs(1),
            calls: 0,
            unfinished_bytes: 0,
        }
    }
}

impl ProviderConfig {
    pub(crate) fn unsent_limits(&self) -> UnsentLimits {
        let (max, high_water) = (self.unsent_bytes_max as u64, self.unsent_bytes_high_water as u64);
        UnsentLimits { max, high_water: high_water.min(max) }
    }
}

/// Settings of an [`RpcChannel`](crate::RpcChannel).
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    /// The server is a program of the origin: one call at a time, bare replies; default false.
    pub legacy: bool,
    /// Connections at a time; default 1. A call goes to the one with the fewest calls in flight; a further one is made when
    /// each has some. The other limits are those of one connection.
    pub connections_max: usize,
    /// How long one connection attempt may take; default 2 s.
    pub connect_timeout: Duration,
    /// First pause after a failed attempt; default 10 ms. It doubles with each further failure, with jitter.
    pub backoff_min: Duration,
    /// Longest pause between attempts; default 1 s.
    pub backoff_max: Duration,
    /// Time-out of a call whose controller names none; default 5 s.
    pub default_timeout: Duration,
    /// How long a server may take to answer a ping; default 1 s. Without an answer, or any other byte, the connection is
    /// cut, unless the server goes on taking what waits for it. It is pinged when a call's deadline passes without a sign of
    /// life, and by [`ChannelConfig::keep_alive`].
    pub ping_timeout: Duration,
    /// How long a server may be silent while it owes replies, or since it was sent a call without one, before it is sent a
    /// ping; default 10 s. Origin servers are never pinged.
    pub keep_alive: Duration,
    /// How long a connection is kept that nobody uses; default 5 min. The next call makes another one. Connections to
    /// origin servers are kept.
    pub idle_timeout: Duration,
    /// Calls that are not answered yet; default 65,536. A further one is refused with `Busy`.
    pub calls_in_flight_max: usize,
    /// Request bytes that the server has not taken yet; default 128 MiB. A further call is refused with `Busy`.
    pub unsent_bytes_max: usize,
    /// Largest arguments of a call, in bytes; default 64 MiB. Larger ones are refused with `TooLarge`.
    pub args_bytes_max: usize,
    /// Largest reply, in bytes; default 64 MiB. A larger one fails its call with `TooLarge`.
    pub reply_bytes_max: usize,
    /// Replies of one stream that have come and were not read, in bytes; default 64 KiB. The server sends no more until some
    /// are. One message may be larger.
    pub stream_window_bytes: usize,
    /// Calls wait, as long as their deadlines allow, for a server that cannot be connected to, instead of failing at once with
    /// the cause; default false. They are sent when a connection has been made, and cost no repetition of [`RetryConfig`].
    pub wait_for_ready: bool,
    /// Which calls are sent again after a failure; default none.
    pub retry: RetryConfig,
    /// Shown to the server by each connection's first frame; default none. Origin servers are shown nothing.
    pub auth_token: AuthToken,
    /// What happens around every call; default nothing.
    pub middleware: MiddlewareStack,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        ChannelConfig {
            legacy: false,
            connections_max: 1,
            connect_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            default_timeout: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(1),
            keep_alive: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            calls_in_flight_max: 65_536,
            unsent_bytes_max: 128 << 20,
            args_bytes_max: 64 << 20,
            reply_bytes_max: 64 << 20,
            stream_window_bytes: 64 << 10,
            wait_for_ready: false,
            retry: RetryConfig::default(),
            auth_token: AuthToken::default(),
            middleware: MiddlewareStack::default(),
        }
    }
}
