//! `status`: what every node says of itself, asked all at once.

use std::{sync::mpsc, time::Duration};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use proto::admin::{AdminStub, StatusReply, StatusRequest};
use raft_kv::output;
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError, Status};
use serde::Serialize;

use crate::{arguments::Target, explain, failure::Failure, target::NodeTarget};

/// The longest wait for one node: a status of a moment ago is worth more than a complete one later.
const ANSWER_WITHIN_MAX: Duration = Duration::from_millis(1000);

/// How long closing the connections may take.
const STOP_WITHIN: Duration = Duration::from_millis(200);

/// What one node said, or why it did not.
pub(crate) struct Answered {
    pub(crate) node: NodeTarget,
    pub(crate) reply: Result<StatusReply, RpcError>,
}

impl Answered {
    pub(crate) fn is_leader(&self) -> bool {
        self.reply.as_ref().is_ok_and(|reply| reply.role == "leader")
    }

    fn term(&self) -> u64 {
        self.reply.as_ref().map_or(0, |reply| reply.term)
    }
}

/// One line of the table, one object of the JSON list.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    node: Option<u64>,
    address: String,
    role: String,
    pid: Option<u32>,
    term: Option<u64>,
    commit: Option<u64>,
    applied: Option<u64>,
    lag: Option<u64>,
}

/// The same with what `--explain` adds, which a node that did not answer lacks.
#[derive(Serialize)]
struct ExplainedRow {
    #[serde(flatten)]
    row: Row,
    #[serde(flatten)]
    explanation: Option<explain::Explanation>,
}

pub(crate) fn run(target: &Target, json: bool, is_explained: bool) -> Result<(), Failure> {
    let answers = ask(&target.nodes()?, target.timeout())?;
    match json {
        true => output::line(&json_list(&answers, is_explained))?,
        false => output::line(&text(&answers, is_explained))?,
    }
    match answers.iter().find_map(|answered| answered.reply.as_ref().err()) {
        Some(error) if answers.iter().all(|answered| answered.reply.is_err()) => {
            let all: Vec<&str> = answers.iter().map(|answered| answered.node.address.as_str()).collect();
            Err(Failure::Unavailable(format!("no node of {} answered: {error}", all.join(","))))
        }
        _ => Ok(()),
    }
}

fn json_list(answers: &[Answered], is_explained: bool) -> String {
    let explained = |(row, answered): (Row, &Answered)| {
        let reply = answered.reply.as_ref().ok().filter(|_| is_explained);
        ExplainedRow { row, explanation: reply.map(explain::Explanation::of) }
    };
    let list: Vec<ExplainedRow> = rows(answers).into_iter().zip(answers).map(explained).collect();
    serde_json::to_string(&list).expect("rows of numbers and texts always make JSON")
}

/// The table, then what is wrong with each node that gave no status, then what is to be explained.
fn text(answers: &[Answered], is_explained: bool) -> String {
    let mut parts = vec![table(&rows(answers))];
    for answered in answers {
        if let Err(error) = &answered.reply {
            parts.push(format!("{} {}: {error}", answered.node.address, condition(error)));
        }
    }
    let replies = answers.iter().filter_map(|answered| answered.reply.as_ref().ok());
    parts.extend(replies.filter(|_| is_explained).map(|reply| format!("\n{}", explain::paragraph(reply))));
    parts.join("\n")
}

/// Whether a node that gave no status is down or, since it took the connection and the request, merely silent or busy.
fn condition(error: &RpcError) -> &'static str {
    match error {
        RpcError::Status { status: Status::Overloaded, .. } => "is busy",
        RpcError::Connect { .. } | RpcError::Resolve { .. } => "is down",
        RpcError::DeadlineExceeded { may_have_run: false, .. } => "is down or cannot be reached",
        _ => "is not answering",
    }
}

/// What stands in the place of a role that is not known.
fn role_without_reply(error: &RpcError) -> &'static str {
    match error {
        RpcError::Status { status: Status::Overloaded, .. } => "busy",
        _ => "down",
    }
}

/// Asks all nodes at once; the answers come in the order of the nodes.
pub(crate) fn ask(nodes: &[NodeTarget], timeout: Duration) -> Result<Vec<Answered>, Failure> {
    let reactor = Reactor::start("clerk-status", ReactorConfig::default())
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    let timeout = timeout.min(ANSWER_WITHIN_MAX);
    let (sender, receiver) = mpsc::channel();
    // Kept until all have answered: a channel that is dropped ends its calls.
    let stubs: Vec<AdminStub> = nodes
        .iter()
        .map(|node| AdminStub::new(RpcChannel::new(&reactor, &node.address, ChannelConfig::default())))
        .collect();
    for (place, stub) in stubs.iter().enumerate() {
        let controller = RpcController::new();
        controller.set_timeout(timeout);
        let sender = sender.clone();
        stub.status_async(&controller, &StatusRequest {}, move |reply| {
            // The receiver waits for all of them.
            let _ = sender.send((place, reply));
        });
    }
    drop(sender);
    let mut replies: Vec<(usize, Result<StatusReply, RpcError>)> = receiver.iter().collect();
    reactor.stop(STOP_WITHIN);
    assert!(replies.len() == nodes.len(), "each call is answered exactly once");
    replies.sort_by_key(|(place, _)| *place);
    let answers = nodes.iter().zip(replies);
    Ok(answers.map(|(node, (_, reply))| Answered { node: node.clone(), reply }).collect())
}

/// Of several that say they lead, the one in the highest term does.
pub(crate) fn leader(answers: &[Answered]) -> Option<&Answered> {
    answers.iter().filter(|answered| answered.is_leader()).max_by_key(|answered| answered.term())
}

fn rows(answers: &[Answered]) -> Vec<Row> {
    let leader_commit =
        leader(answers).and_then(|leader| leader.reply.as_ref().ok()).map(|reply| reply.commit);
    let row = |answered: &Answered| {
        let address = answered.node.address.clone();
        match &answered.reply {
            Ok(reply) => Row {
                node: Some(reply.node),
                address,
                role: reply.role.clone(),
                pid: Some(reply.pid),
                term: Some(reply.term),
                commit: Some(reply.commit),
                applied: Some(reply.applied),
                // A follower that was asked a moment after the leader may be ahead of what the leader said.
                lag: leader_commit.map(|commit| commit.saturating_sub(reply.applied)),
            },
            Err(error) => Row {
                node: answered.node.id,
                address,
                role: role_without_reply(error).to_string(),
                pid: None,
                term: None,
                commit: None,
                applied: None,
                lag: None,
            },
        }
    };
    answers.iter().map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let number = |number: Option<u64>| number.map_or("-".to_string(), |number| number.to_string());
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["node", "address", "role", "pid", "term", "commit", "applied", "lag"]);
    for row in rows {
        table.add_row([
            number(row.node),
            row.address.clone(),
            row.role.clone(),
            number(row.pid.map(u64::from)),
            number(row.term),
            number(row.commit),
            number(row.applied),
            number(row.lag),
        ]);
    }
    for column in [0, 3, 4, 5, 6, 7] {
        let column = table.column_mut(column).expect("the header has eight columns");
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(node: u64, role: &str, term: u64, commit: u64, applied: u64) -> Answered {
        let reply = StatusReply {
            node,
            role: role.to_string(),
            pid: 100,
            term,
            commit,
            applied,
            ..StatusReply::default()
        };
        Answered {
            node: NodeTarget { id: Some(node), address: format!("127.0.0.1:{node}") },
            reply: Ok(reply),
        }
    }

    fn down(node: u64) -> Answered {
        failed(node, RpcError::Connect { address: "x".into(), cause: "connection refused".into() })
    }

    fn failed(node: u64, error: RpcError) -> Answered {
        let node = NodeTarget { id: Some(node), address: format!("127.0.0.1:{node}") };
        Answered { node, reply: Err(error) }
    }

    #[test]
    fn lag_is_the_leaders_commit_less_what_is_applied() {
        // The old leader of term 3 does not know yet that it was replaced.
        let answers = [answered(0, "leader", 3, 50, 50), answered(1, "leader", 4, 90, 88), down(2)];
        let rows = rows(&answers);
        assert_eq!(rows.iter().map(|row| row.lag).collect::<Vec<_>>(), [Some(40), Some(2), None]);
        assert_eq!(rows[2].role, "down");
    }

    #[test]
    fn json_has_exactly_the_named_keys_also_for_a_node_that_is_down() {
        let answers = [answered(0, "follower", 3, 50, 50), down(1)];
        let json: serde_json::Value = serde_json::from_str(&json_list(&answers, false)).unwrap();
        for row in json.as_array().unwrap() {
            let mut keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys, ["address", "applied", "commit", "lag", "node", "pid", "role", "term"]);
        }
        assert!(json[0]["lag"].is_null(), "without a leader there is no lag");
        assert!(json[1]["pid"].is_null() && json[1]["node"] == 1);
        let explained: serde_json::Value = serde_json::from_str(&json_list(&answers, true)).unwrap();
        assert!(explained[0]["followers"].is_array() && explained[0]["lag"].is_null());
        assert_eq!(explained[1], json[1], "of a node that is down nothing more is known");
    }

    #[test]
    fn a_node_that_answers_that_it_is_overloaded_is_busy_and_not_down() {
        let error = RpcError::Status { status: Status::Overloaded, text: "too many calls".into() };
        assert_eq!(condition(&error), "is busy");
        assert_eq!(rows(&[failed(0, error)])[0].role, "busy");
    }

    #[test]
    fn the_table_shows_every_node_in_line() {
        let text = table(&rows(&[answered(0, "leader", 3, 50, 50), down(1)]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("applied") && lines[2].contains("down"), "{text}");
    }
}
