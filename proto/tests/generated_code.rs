//! What the generator makes of a service: trait, dispatcher and stub, end to end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proto::friend::{FiendServiceRpc, FiendServiceRpcDispatcher, FiendServiceRpcStub};
use proto::friend::{GetFriendsListRequest, GetFriendsListResponse};
use rpc::{
    ChannelConfig, ProviderConfig, Reactor, ReactorConfig, Reply, RpcChannel, RpcController, RpcError,
    RpcProvider, Service, Status,
};

const LONG: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Friends {
    turns: AtomicUsize,
}

impl FiendServiceRpc for Friends {
    fn get_friends_list(&self, request: GetFriendsListRequest, reply: Reply<GetFriendsListResponse>) {
        match request.userid {
            0 => reply.fail(Status::PermissionDenied, "nobody"),
            userid => {
                let friends = vec![format!("friend of {userid}").into()];
                reply.send(&GetFriendsListResponse { result: None, friends });
            }
        }
    }

    fn accepts_legacy(&self) -> bool {
        false
    }

    fn end_of_turn(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_generated_service_is_called_by_its_stub() {
    let reactor = Reactor::start("reactor-0", ReactorConfig::default()).unwrap();
    let provider = RpcProvider::new(&reactor, ProviderConfig::default());
    let service = Arc::new(Friends::default());
    let dispatcher = FiendServiceRpcDispatcher::new(service.clone());
    assert_eq!(dispatcher.name(), "FiendServiceRpc");
    assert!(!dispatcher.accepts_legacy(), "the dispatcher asks the service");
    provider.notify_service(Arc::new(dispatcher)).unwrap();
    let address = provider.listen("127.0.0.1:0").unwrap().to_string();
    let stub = FiendServiceRpcStub::new(RpcChannel::new(&reactor, &address, ChannelConfig::default()));
    assert_eq!(stub.channel().address(), address);

    let reply = stub.get_friends_list(&RpcController::new(), &GetFriendsListRequest { userid: 5 }).unwrap();
    assert_eq!(reply.friends, ["friend of 5"]);
    assert!(service.turns.load(Ordering::SeqCst) > 0);

    let (sender, receiver) = mpsc::channel();
    stub.get_friends_list_async(&RpcController::new(), &GetFriendsListRequest { userid: 0 }, move |reply| {
        sender.send(reply).unwrap();
    });
    let refused = RpcError::Status { status: Status::PermissionDenied, text: "nobody".to_owned() };
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), Err(refused));

    let mut origin = TcpStream::connect(&address).unwrap();
    origin.set_read_timeout(Some(LONG)).unwrap();
    origin.write_all(b"\x23\x0a\x0fFiendServiceRpc\x12\x0eGetFriendsList\x18\x03\x08\xe8\x07").unwrap();
    let mut reply = [1; 16];
    assert_eq!(origin.read(&mut reply).unwrap(), 1);
    assert_eq!(reply[0], 0, "this service is not for clients of the origin");
    reactor.stop(LONG);
}

#[test]
fn the_constants_name_the_methods() {
    let method = FiendServiceRpcStub::GET_FRIENDS_LIST;
    assert_eq!((method.service, method.name), ("FiendServiceRpc", "GetFriendsList"));
}
