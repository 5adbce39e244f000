//! Over the network that the hypervisor's process gives, without a privilege: the host is 10.0.2.2, and
//! its servers are those of its loopback interface.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::thread;

use hypervisor::io::{NetCarrier, UserNetwork};
use tests::{Ran, each_mode, run};

use super::{BYTES, assert_says, bytes, fnv, host, with, word_fnv};

fn on_user(mode: hypercall_abi::Mode, network: UserNetwork, script: &str) -> Ran {
    run(with(mode, NetCarrier::User(network), script))
}

#[test]
fn a_guest_gets_an_address_and_reaches_the_host_without_a_privilege() {
    each_mode(|mode| {
        let (echo, echoes) = host::serve_locally(1, host::echo);
        let body = bytes(BYTES);
        let file = body.clone();
        let (http, files) = host::serve_locally(2, move |s| host::http(s, "/file", &file));
        let came = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let all = came.clone();
        let (sink, receives) = host::serve_locally(1, move |mut stream| {
            let mut all = all.lock().expect("nobody panics");
            stream.read_to_end(&mut all).map(drop)
        });
        // A port where nobody listens any more.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let nobody = free.local_addr().expect("it is bound").port();
        drop(free);
        let script = format!(
            "net dhcp; ping 10.0.2.2 3; echo-client 10.0.2.2 {echo} hello; \
             get http://10.0.2.2:{http}/file; stream send 10.0.2.2 {sink} {BYTES}; net; \
             get http://10.0.2.2:{http}/none; echo-client 10.0.2.2 {nobody} x"
        );
        let ran = on_user(mode, UserNetwork::default(), &script);
        for server in [echoes, files, receives] {
            server.join().expect("the server served all");
        }
        assert_eq!(ran.status(), 1, "{}", ran.output);
        let lines: Vec<&str> = ran.output.lines().collect();
        for line in [
            "eth0  10.0.2.15/24 gw 10.0.2.2 dhcp",
            "3 sent, 3 received",
            "hello",
            "connection refused",
        ] {
            assert!(lines.contains(&line), "{line}: {lines:?}");
        }
        assert_says(
            &ran,
            &format!("200 OK, {BYTES} bytes, fnv1a {:016x}\n", fnv(&body)),
        );
        assert_says(&ran, "404 Not Found, 4 bytes");
        assert_says(&ran, "0 dropped, 0 damaged, 0 bad checksums, 0 refused;");
        let came = came.lock().expect("nobody panics");
        assert_eq!(came.len(), BYTES);
        assert_says(&ran, &format!("word-fnv {:016x}\n", word_fnv(&came)));
    });
}

#[test]
fn a_port_of_the_host_s_leads_into_the_guest() {
    each_mode(|mode| {
        // Nobody else takes the port meanwhile, most likely; the machine says so otherwise.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let forward = format!("tcp:127.0.0.1:{port}-:77");
        let network = UserNetwork {
            forwards: vec![forward.parse().expect("a forward")],
            is_restricted: true,
        };
        let client = thread::spawn(move || {
            // A connection before the guest listens is accepted and reset, as of a process that ends.
            let begin = std::time::Instant::now();
            loop {
                let mut stream = host::dial(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
                let mut back = [0; 5];
                let tried = stream.write_all(b"hello");
                match tried.and_then(|()| stream.read_exact(&mut back)) {
                    Ok(()) => return back,
                    Err(error) if begin.elapsed() > host::PATIENCE => panic!("{error}"),
                    Err(_) => thread::sleep(std::time::Duration::from_millis(20)),
                }
            }
        });
        let script = "net static 10.0.2.15/24 gw 10.0.2.2; echo-server 77 1";
        let ran = on_user(mode, network, script);
        assert_eq!(&client.join().expect("it got an answer"), b"hello");
        assert_eq!(ran.status(), 0, "{}", ran.output);
    });
}
