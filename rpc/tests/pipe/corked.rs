//! Corked scopes in which somebody waits.

use super::common::ECHO;
use super::*;
use rpc::{Call, Responder, Service};

/// `Wait` is answered when `Open` has come so often.
struct Gate {
    opens: usize,
    state: Mutex<(usize, Option<Responder>)>,
}

impl Service for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        let mut state = self.state.lock().unwrap();
        if call.method == b"Wait" {
            state.1 = Some(responder);
        } else {
            state.0 += 1;
            responder.send(&());
        }
        if state.0 == self.opens
            && let Some(waiting) = state.1.take()
        {
            waiting.send(&());
        }
    }
}

const WAIT: Method = Method::new("gate", "Wait");

const OPEN: Method = Method::new("gate", "Open");

#[test]
fn who_waits_in_a_corked_scope_has_all_leave_that_it_holds_back_and_goes_on_holding_back() {
    // Few connections are written by this thread, many by the reactor.
    for opens in [1, 3, 9] {
        for is_blocking in [false, true] {
            let pair = Pair::new();
            let gate = Arc::new(Gate { opens, state: Mutex::default() });
            pair.provider.notify_service(gate.clone()).unwrap();
            let (waiting, others) = (pair.channel(), [(); 9].map(|()| pair.channel()));
            let controller = RpcController::new;
            let begin = |channel: &RpcChannel| channel.begin::<(), ()>(&OPEN, &controller(), &());
            // Connections first: one that is being made holds calls back in its own way.
            for channel in others.iter().chain([&waiting]) {
                assert!(common::call(channel, &ECHO, "x").is_ok());
            }
            rpc::corked(|| {
                let wait = (!is_blocking).then(|| waiting.begin::<(), ()>(&WAIT, &controller(), &()));
                let opened: Vec<_> = others[..opens].iter().map(begin).collect();
                let waited = match wait {
                    Some(wait) => wait.wait(),
                    None => waiting.call(&WAIT, &controller(), &()),
                };
                assert_eq!(waited, Ok(()));
                assert!(opened.into_iter().all(|open| open.wait().is_ok()));
                assert_eq!(pair.world.now(), Duration::ZERO);

                let held = begin(&others[0]);
                pair.world.settle();
                assert_eq!(gate.state.lock().unwrap().0, opens);
                drop(held);
            });
        }
    }
}
