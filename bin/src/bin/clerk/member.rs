//! `member`: who takes part, and changes of it.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use proto::admin::{ChangeMemberRequest, Member, StatusReply, change_member_request::Change};
use raft_kv::output;
use serde::Serialize;

use crate::{
    arguments::{MemberCommand, Target},
    failure::Failure,
    order::{self, Done, Stage},
    status,
};

#[derive(Serialize)]
struct Row<'a> {
    node: u64,
    role: &'a str,
    address: &'a str,
}

pub(crate) fn run(target: &Target, command: &MemberCommand) -> Result<(), Failure> {
    match command {
        MemberCommand::List { json } => list(target, *json),
        MemberCommand::Add { node, address } => {
            let request =
                ChangeMemberRequest { node: *node, change: Change::Add as i32, address: address.clone() };
            let lives_there = |member: Option<&Member>| member.is_some_and(|it| it.address == *address);
            change(target, &request, lives_there, "is a member at that address already")
        }
        MemberCommand::Promote { node } => {
            let request =
                ChangeMemberRequest { node: *node, change: Change::Promote as i32, ..Default::default() };
            let votes = |member: Option<&Member>| member.is_some_and(|it| it.role == "voter");
            change(target, &request, votes, "votes already")
        }
        MemberCommand::Remove { node } => {
            let request =
                ChangeMemberRequest { node: *node, change: Change::Remove as i32, ..Default::default() };
            change(target, &request, |member| member.is_none(), "is no member")
        }
    }
}

/// Has the change made, and shows the members after it; `already` is what a node is for which nothing is to be changed.
fn change(
    target: &Target,
    request: &ChangeMemberRequest,
    is_as_wanted: impl Fn(Option<&Member>) -> bool,
    already: &str,
) -> Result<(), Failure> {
    let Done { status, was_so } = order::carry_out(
        target,
        |stub, controller| stub.change_member(controller, request),
        |status| {
            let member = status.members.iter().find(|member| member.node == request.node);
            match !status.changing && is_as_wanted(member) {
                true => Stage::Done,
                false => Stage::UnderWay,
            }
        },
    )?;
    if was_so {
        // Whoever reads only the table has what was wanted.
        let _ = writeln!(std::io::stderr(), "clerk: node {} {already}: nothing has changed", request.node);
    }
    Ok(output::line(&table(&status))?)
}

/// What the leader says, or if there is none whoever has the longest log.
fn list(target: &Target, json: bool) -> Result<(), Failure> {
    let answers = status::ask(&target.nodes()?, target.timeout())?;
    let replies = answers.iter().filter_map(|answered| answered.reply.as_ref().ok());
    let Some(status) = replies.max_by_key(|reply| (reply.role == "leader", reply.term, reply.last)) else {
        return Err(Failure::Unavailable("no node answered".into()));
    };
    let text = match json {
        true => {
            let rows: Vec<Row> = rows(status).collect();
            serde_json::to_string(&rows).expect("rows of numbers and texts always make JSON")
        }
        false => table(status),
    };
    Ok(output::line(&text)?)
}

fn rows(status: &StatusReply) -> impl Iterator<Item = Row<'_>> {
    status.members.iter().map(|member| Row {
        node: member.node,
        role: &member.role,
        address: &member.address,
    })
}

fn table(status: &StatusReply) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["NODE", "ROLE", "ADDRESS"]);
    rows(status).for_each(|row| {
        table.add_row([row.node.to_string(), row.role.to_owned(), row.address.to_owned()]);
    });
    table.trim_fmt()
}
