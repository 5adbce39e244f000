//! Network devices as the user asks for them, and what carries their frames.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use virtio_devices::net::user::{UserNet, UserNetOptions};
use virtio_devices::net::{Carrier, FrameSocket, NetOptions, Tap};
use virtio_devices::rate::Limits;
use virtio_devices::vhost_user::VhostUser;

pub use virtio_devices::net::user::Forward;

/// The largest packet in a frame where nothing else is asked for, in bytes.
pub const DEFAULT_MTU: u16 = 1500;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// What carries its frames.
    pub carrier: NetCarrier,
    /// Its address; by its number among the devices where none is asked for.
    pub mac: Option<[u8; 6]>,
    /// The largest packet in a frame, in bytes; what carries frames must take it.
    pub mtu: u16,
    /// How much may pass in a time, both directions together.
    pub limits: Limits,
}

/// What carries the frames of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetCarrier {
    /// A tap interface of the host's, by its name.
    Tap(String),
    /// A Unix socket of type SOCK_SEQPACKET that somebody listens at: a message a frame, behind a
    /// `virtio_net_hdr` of 12 bytes.
    Socket(PathBuf),
    /// The Unix socket of a process that serves the device's queues (vhost-user).
    VhostUser(PathBuf),
    /// This process itself: address translation to the host's own sockets, without a privilege.
    User(UserNetwork),
}

/// A network that this process gives the guest: 10.0.2.0/24, the host at 10.0.2.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserNetwork {
    /// Ports of the host that lead into the guest.
    pub forwards: Vec<Forward>,
    /// Whether the guest reaches nothing by itself.
    pub is_restricted: bool,
}

impl Net {
    /// A device, with an address of its number and the usual MTU.
    pub fn new(carrier: NetCarrier) -> Self {
        Self {
            carrier,
            mac: None,
            mtu: DEFAULT_MTU,
            limits: Limits::default(),
        }
    }

    /// The device, with what carries its frames open.
    ///
    /// # Errors
    /// What it needs is not there, with the mend.
    pub(super) fn open(
        &self,
        number: u8,
    ) -> Result<virtio_devices::net::Net, Box<dyn Error + Send + Sync>> {
        let mac = self.mac(number);
        let options = NetOptions { mac, mtu: self.mtu };
        Ok(virtio_devices::net::Net::new(self.carrier(mac)?, options))
    }

    /// The device whose queues the process at a socket serves.
    ///
    /// # Errors
    /// The process is not there, or limits were asked for, which only that process could keep to.
    pub(super) fn dial(
        &self,
        path: &Path,
        number: u8,
    ) -> Result<VhostUser, Box<dyn Error + Send + Sync>> {
        if self.limits.is_some() {
            return Err(
                "limits of a vhost-user network are the affair of the program that serves it; \
                leave rate= and pps= out"
                    .into(),
            );
        }
        let mac = self.mac(number);
        Ok(VhostUser::net(path, NetOptions { mac, mtu: self.mtu })?)
    }

    /// What carries its frames, open, for a device with this address.
    ///
    /// # Errors
    /// What it needs is not there, with the mend.
    pub(crate) fn carrier(
        &self,
        mac: [u8; 6],
    ) -> Result<Arc<dyn Carrier>, Box<dyn Error + Send + Sync>> {
        Ok(match &self.carrier {
            NetCarrier::Tap(name) => {
                Arc::new(Tap::open(name).map_err(|error| tap_mend(name, &error))?)
            }
            NetCarrier::User(network) => Arc::new(UserNet::start(&UserNetOptions {
                mtu: self.mtu,
                forwards: network.forwards.clone(),
                is_restricted: network.is_restricted,
                ..UserNetOptions::new(mac)
            })?),
            NetCarrier::VhostUser(_) => {
                return Err("vhost-user serves virtio devices alone; use virtio (--io pv)".into());
            }
            NetCarrier::Socket(path) => Arc::new(dial(path).map_err(|error| {
                format!(
                    "{error}; a program must listen there, with a socket of type SOCK_SEQPACKET"
                )
            })?),
        })
    }

    /// Its address, as the device with this number.
    pub(crate) fn mac(&self, number: u8) -> [u8; 6] {
        // Locally administered, one station (IEEE 802, 8.2).
        self.mac.unwrap_or([0x02, 0xfc, 0, 0, 0, number])
    }
}

/// What is wrong with a tap, and what mends it.
fn tap_mend(name: &str, error: &io::Error) -> String {
    let mend = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "make one that you may use: `sudo ip tuntap add dev {name} mode tap user $USER vnet_hdr; \
             sudo ip link set {name} up`"
        ),
        Some(libc::EBUSY) => "another process has it; end that, or name another tap".to_owned(),
        Some(libc::ENOENT | libc::ENODEV) => {
            "there is no /dev/net/tun; `sudo modprobe tun` makes it".to_owned()
        }
        Some(libc::EINVAL) | None => {
            "an interface's name has 1 to 15 characters, and the interface must be a tap".to_owned()
        }
        _ => "`ip link show` lists what there is".to_owned(),
    };
    format!("{error}; {mend}")
}

/// Connect to who listens at a path.
fn dial(path: &Path) -> io::Result<FrameSocket> {
    let kind = SocketType::SEQPACKET;
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    FrameSocket::new(socket)
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.carrier {
            NetCarrier::Tap(name) => write!(f, "the network on tap {name}"),
            NetCarrier::User(_) => f.write_str("the network of this process"),
            NetCarrier::VhostUser(path) => {
                write!(f, "the network of vhost-user at {}", path.display())
            }
            NetCarrier::Socket(path) => write!(f, "the network at socket {}", path.display()),
        }
    }
}
