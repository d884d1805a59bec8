//! What a service's methods are called in Rust, where that would be something else's name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use prost_build::{Method, Service};

/// Functions that every trait or stub has: a method of that name gets an underscore behind it.
const TAKEN: [&str; 4] = ["new", "channel", "accepts_legacy", "end_of_turn"];

/// Why services cannot be generated, each with its package and its own name.
pub(crate) type Faults = Rc<RefCell<Vec<Fault>>>;

/// Two methods of one service have the same name in Rust.
pub(crate) struct Fault {
    pub(crate) package: String,
    pub(crate) service: String,
    pub(crate) text: String,
}

/// A method's name without what makes no keyword of it, or nothing else's name.
pub(crate) fn plain(method: &Method) -> &str {
    method.name.trim_start_matches("r#").trim_end_matches('_')
}

/// Gives methods other names where theirs are taken. Returns whether all names are different then.
pub(crate) fn settle(service: &mut Service, faults: &Faults) -> bool {
    let mut functions = BTreeMap::<String, String>::new();
    let mut clash = None;
    for method in &mut service.methods {
        if TAKEN.contains(&method.name.as_str()) {
            method.name.push('_');
        }
        let has_async = !method.client_streaming && !method.server_streaming;
        let waiting = method.name.trim_start_matches("r#").to_owned();
        // The constant is the same in capitals: nothing is gained by a name without any letter.
        let own = [Some(waiting), has_async.then(|| format!("{}_async", plain(method)))];
        for function in own.into_iter().flatten() {
            if let Some(other) = functions.insert(function.clone(), method.proto_name.clone()) {
                let name = &method.proto_name;
                clash.get_or_insert(format!("methods {other} and {name} would both be `{function}`"));
            }
        }
    }
    let Some(text) = clash else { return true };
    let (package, service) = (service.package.clone(), service.proto_name.clone());
    faults.borrow_mut().push(Fault { package, service, text });
    false
}
