//! One protobuf service as Rust text: trait, dispatcher, stub.
//!
//! The text leans on `::rpc` for everything that is not specific to the service, so that a change of the framework
//! rarely needs a change here. It must never emit a name that depends on anything but the `.proto` file.

use std::fmt::Write;

use prost_build::{Method, Service, ServiceGenerator};

use crate::large::LargeFields;
use crate::names::{Faults, plain, settle};

/// Emits, for each service, what the crate's documentation promises.
pub(crate) struct RpcServiceGenerator {
    large: LargeFields,
    faults: Faults,
}

impl RpcServiceGenerator {
    pub(crate) fn new(large: LargeFields, faults: Faults) -> RpcServiceGenerator {
        RpcServiceGenerator { large, faults }
    }
}

impl ServiceGenerator for RpcServiceGenerator {
    fn generate(&mut self, mut service: Service, buffer: &mut String) {
        if !settle(&mut service, &self.faults) {
            return;
        }
        buffer.push_str(&service_trait(&service));
        buffer.push_str(&dispatcher(&service, &self.large));
        buffer.push_str(&stub(&service, &self.large));
    }
}

/// Comment lines of the `.proto` file as doc comments, or `fallback` where there are none.
fn documentation(comments: &prost_build::Comments, indent: u8, fallback: &str) -> String {
    let mut text = String::new();
    if comments.leading.is_empty() && comments.trailing.is_empty() {
        let spaces = "    ".repeat(usize::from(indent));
        let _ = writeln!(text, "{spaces}/// {fallback}");
    } else {
        let mut own = comments.clone();
        own.leading_detached.clear();
        own.append_with_indent(indent, &mut text);
    }
    text
}

/// The trait that a user implements.
fn service_trait(service: &Service) -> String {
    let (name, proto_name) = (&service.name, &service.proto_name);
    let mut text = documentation(
        &service.comments,
        0,
        &format!("The service `{proto_name}`: what its server implements."),
    );
    let _ = writeln!(
        text,
        "///\n/// Methods run on the reactor thread and must not block; `reply` may be kept and answered from any thread."
    );
    let _ = writeln!(text, "pub trait {name}: ::core::marker::Send + ::core::marker::Sync + 'static {{");
    for method in &service.methods {
        text.push_str(&documentation(&method.comments, 1, &format!("`{proto_name}.{}`.", method.proto_name)));
        let Method { name, input_type, output_type, .. } = method;
        let request = match method.client_streaming {
            false => format!("request: {input_type}"),
            true => format!("requests: ::rpc::StreamReader<{input_type}>"),
        };
        let reply = match method.server_streaming {
            false => format!("reply: ::rpc::Reply<{output_type}>"),
            true => format!("replies: ::rpc::ReplyStream<{output_type}>"),
        };
        let _ = writeln!(text, "    fn {name}(&self, {request}, {reply});");
    }
    text.push_str(
        "    /// Whether clients of the origin (one call at a time, bare replies) may call this service.
    fn accepts_legacy(&self) -> bool {
        true
    }
    /// Called once after each poll turn in which a method of this service was called.
    fn end_of_turn(&self) {}
}
",
    );
    text
}

/// The type that turns a call's bytes into a call of the trait.
fn dispatcher(service: &Service, large: &LargeFields) -> String {
    let (name, proto_name) = (&service.name, &service.proto_name);
    let service_name = name;
    let mut arms = String::new();
    let mut streams = Vec::new();
    for method in &service.methods {
        let Method { name, proto_name, client_streaming, server_streaming, output_type, .. } = method;
        let (type_of_reply, largest_last) = match large.take_apart(&method.output_proto_type) {
            None => (String::new(), String::new()),
            Some(take_apart) => {
                let reply = if *server_streaming { "ReplyStream" } else { "Reply" };
                (format!(": ::rpc::{reply}<{output_type}>"), format!(".largest_last({take_apart})"))
            }
        };
        let dispatch = match (client_streaming, server_streaming) {
            (false, false) => "dispatch",
            (false, true) => "dispatch_server_stream",
            (true, false) => "dispatch_client_stream",
            (true, true) => "dispatch_both_ways",
        };
        let _ = writeln!(
            arms,
            "            b\"{proto_name}\" => ::rpc::{dispatch}(call, responder, |request, reply{type_of_reply}| <S_ as {service_name}>::{name}(&self.0, request, reply{largest_last})),"
        );
        if *client_streaming || *server_streaming {
            streams.push(format!("b\"{proto_name}\""));
        }
    }
    let is_stream = match streams.is_empty() {
        true => String::new(),
        false => format!(
            "    fn is_stream(&self, method: &[u8]) -> bool {{
        matches!(method, {})
    }}
",
            streams.join(" | ")
        ),
    };
    format!(
        "/// Registers an implementation of [`{name}`] at a provider: `provider.notify_service(Arc::new({name}Dispatcher::new(service)))`.
pub struct {name}Dispatcher<S_: ?::core::marker::Sized>(::std::sync::Arc<S_>);
impl<S_: {name} + ?::core::marker::Sized> {name}Dispatcher<S_> {{
    /// A dispatcher to `service`.
    pub fn new(service: ::std::sync::Arc<S_>) -> Self {{
        Self(service)
    }}
}}
impl<S_: {name} + ?::core::marker::Sized> ::rpc::Service for {name}Dispatcher<S_> {{
    fn name(&self) -> &str {{
        \"{proto_name}\"
    }}
    fn accepts_legacy(&self) -> bool {{
        <S_ as {name}>::accepts_legacy(&self.0)
    }}
    fn call(&self, call: ::rpc::Call<'_>, responder: ::rpc::Responder) {{
        match call.method {{
{arms}            _ => ::rpc::no_such_method(&call, responder),
        }}
    }}
{is_stream}    fn end_of_turn(&self) {{
        <S_ as {name}>::end_of_turn(&self.0)
    }}
}}
"
    )
}

/// The typed client.
fn stub(service: &Service, large: &LargeFields) -> String {
    let (name, proto_name) = (&service.name, &service.proto_name);
    let mut methods = String::new();
    for method in &service.methods {
        let constant = plain(method).to_uppercase();
        let Method { name: function, proto_name: method_name, input_type, output_type, .. } = method;
        let plain = plain(method);
        let header = header_literal(proto_name, method_name);
        let idempotent = idempotent_call(method);
        let _ = writeln!(
            methods,
            "    /// `{proto_name}.{method_name}` on the wire.
    pub const {constant}: ::rpc::Method = ::rpc::Method::generated(\"{proto_name}\", \"{method_name}\", b\"{header}\"){idempotent};"
        );
        if method.client_streaming || method.server_streaming {
            methods.push_str(&stream_call(proto_name, &constant, method, large));
            continue;
        }
        let request = request_argument(method, large);
        let comment = documentation(
            &method.comments,
            1,
            &format!("Calls `{proto_name}.{method_name}` and waits for the reply."),
        );
        let _ = write!(
            methods,
            "{comment}    ///
    /// # Errors
    /// See [`rpc::RpcError`]; `may_have_run` tells whether the server may have executed the call.
    pub fn {function}(&self, controller: &::rpc::RpcController, request: &{input_type}) -> ::std::result::Result<{output_type}, ::rpc::RpcError> {{
        self.channel.call(&Self::{constant}, controller, {request})
    }}
    /// Calls `{proto_name}.{method_name}`; `done` runs exactly once, see [`rpc::RpcChannel::call_async`].
    pub fn {plain}_async(&self, controller: &::rpc::RpcController, request: &{input_type}, done: impl ::core::ops::FnOnce(::std::result::Result<{output_type}, ::rpc::RpcError>) + ::core::marker::Send + 'static) {{
        self.channel.call_async(&Self::{constant}, controller, {request}, done)
    }}
"
        );
    }
    format!(
        "/// Calls the service `{proto_name}` over a channel. Cheap to clone.
#[derive(Clone)]
pub struct {name}Stub {{
    channel: ::rpc::RpcChannel,
}}
impl {name}Stub {{
    /// A stub that calls over `channel`.
    pub fn new(channel: ::rpc::RpcChannel) -> Self {{
        Self {{ channel }}
    }}
    /// The channel underneath.
    pub fn channel(&self) -> &::rpc::RpcChannel {{
        &self.channel
    }}
{methods}}}
"
    )
}

/// How a stub hands its `request` to the channel.
fn request_argument(method: &Method, large: &LargeFields) -> String {
    match large.take_apart(&method.input_proto_type) {
        None => "request".to_owned(),
        Some(take_apart) => format!("&::rpc::LargestLast::new(request, {take_apart})"),
    }
}

/// A stub's function that begins a stream.
fn stream_call(service: &str, constant: &str, method: &Method, large: &LargeFields) -> String {
    let Method { name: function, proto_name, input_type, output_type, .. } = method;
    let comment = documentation(&method.comments, 1, &format!("Begins the stream `{service}.{proto_name}`."));
    let writer = format!("::rpc::StreamWriter<{input_type}>");
    let reader = format!("::rpc::StreamReader<{output_type}>");
    let (call, request, argument, result) = match (method.client_streaming, method.server_streaming) {
        (true, true) => ("call_both_ways", "", String::new(), format!("({writer}, {reader})")),
        (true, false) => {
            let result = format!("({writer}, ::rpc::PendingReply<{output_type}>)");
            ("call_client_stream", "", String::new(), result)
        }
        _ => {
            let argument = format!(", {}", request_argument(method, large));
            ("call_server_stream", ", request: &", argument, reader)
        }
    };
    let request = if request.is_empty() { String::new() } else { format!("{request}{input_type}") };
    let begin = format!("self.channel.{call}(&Self::{constant}, controller{argument})");
    let body = match large.take_apart(&method.input_proto_type) {
        Some(take_apart) if method.client_streaming => {
            let types = format!("let (requests, replies): {result} = {begin};");
            format!("{types}\n        (requests.largest_last({take_apart}), replies)")
        }
        _ => begin,
    };
    format!(
        "{comment}    ///
    /// See [`rpc::RpcChannel::{call}`].
    pub fn {function}(&self, controller: &::rpc::RpcController{request}) -> {result} {{
        {body}
    }}
"
    )
}

/// What a method's option `idempotency_level` adds to its constant.
fn idempotent_call(method: &Method) -> &'static str {
    // NO_SIDE_EFFECTS and IDEMPOTENT, in the numbers of descriptor.proto.
    if matches!(method.options.idempotency_level, Some(1 | 2)) { ".idempotent()" } else { "" }
}

/// The constant part of the request header (fields 1 and 2) as the inside of a byte string literal: encoded here, once
/// for ever, instead of at each call.
fn header_literal(service: &str, method: &str) -> String {
    let mut text = String::new();
    for (tag, value) in [(0x0a_u8, service), (0x12, method)] {
        let _ = write!(text, "\\x{tag:02x}");
        let mut length = value.len();
        while length >= 0x80 {
            let _ = write!(text, "\\x{:02x}", length & 0x7f | 0x80);
            length >>= 7;
        }
        let _ = write!(text, "\\x{length:02x}{value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::header_literal;

    #[test]
    fn header_literal_is_the_wire_form_of_the_names() {
        assert_eq!(header_literal("kv", "Get"), "\\x0a\\x02kv\\x12\\x03Get");
        let long = "s".repeat(200);
        assert!(header_literal(&long, "m").starts_with("\\x0a\\xc8\\x01sss"));
    }
}
