//! Calls that are sent again: when, how often, and not more than the budget allows.

use std::sync::atomic::Ordering;

use super::common::*;
use super::*;
use rpc::{CallInfo, Middleware, MiddlewareStack, Refused, RetryConfig, RetryPolicy};

fn retrying(policy: RetryPolicy, budget_max: u32) -> ChannelConfig {
    let retry = RetryConfig { policy, budget_max, ..RetryConfig::default() };
    ChannelConfig { retry, ..ChannelConfig::default() }
}

#[test]
fn pauses_between_attempts_double_up_to_their_maximum() {
    for seed in 0..30 {
        let pair = Pair::with(seed, ProviderConfig::default());
        let (pause_min, pause_max) = (ms(8), ms(100));
        let policy = RetryPolicy { attempts_max: 8, pause_min, pause_max };
        let channel = pair.channel_with(retrying(policy, 100));
        let call = pair.begin(&channel, &WAIT, ms(60_000));
        let (mut seen, mut times) = (0, Vec::new());
        while !call.is_answered() {
            pair.world.advance(MILLISECOND);
            let calls = pair.service.calls.load(Ordering::SeqCst);
            if calls > seen {
                (seen, times) = (calls, [times, vec![pair.world.now()]].concat());
            }
        }
        assert_eq!(seen, 8);
        for (number, pair) in times.windows(2).enumerate() {
            let whole = ms(8 << number).min(pause_max);
            let pause = pair[1] - pair[0];
            assert!(pause + MILLISECOND >= whole / 2 && pause <= whole + MILLISECOND, "{number}: {pause:?}");
        }
    }
}

/// Notes the numbers of the requests whose calls it is asked about.
#[derive(Default)]
struct Numbers(Mutex<Vec<u64>>);

impl Middleware for Numbers {
    fn before(&self, call: &CallInfo<'_>) -> Result<(), Refused> {
        self.0.lock().unwrap().push(call.request_id);
        Ok(())
    }
}

#[test]
fn every_attempt_of_a_handlers_call_inherits_its_deadline_and_its_number() {
    let pair = Pair::new();
    let numbers = Arc::new(Numbers::default());
    let middleware = MiddlewareStack::default().with(numbers.clone());
    let patient = RetryPolicy { attempts_max: 1_000, pause_min: ms(8), pause_max: ms(8) };
    let channel = pair.channel_with(ChannelConfig { middleware, ..retrying(patient, 1_000) });
    let config = ChannelConfig { wait_for_ready: true, ..ChannelConfig::default() };
    let nobody = RpcChannel::new(&pair.client, "10.0.0.3:80", config);
    pair.begin(&channel, &KEEP, ms(100));
    pair.world.settle();
    let context = pair.service.kept.lock().unwrap()[0].1.context().clone();
    let nested = context
        .scope(|| [(&channel, &WAIT), (&nobody, &ECHO)].map(|(to, it)| pair.begin(to, it, ms(10_000))));
    pair.world.advance(ms(10_000));
    assert!(nested.iter().all(|call| call.answer().0 <= ms(100)));
    let numbers = numbers.0.lock().unwrap();
    assert!(numbers.len() > 5 && numbers.iter().all(|it| *it == context.request_id), "{numbers:?}");
}

#[test]
fn a_dead_cluster_sees_little_more_than_its_usual_load() {
    let pair = Pair::new();
    let channel = pair.channel_with(retrying(RetryPolicy::attempts(10), 20));
    for _ in 0..1000 {
        pair.begin(&channel, &WAIT, ms(2_000));
        pair.world.advance(ms(10));
    }
    pair.world.advance(ms(5_000));
    let calls = pair.service.calls.load(Ordering::SeqCst);
    assert!((1180..=1220).contains(&calls), "{calls} attempts of 1000 calls, budget_percent is 20");
}

#[test]
fn no_attempt_is_made_after_the_deadline() {
    let pair = Pair::new();
    let policy = RetryPolicy { attempts_max: 1000, pause_min: ms(10), pause_max: ms(10) };
    let channel = pair.channel_with(retrying(policy, 1000));
    let call = pair.begin(&channel, &WAIT, ms(100));
    pair.world.advance(ms(100));
    let (when, answer) = call.answer();
    assert!(when <= ms(100) && when >= ms(90), "{when:?}");
    assert!(answer.is_err());
    let calls = pair.service.calls.load(Ordering::SeqCst);
    pair.world.advance(ms(1000));
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), calls);
}

#[test]
fn a_call_that_is_cancelled_between_two_attempts_is_answered_at_once() {
    for is_refused_here in [false, true] {
        let pair = Pair::new();
        let policy = RetryPolicy { attempts_max: 9, pause_min: ms(400), pause_max: ms(400) };
        let channel = match is_refused_here {
            false => pair.channel_with(retrying(policy, 100)),
            true => RpcChannel::new(&pair.client, "nobody:80", retrying(policy, 100)),
        };
        let others = pair.begin(&channel, &WAIT, ms(60_000));
        pair.world.settle();
        let call = pair.begin(&channel, &WAIT, ms(60_000));
        pair.world.advance(ms(100));
        assert!(!call.is_answered());
        call.controller.cancel();
        assert_eq!(call.answer(), (ms(100), Err(RpcError::Cancelled { may_have_run: false })));
        let calls = pair.service.calls.load(Ordering::SeqCst);
        pair.world.advance(ms(60_000));
        assert!(call.is_answered() && others.is_answered());
        assert!(pair.service.calls.load(Ordering::SeqCst) <= calls + 9, "the other one's attempts");
    }
}

#[test]
fn calls_for_whose_rest_there_is_no_room_end_with_the_cause() {
    let pair = Pair::new();
    let client = pair.world.reactor(ReactorConfig { timers_max: 3, ..ReactorConfig::default() });
    let config = ChannelConfig { wait_for_ready: true, ..retrying(RetryPolicy::attempts(9), 100) };
    let channel = RpcChannel::new(&client, "10.0.0.9:80", config);
    let calls: Vec<_> = (0..1000).map(|_| pair.begin(&channel, &ECHO, ms(60_000))).collect();
    pair.world.advance(ms(1_000));
    assert_eq!(calls.iter().filter(|call| !call.is_answered()).count(), 3);
    let ended = calls.iter().filter(|call| call.is_answered());
    assert!(ended.into_iter().all(|call| matches!(call.answer().1, Err(RpcError::Connect { .. }))));
}

#[test]
fn a_call_that_may_have_run_is_repeated_only_if_its_method_is_idempotent() {
    for (method, answered) in [(KEEP, false), (KEEP.idempotent(), true)] {
        let pair = Pair::new();
        let channel = pair.channel_with(retrying(RetryPolicy::attempts(3), 10));
        let call = pair.begin(&channel, &method, ms(1000));
        pair.world.settle();
        pair.world.reset(server_address());
        pair.world.advance(ms(500));
        pair.answer_kept();
        pair.world.settle();
        assert_eq!(call.answer().1.is_ok(), answered, "{:?}", call.answer());
        assert_eq!(pair.service.calls.load(Ordering::SeqCst), 1 + usize::from(answered));
    }
}

#[test]
fn a_call_that_may_be_repeated_is_not_given_up_early_by_what_the_turn_of_its_attempt_has_taken() {
    let pair = Pair::new();
    pair.world.cut(server_address());
    let retry = RetryConfig { policy: RetryPolicy::attempts(4), ..RetryConfig::default() };
    let channel =
        pair.channel_with(ChannelConfig { retry, connect_timeout: ms(1_000), ..Default::default() });
    let ended = Arc::new(Mutex::new(None));
    let (world, noted) = (pair.world.clone(), ended.clone());
    let begin = move || {
        world.work(ms(5));
        let controller = RpcController::new();
        controller.set_timeout(ms(100));
        channel.call_async(&common::ECHO, &controller, &Text::new("x"), move |reply: Result<Text, _>| {
            assert!(matches!(reply, Err(RpcError::DeadlineExceeded { .. })));
            *noted.lock().unwrap() = Some(world.now());
        });
        channel
    };
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    pair.client.run_after(Duration::ZERO, Box::new(move || *keep.lock().unwrap() = Some(begin())));
    pair.world.advance(ms(200));
    assert_eq!(*ended.lock().unwrap(), Some(ms(105)));
}
