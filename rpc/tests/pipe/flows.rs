//! A service of streams that never waits: it goes on when it is told that it may.

use std::sync::{Arc, Mutex};

use super::common::Text;
use rpc::{
    Call, Method, Reply, ReplyStream, Responder, RpcError, Service, StreamItem, StreamReader, StreamWriter,
};

/// Replies with as many numbered messages as asked for.
pub(crate) const COUNT: Method = Method::new("flows", "Count");

/// Reads numbered messages and replies with how many there were.
pub(crate) const TALLY: Method = Method::new("flows", "Tally");

/// Replies with each request.
pub(crate) const REPEAT: Method = Method::new("flows", "Repeat");

/// Bytes of a message.
pub(crate) const MESSAGE_BYTES: usize = 1000;

/// The `number`-th message.
pub(crate) fn message(number: u32) -> Text {
    let mut text = vec![0; MESSAGE_BYTES];
    text[..4].copy_from_slice(&number.to_le_bytes());
    Text { text: text.into() }
}

/// What stands in a message, which must be whole.
pub(crate) fn number_of(message: &Text) -> u32 {
    assert_eq!(message.text.len(), MESSAGE_BYTES);
    u32::from_le_bytes(message.text[..4].try_into().unwrap())
}

#[derive(Default)]
pub(crate) struct Flows {
    /// Messages that `Count` has sent, call by call.
    pub(crate) sent: Mutex<Vec<Arc<Mutex<u32>>>>,
}

/// Sends numbered messages as far as the reader has room.
fn count(up_to: u32, replies: ReplyStream<Text>, sent: Arc<Mutex<u32>>) {
    let replies = Arc::new(Mutex::new(Some(replies)));
    let again = replies.clone();
    let go_on = move || {
        // Ending the stream tells this observer, too.
        let Ok(mut place) = again.try_lock() else { return };
        let Some(replies) = place.as_mut() else { return };
        let mut sent = sent.lock().unwrap();
        while *sent < up_to {
            match replies.try_send(&message(*sent)) {
                Ok(true) => *sent += 1,
                Ok(false) => return,
                Err(_) => return drop(place.take()),
            }
        }
        if let Some(replies) = place.take() {
            replies.end();
        }
    };
    let guard = replies.lock().unwrap();
    let go_on = Arc::new(go_on);
    let observer = go_on.clone();
    if let Some(replies) = guard.as_ref() {
        replies.on_ready(move || observer());
    }
    drop(guard);
    go_on();
}

/// Reads numbered messages as they come.
fn tally(requests: StreamReader<Text>, reply: Reply<Text>) {
    let ends = Arc::new(Mutex::new((requests, Some(reply), 0)));
    let again = ends.clone();
    let go_on = Arc::new(move || {
        let Ok(mut ends) = again.try_lock() else { return };
        let (requests, reply, seen) = &mut *ends;
        loop {
            match requests.try_next() {
                Ok(StreamItem::Message(message)) => {
                    assert_eq!(number_of(&message), *seen, "in the order they were sent");
                    *seen += 1;
                }
                Ok(StreamItem::Nothing) => return,
                Ok(StreamItem::End) => {
                    return reply
                        .take()
                        .into_iter()
                        .for_each(|reply| reply.send(&Text::new(seen.to_string())));
                }
                Err(_) => return drop(reply.take()),
            }
        }
    });
    let observer = go_on.clone();
    let guard = ends.lock().unwrap();
    guard.0.on_ready(move || observer());
    drop(guard);
    go_on();
}

/// Sends each request back.
fn repeat(requests: StreamReader<Text>, replies: ReplyStream<Text>) {
    let ends = Arc::new(Mutex::new((requests, Some(replies), None::<Text>)));
    let again = ends.clone();
    let go_on = Arc::new(move || {
        let Ok(mut ends) = again.try_lock() else { return };
        let (requests, place, held) = &mut *ends;
        loop {
            let Some(replies) = place.as_mut() else { return };
            if let Some(message) = held.take() {
                match replies.try_send(&message) {
                    Ok(true) => {}
                    Ok(false) => return *held = Some(message),
                    Err(_) => return drop(place.take()),
                }
            }
            match requests.try_next() {
                Ok(StreamItem::Message(message)) => *held = Some(message),
                Ok(StreamItem::Nothing) => return,
                Ok(StreamItem::End) => return place.take().into_iter().for_each(ReplyStream::end),
                Err(_) => return drop(place.take()),
            }
        }
    });
    let observer = go_on.clone();
    let guard = ends.lock().unwrap();
    guard.0.on_ready(move || observer());
    drop(guard);
    go_on();
}

impl Service for Flows {
    fn name(&self) -> &str {
        "flows"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        match call.method {
            b"Count" => rpc::dispatch_server_stream(call, responder, |up_to: Text, replies| {
                let sent = Arc::new(Mutex::new(0));
                self.sent.lock().unwrap().push(sent.clone());
                count(std::str::from_utf8(&up_to.text).unwrap().parse().unwrap(), replies, sent);
            }),
            b"Tally" => rpc::dispatch_client_stream(call, responder, tally),
            b"Repeat" => rpc::dispatch_both_ways(call, responder, repeat),
            _ => rpc::no_such_method(&call, responder),
        }
    }
}

/// Sends the messages from `next` on, as far as there is room.
pub(crate) fn send_from(next: &mut u32, up_to: u32, writer: &mut StreamWriter<Text>) -> Result<(), RpcError> {
    while *next < up_to && writer.try_send(&message(*next))? {
        *next += 1;
    }
    Ok(())
}
