//! Devices as the command line and a machine file say them: a name or `key=value` first, and words
//! behind commas. A comma inside a value is written twice.

use std::num::NonZeroU64;

use hypervisor::io::{
    Console, DEFAULT_MTU, Disk, Engine, Format, Forward, MAX_QUEUES, Net, NetCarrier, UserNetwork,
    Vsock,
};

use super::values;

/// The words of a device's text.
struct Words(std::vec::IntoIter<String>);

impl Words {
    fn of(text: &str) -> Self {
        // What no file's name has stands for the doubled comma meanwhile.
        let text = text.replace(",,", "\0");
        let words = text.split(',').map(|word| word.replace('\0', ","));
        Self(words.collect::<Vec<_>>().into_iter())
    }

    /// The next word, split at its first `=`.
    fn next(&mut self) -> Option<(String, Option<String>)> {
        let word = self.0.next()?;
        Some(match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word, None),
        })
    }
}

/// A disk: a file's name, or vhost-user=SOCKET, and words.
pub fn disk(text: &str) -> Result<Disk, String> {
    const HELP: &str = "use ro, direct, snapshot, format=raw, format=qcow2, backing=FILE, \
        engine=auto, engine=io_uring, engine=threads, engine=sync, queues=1 to queues=8, rate=10M or iops=1000, such as \
        my.img,ro,direct";
    let mut words = Words::of(text);
    let path = words.0.next().unwrap_or_default();
    if path.is_empty() {
        return Err("name the disk's file first, such as my.img,ro".to_owned());
    }
    if let Some(socket) = path.strip_prefix("vhost-user=") {
        return served_disk(socket, words);
    }
    let mut disk = Disk::new(path);
    while let Some((key, value)) = words.next() {
        match (key.as_str(), value.as_deref()) {
            ("ro", None) => disk.read_only = true,
            ("direct", None) => disk.direct = true,
            ("rate", Some(text)) => disk.limits.bytes_per_second = Some(rate(text)?),
            ("iops", Some(text)) => disk.limits.operations_per_second = Some(rate(text)?),
            ("queues", Some(count)) => match count.parse() {
                Ok(count @ 1..=MAX_QUEUES) => disk.queues = count,
                _ => return Err(no_word(&key, value, "a disk", HELP)),
            },
            ("engine", Some("auto")) => disk.engine = Engine::Auto,
            ("engine", Some("io_uring")) => disk.engine = Engine::IoUring,
            ("engine", Some("threads")) => disk.engine = Engine::Threads,
            ("snapshot", None) => disk.snapshot = true,
            ("format", Some("auto")) => disk.format = Format::Auto,
            ("format", Some("raw")) => disk.format = Format::Raw,
            ("format", Some("qcow2")) => disk.format = Format::Qcow2,
            ("backing", Some(path)) if !path.is_empty() => disk.backing.push(path.into()),
            ("engine", Some("sync")) => disk.engine = Engine::Sync,
            _ => return Err(no_word(&key, value, "a disk", HELP)),
        }
    }
    Ok(disk)
}

/// A disk that the program at a socket serves: all but its queues is that program's affair.
fn served_disk(socket: &str, mut words: Words) -> Result<Disk, String> {
    const HELP: &str = "use queues=1 to queues=8; the rest is said to the program at the socket";
    if socket.is_empty() {
        return Err("name the socket, such as vhost-user=/run/disk.sock".to_owned());
    }
    let mut disk = Disk::new(socket);
    disk.vhost_user = true;
    while let Some((key, value)) = words.next() {
        let count = value.as_deref().filter(|_| key == "queues");
        match count.map(str::parse) {
            Some(Ok(count @ 1..=MAX_QUEUES)) => disk.queues = count,
            _ => return Err(no_word(&key, value, "a vhost-user disk", HELP)),
        }
    }
    Ok(disk)
}

/// A network device: what carries its frames, and words.
pub fn net(text: &str) -> Result<Net, String> {
    const FIRST: &str =
        "say first what carries the frames: user, tap=NAME, socket=PATH or vhost-user=SOCKET";
    const HELP: &str = "use mac=02:fc:00:00:00:01, mtu=1500, rate=10M or pps=1000; behind user also restrict, or \
        hostfwd=tcp:127.0.0.1:8080-:80";
    let mut words = Words::of(text);
    let carrier = match words.next() {
        Some((key, Some(value))) if !value.is_empty() => match key.as_str() {
            "tap" => NetCarrier::Tap(value),
            "socket" => NetCarrier::Socket(value.into()),
            "vhost-user" => NetCarrier::VhostUser(value.into()),
            _ => return Err(FIRST.to_owned()),
        },
        Some((key, None)) if key == "user" => NetCarrier::User(UserNetwork::default()),
        _ => return Err(FIRST.to_owned()),
    };
    let mut net = Net::new(carrier);
    while let Some((key, value)) = words.next() {
        if let NetCarrier::User(network) = &mut net.carrier {
            match (key.as_str(), value.as_deref()) {
                ("restrict", None) => {
                    network.is_restricted = true;
                    continue;
                }
                ("hostfwd", Some(text)) => {
                    let forward = text.parse::<Forward>();
                    let forward = forward.map_err(|error| error.to_string())?;
                    network.forwards.push(forward);
                    continue;
                }
                _ => {}
            }
        }
        if matches!(net.carrier, NetCarrier::VhostUser(_)) && matches!(key.as_str(), "rate" | "pps")
        {
            const HELP: &str = "use mac= and mtu=; the rest is said to the program at the socket";
            return Err(no_word(&key, value, "a vhost-user network", HELP));
        }
        match (key.as_str(), value.as_deref()) {
            ("rate", Some(text)) => net.limits.bytes_per_second = Some(rate(text)?),
            ("pps", Some(text)) => net.limits.operations_per_second = Some(rate(text)?),
            ("mac", Some(text)) => net.mac = Some(mac(text)?),
            ("mtu", Some(text)) => net.mtu = mtu(text)?,
            _ => return Err(no_word(&key, value, "a network device", HELP)),
        }
    }
    Ok(net)
}

/// Sockets between host and guest: the guest's context id, and a path.
pub fn vsock(text: &str) -> Result<Vsock, String> {
    const HELP: &str =
        "use the guest's context id, 3 or more, and a path, such as 3,uds=/tmp/guest.vsock";
    let mut words = Words::of(text);
    let cid = words.next().and_then(|(cid, _)| cid.parse().ok());
    let cid = cid.filter(|cid| (3..=0xffff_fffe).contains(cid));
    match (cid, words.next(), words.next()) {
        (Some(cid), Some((key, Some(path))), None) if key == "uds" && !path.is_empty() => {
            let path = path.into();
            Ok(Vsock { cid, path })
        }
        _ => Err(HELP.to_owned()),
    }
}

/// So much in a second.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let number = values::size(text).ok().and_then(NonZeroU64::new);
    number
        .ok_or_else(|| format!("{text} is no rate: use a number above 0 in a second, such as 10M"))
}

/// A station's address: six bytes in hexadecimal.
fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes = text.split(':').map(|byte| {
        let is_plain = byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = is_plain.then_some(byte)?;
        u8::from_str_radix(byte, 16).ok()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    let address: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
    match address {
        // The lowest bit of the first byte is a group's (IEEE 802, 8.2).
        Some(address @ [first, ..]) if first & 1 == 0 => Ok(address),
        Some(_) => Err(format!(
            "{text} is the address of a group: use an even first byte"
        )),
        None => Err(format!(
            "{text} is no address: use six bytes such as 02:fc:00:00:00:01"
        )),
    }
}

fn mtu(text: &str) -> Result<u16, String> {
    match text.parse() {
        // Of IPv4 at least (RFC 791), and what fits the length of an IP packet.
        Ok(mtu @ 68..) => Ok(mtu),
        _ => Err(format!(
            "use an MTU from 68 to 65535 bytes, such as {DEFAULT_MTU}"
        )),
    }
}

/// A console: what its other side is.
pub fn console(text: &str) -> Result<Console, String> {
    let mut words = Words::of(text);
    let console = match words.next() {
        Some((key, None)) if key == "pty" => Console::Pty,
        Some((key, None)) if key == "stdio" => Console::Stdio,
        Some((key, Some(path))) if key == "file" && !path.is_empty() => Console::File(path.into()),
        Some((key, Some(path))) if key == "socket" && !path.is_empty() => {
            Console::Socket(path.into())
        }
        _ => return Err("use pty, stdio, file=PATH or socket=PATH".to_owned()),
    };
    match words.next() {
        None => Ok(console),
        Some((key, value)) => Err(no_word(&key, value, "a console", "leave it out")),
    }
}

/// What the guest is asked to give up: a size of whole pages.
pub fn balloon(text: &str) -> Result<u64, String> {
    match values::size(text)? {
        size if size.is_multiple_of(4096) => Ok(size),
        _ => Err("use a multiple of 4096 bytes, such as 16M, or 0".to_owned()),
    }
}

fn no_word(key: &str, value: Option<String>, of: &str, help: &str) -> String {
    let word = match value {
        Some(value) => format!("{key}={value}"),
        None => key.to_owned(),
    };
    format!("there is no word {word} of {of}: {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_a_file_with_words() {
        let plain = disk("my.img").expect("a disk");
        assert_eq!(plain.path.to_str(), Some("my.img"));
        assert!(!plain.read_only && !plain.direct);
        let all = disk("a,,b,ro,direct,engine=sync,queues=4").expect("a disk");
        assert_eq!(all.path.to_str(), Some("a,b"));
        assert!(all.read_only && all.direct && all.engine == Engine::Sync && all.queues == 4);
        let image = disk("a.img,format=qcow2,backing=b,backing=c,snapshot").expect("a disk");
        assert!(image.format == Format::Qcow2 && image.snapshot);
        assert_eq!(image.backing, ["b", "c"].map(std::path::PathBuf::from));
        let limited = disk("a,rate=10M,iops=100").expect("a disk").limits;
        assert_eq!(
            limited.bytes_per_second.map(NonZeroU64::get),
            Some(10 << 20)
        );
        assert_eq!(
            limited.operations_per_second.map(NonZeroU64::get),
            Some(100)
        );
        assert!(disk("a,rate=0").is_err_and(|error| error.contains("above 0")));
        let served = disk("vhost-user=/run/a,,b,queues=2").expect("a disk");
        assert!(served.vhost_user && served.queues == 2);
        assert_eq!(served.path.to_str(), Some("/run/a,b"));
        assert!(disk("vhost-user=").is_err_and(|error| error.contains("name the socket")));
        for wrong in [
            "ro",
            "direct",
            "format=raw",
            "rate=1M",
            "snapshot",
            "queues=9",
            "queues",
        ] {
            let served = disk(&format!("vhost-user=a,{wrong}"));
            assert!(
                served.is_err_and(|error| error.contains("said to the program")),
                "{wrong}"
            );
        }
        assert_eq!(disk("a=b").expect("a disk").path.to_str(), Some("a=b"));
        assert!(disk(",ro").is_err_and(|error| error.contains("name the disk's file")));
        for wrong in [
            "a,rw",
            "a,ro=1",
            "a,engine=fast",
            "a,",
            "a,queues=0",
            "a,queues=9",
        ] {
            assert!(disk(wrong).is_err_and(|error| error.contains("use ro, direct")));
        }
    }

    #[test]
    fn a_network_is_a_carrier_with_words() {
        let tap = net("tap=tap0").expect("a device");
        assert_eq!(tap, Net::new(NetCarrier::Tap("tap0".into())));
        let all = net("socket=/run/a,,b,mac=02:FC:00:00:00:7f,mtu=9000").expect("a device");
        assert_eq!(all.carrier, NetCarrier::Socket("/run/a,b".into()));
        assert_eq!(all.mac, Some([2, 0xfc, 0, 0, 0, 0x7f]));
        assert_eq!(all.mtu, 9000);
        let user = net("user,hostfwd=tcp:127.0.0.1:8080-:80,restrict,hostfwd=udp::53-:53");
        let NetCarrier::User(user) = user.expect("a device").carrier else {
            panic!("it is this process");
        };
        assert!(user.is_restricted && user.forwards.len() == 2);
        let served = net("vhost-user=/run/n,mac=02:fc:00:00:00:7f,mtu=1400").expect("a device");
        assert_eq!(served.carrier, NetCarrier::VhostUser("/run/n".into()));
        assert_eq!(served.mtu, 1400);
        for wrong in ["vhost-user=a,rate=1M", "vhost-user=a,pps=1"] {
            assert!(net(wrong).is_err_and(|error| error.contains("said to the program")));
        }
        assert!(net("vhost-user=a,restrict").is_err());
        assert!(net("user,hostfwd=tcp:80").is_err() && net("tap=a,restrict").is_err());
        for wrong in ["", "tap", "tap=", "bridge=br0"] {
            assert!(
                net(wrong).is_err_and(|error| error.contains("say first")),
                "{wrong}"
            );
        }
        for (wrong, mend) in [
            ("tap=a,mac=1:2:3:4:5:6", "six bytes"),
            ("tap=a,mac=02:00:00:00:00", "six bytes"),
            ("tap=a,mac=+2:00:00:00:00:00", "six bytes"),
            ("tap=a,mac=01:00:00:00:00:00", "even first byte"),
            ("tap=a,mtu=67", "from 68"),
            ("tap=a,mtu=65536", "from 68"),
            ("tap=a,fast", "use mac="),
        ] {
            assert!(
                net(wrong).is_err_and(|error| error.contains(mend)),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_console_is_one_of_four_kinds() {
        assert_eq!(console("pty"), Ok(Console::Pty));
        assert_eq!(console("stdio"), Ok(Console::Stdio));
        assert_eq!(console("file=a"), Ok(Console::File("a".into())));
        assert_eq!(console("socket=a=b"), Ok(Console::Socket("a=b".into())));
        for wrong in ["", "file", "file=", "tty", "pty=1"] {
            assert!(
                console(wrong).is_err_and(|error| error.contains("use pty")),
                "{wrong}"
            );
        }
        assert!(console("pty,fast").is_err());
    }

    #[test]
    fn sockets_have_an_id_and_a_path() {
        let good = vsock("3,uds=/tmp/a,,b").expect("sockets");
        assert_eq!((good.cid, good.path.to_str()), (3, Some("/tmp/a,b")));
        for wrong in [
            "",
            "3",
            "2,uds=a",
            "4294967295,uds=a",
            "3,uds=",
            "3,uds=a,b",
            "3,path=a",
        ] {
            assert!(
                vsock(wrong).is_err_and(|error| error.contains("context id")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_balloon_has_whole_pages() {
        assert_eq!(balloon("16M"), Ok(16 << 20));
        assert_eq!(balloon("0"), Ok(0));
        assert!(balloon("4097").is_err_and(|error| error.contains("multiple of 4096")));
    }
}
