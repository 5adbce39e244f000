//! A network namespace of this thread's own, and the address of a tap there. Needs no tool: the kernel is asked by
//! netlink(7). Tests have the same (tests/tests/net/host.rs), with panics.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};
use rustix::thread::UnshareFlags;

/// The host's address, and its network's size.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const BITS: u8 = 24;
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The tap's name.
pub const TAP: &str = "tap0";
/// The loopback interface is the first one of any namespace.
const LOOPBACK: u32 = 1;
/// With the value 1, taps are done without.
const NO_TAP: &str = "PARAVANE_NO_TAP";

/// Enter a new namespace with this thread, and those that it starts from now on. It goes away with them.
///
/// # Errors
/// Why there can be no tap here; the thread is where it was.
pub fn enter() -> Result<(), String> {
    if std::env::var_os(NO_TAP).is_some_and(|value| value == "1") {
        return Err(format!("{NO_TAP}=1: no tap is wanted"));
    }
    if !std::fs::exists("/dev/net/tun").unwrap_or(false) {
        return Err("there is no /dev/net/tun; `modprobe tun` makes it".into());
    }
    // SAFETY: a network namespace is no memory and no file descriptor; only this thread, and those that it starts,
    // get another one.
    let entered = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
    entered.map_err(|error| {
        format!(
            "no network namespace: {error}; root has one, and so has whoever runs \
             `unshare --user --map-root-user --net paravane bench io`"
        )
    })?;
    // The tap's interface would send frames of its own, of which the counts would be full. Without IPv6
    // there are none.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    turn_on(LOOPBACK).map_err(|error| format!("the loopback interface: {error}"))
}

/// Give the tap its address, and turn it on.
///
/// # Errors
/// The host's.
pub fn set_up_tap() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let index = rustix::net::netdevice::name_to_index(&socket, TAP)?;
    let [a, b, c, d] = index.to_le_bytes();
    // struct ifaddrmsg (family, prefixlen, flags, scope, index), and IFA_LOCAL.
    let mut address = vec![2, BITS, 0, 0, a, b, c, d, 8, 0, 2, 0];
    address.extend(HOST.octets());
    ask_kernel(20, &address)?;
    turn_on(index)
}

fn turn_on(index: u32) -> io::Result<()> {
    let [a, b, c, d] = index.to_le_bytes();
    // struct ifinfomsg (family, type, index, flags, change): IFF_UP is 1.
    ask_kernel(16, &[0, 0, 0, 0, a, b, c, d, 1, 0, 0, 0, 1, 0, 0, 0])
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
