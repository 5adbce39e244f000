//! The host's side of a network: a namespace of the test's own, an address for its tap, and servers of
//! plain sockets. Needs no tool: the kernel is asked by netlink(7).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};
use rustix::thread::UnshareFlags;

/// The host's address, and its network's size.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const BITS: u8 = 24;
/// The tap's name, in the test's own namespace.
pub const TAP: &str = "tap0";

/// Set in the process that `unshare` has started.
const INSIDE: &str = "PARAVANE_INSIDE_NAMESPACE";
/// How long the guest may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Run a test of this name in a network namespace of its own, where it may make taps. Root gets one for
/// a thread; others get one, with a namespace of users, for a process, by the program `unshare`.
///
/// # Panics
/// When there can be no tap here, with what helps.
pub fn in_namespace(name: &str, test: fn()) {
    if std::env::var_os("PARAVANE_NO_TAP").is_some_and(|value| value == "1") {
        println!("PARAVANE_NO_TAP=1: nothing is tested here");
        return;
    }
    let help = "Set PARAVANE_NO_TAP=1 to leave out the tests that need a tap.";
    assert!(
        std::fs::exists("/dev/net/tun").unwrap_or(false),
        "there is no /dev/net/tun; `modprobe tun` makes it.\n{help}"
    );
    let inside = thread::spawn(move || {
        // SAFETY: a network namespace is no memory and no file descriptor; only this thread, and
        // those that it starts, get another one.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        test();
        Ok::<(), rustix::io::Errno>(())
    });
    match inside.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let is_outside = std::env::var_os(INSIDE).is_none();
            assert!(is_outside, "no network namespace: {error}.\n{help}");
            run_unshared(name, help);
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn run_unshared(name: &str, help: &str) {
    let own = std::env::current_exe().expect("a name of this program");
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--net"])
        .arg(own);
    command
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1");
    match command.status() {
        Ok(status) => assert!(status.success(), "see above.\n{help}"),
        Err(error) => panic!("cannot run `unshare`: {error}.\n{help}"),
    }
}

/// Give the tap its address, and turn it on.
pub fn set_up_tap() {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let index = rustix::net::netdevice::name_to_index(&socket, TAP).expect("the tap is there");
    let [a, b, c, d] = index.to_le_bytes();
    // struct ifaddrmsg (family, prefixlen, flags, scope, index), and IFA_LOCAL.
    let mut address = vec![2, BITS, 0, 0, a, b, c, d, 8, 0, 2, 0];
    address.extend(HOST.octets());
    ask_kernel(20, &address).expect("the tap gets an address");
    // struct ifinfomsg (family, type, index, flags, change): IFF_UP is 1.
    let link = [0, 0, 0, 0, a, b, c, d, 1, 0, 0, 0, 1, 0, 0, 0];
    ask_kernel(16, &link).expect("the tap is turned on");
}

/// One request of rtnetlink(7), and its answer.
fn ask_kernel(kind: u16, body: &[u8]) -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    // struct nlmsghdr; NLM_F_REQUEST, ACK, CREATE.
    let mut message = (16 + body.len() as u32).to_le_bytes().to_vec();
    message.extend(kind.to_le_bytes());
    message.extend(0x405u16.to_le_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (count, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    let error = answer.get(16..20).filter(|_| count >= 20);
    let error = error.and_then(|bytes| bytes.try_into().ok());
    match error.map(i32::from_le_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Serve a number of connections to a port, each by `work`.
pub fn serve(
    port: u16,
    count: usize,
    work: impl Fn(TcpStream) -> io::Result<()> + Send + 'static,
) -> JoinHandle<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a port");
    serve_at(listener, count, work)
}

/// The same on the host's loopback interface, at a port that is free.
pub fn serve_locally(
    count: usize,
    work: impl Fn(TcpStream) -> io::Result<()> + Send + 'static,
) -> (u16, JoinHandle<()>) {
    turn_loopback_on();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    (port, serve_at(listener, count, work))
}

/// A fresh machine, such as the rig's, may have it off. Others refuse, and have it on.
fn turn_loopback_on() {
    let link = [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
    let _ = ask_kernel(16, &link);
}

fn serve_at(
    listener: TcpListener,
    count: usize,
    work: impl Fn(TcpStream) -> io::Result<()> + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..count {
            let (stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            work(stream).expect("the connection does its work");
        }
    })
}

/// Send back what comes.
pub fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut reader = stream.try_clone()?;
    io::copy(&mut reader, &mut stream).map(drop)
}

/// Answer a request of HTTP with a file of this content, or with 404.
pub fn http(mut stream: TcpStream, path: &str, body: &[u8]) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    let is_known = request.starts_with(format!("GET {path} HTTP/1.0\r\n").as_bytes());
    let (status, body) = match is_known {
        true => ("200 OK", body),
        false => ("404 Not Found", &b"none"[..]),
    };
    let len = body.len();
    write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {len}\r\n\r\n")?;
    stream.write_all(body)
}

/// Connect to the guest as soon as it listens.
pub fn dial(to: SocketAddrV4) -> TcpStream {
    let begin = Instant::now();
    loop {
        match TcpStream::connect_timeout(&to.into(), Duration::from_secs(1)) {
            Ok(stream) => return stream,
            Err(error) if begin.elapsed() > PATIENCE => panic!("{to}: {error}"),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Lend an address by DHCP (RFC 2131) to whoever asks, for `count` messages.
pub fn lend(address: Ipv4Addr, count: usize) -> JoinHandle<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).expect("DHCP's port");
    socket.set_broadcast(true).expect("to send to all");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..count {
            let mut request = [0; 1500];
            let (len, _) = socket.recv_from(&mut request).expect("a request");
            let request = &request[..len];
            let kind = message_type(request).expect("a message's type");
            seen.push(kind);
            // DISCOVER gets an OFFER, REQUEST an ACK.
            let answer = reply(request, if kind == 1 { 2 } else { 5 }, address);
            // The one who asks has no address; all on its network hear it.
            let all = Ipv4Addr::from(u32::from(HOST) | !(u32::MAX << (32 - BITS)));
            socket.send_to(&answer, (all, 68)).expect("it is sent");
        }
        seen
    })
}

/// The value of option 53.
fn message_type(message: &[u8]) -> Option<u8> {
    let mut options = message.get(240..)?;
    loop {
        match *options {
            [53, 1, kind, ..] => return Some(kind),
            [0, ref rest @ ..] => options = rest,
            [255, ..] | [] => return None,
            [_, len, ref rest @ ..] => options = rest.get(usize::from(len)..)?,
            [_] => return None,
        }
    }
}

fn reply(request: &[u8], kind: u8, address: Ipv4Addr) -> Vec<u8> {
    let mut answer = request[..240].to_vec();
    answer[0] = 2; // BOOTREPLY
    answer[16..20].copy_from_slice(&address.octets());
    answer[20..24].copy_from_slice(&HOST.octets());
    answer.extend([53, 1, kind]);
    for (option, value) in [
        (54, HOST.octets()),
        (51, 3600u32.to_be_bytes()),
        (1, [255, 255, 255, 0]),
        (3, HOST.octets()),
    ] {
        answer.extend([option, 4]);
        answer.extend(value);
    }
    answer.push(255);
    answer
}
