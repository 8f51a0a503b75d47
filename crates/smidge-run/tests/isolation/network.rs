//! Containers on the same network reach each other, and nobody else does.

use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::path::Path;
use std::thread;

use smidge_run::network::{Address, Attachment, Mac, NAME_SERVER, dissolve};

use crate::cell::{Cell, NOBODY_KNOWN, Outcome};

/// What listens at a port and says so when it is asked.
const SERVER: &str = "echo found | busybox timeout 120 busybox nc -l -p 7000";

fn address(text: &str, prefix: u8) -> Address {
    let ip: IpAddr = text.parse().unwrap();
    Address { ip, prefix }
}

/// The `number`th place on the network `net`.
fn place(dir: &Path, net: u8, number: u8) -> Attachment {
    Attachment {
        id: String::new(),
        leases: Vec::new(),
        dir: dir.to_owned(),
        bridge: bridge(net),
        gateways: vec![
            address(&format!("10.211.{net}.1"), 24),
            address(&format!("fd21:{net}::1"), 64),
        ],
        internal: false,
        mtu: Some(1400),
        device: "eth0".to_owned(),
        mac: Mac([2, 0x42, 10, 211, net, number]),
        addresses: vec![
            address(&format!("10.211.{net}.{number}"), 24),
            address(&format!("fd21:{net}::{number}"), 64),
        ],
        servers: Vec::new(),
        names: vec![format!("cell{number}"), "both".to_owned()],
    }
}

/// A network, which is gone when the test is over.
struct Net(u8);

impl Drop for Net {
    fn drop(&mut self) {
        let _ = dissolve(&bridge(self.0));
    }
}

/// A name that no other test run has.
fn bridge(net: u8) -> String {
    format!("smi-t{}-{net}", std::process::id() % 100_000)
}

/// Asks until somebody answers.
fn client(address: &str, tries: u32) -> String {
    format!(
        "for i in $(busybox seq {tries}); do
           busybox nc -w 2 {address} 7000 && exit 0
           busybox sleep 0.1
         done; exit 1"
    )
}

/// Both run at once; the second's outcome.
fn meet(server: &Cell, script: &str, client: &Cell, asking: &str) -> (Outcome, Outcome) {
    thread::scope(|scope| {
        let server = scope.spawn(|| server.sh(script));
        let client = client.sh(asking);
        (server.join().unwrap(), client)
    })
}

fn cells(net: u8, new: &dyn Fn() -> Option<Cell>) -> Option<(tempfile::TempDir, Cell, Cell)> {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (new()?, new()?);
    if let Some(uid) = one.caller {
        chown(dir.path(), Some(uid), Some(uid)).unwrap();
    }
    one.spec.attachments = vec![place(dir.path(), net, 2)];
    other.spec.attachments = vec![place(dir.path(), net, 3)];
    Some((dir, one, other))
}

fn neighbours(net: u8, new: &dyn Fn() -> Option<Cell>) {
    let _net = Net(net);
    let Some((dir, one, mut other)) = cells(net, new) else {
        return;
    };
    for address in [format!("10.211.{net}.2"), format!("fd21:{net}::2")] {
        let (server, client) = meet(&one, SERVER, &other, &client(&address, 100));
        assert_eq!(client.stdout.trim(), "found", "{client:?} {server:?}");
    }
    // By name: of the other, of both, from the address, and as programs ask.
    let asking = format!(
        "{} >/dev/null
         for name in CELL2 both 10.211.{net}.2; do busybox nslookup $name 127.0.0.11; done
         busybox ping -c 1 -W 30 cell2
         {}",
        client(&format!("10.211.{net}.2"), 100)
            .replace("&& exit 0", "&& break")
            .replace("exit 1", "true"),
        client(&format!("10.211.{net}.2"), 100).replace("7000", "7001")
    );
    let resolver = dir.path().join("resolv.conf");
    std::fs::write(&resolver, format!("nameserver {NAME_SERVER}\n")).unwrap();
    other.bind(&resolver, "/etc/resolv.conf", true);
    // It has its name until it is told that it is not asked for any more.
    let server = format!("{SERVER}; {}", SERVER.replace("7000", "7001"));
    let (_, named) = meet(&one, &server, &other, &asking);
    for expected in [
        format!("Address: 10.211.{net}.2"),
        format!("Address: 10.211.{net}.3"),
        format!("Address: fd21:{net}::2"),
        "name = cell2".to_owned(),
        "1 packets received".to_owned(),
    ] {
        assert!(named.stdout.contains(&expected), "{expected}: {named:?}");
    }
    let shown = one.sh("ip -o link show eth0; ip route").stdout;
    assert!(shown.contains("mtu 1400"), "{shown}");
    let mac = format!("02:42:0a:d3:{net:02x}:02");
    assert!(shown.contains(&mac), "{shown}");
    let route = format!("default via 10.211.{net}.1 dev eth0");
    assert!(shown.contains(&route), "{shown}");
    // Whoever held the network has let go of it.
    let members = dir.path().join("members");
    let left = std::fs::read_dir(members).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn neighbours_reach_each_other() {
    neighbours(1, &Cell::of_root);
}

#[test]
fn an_ordinary_users_neighbours_reach_each_other() {
    neighbours(2, &|| Cell::of_user(NOBODY_KNOWN));
}

#[test]
fn other_networks_are_out_of_reach() {
    let _nets = [3, 4].map(Net);
    let Some((_dir, one, mut other)) = cells(3, &Cell::of_root) else {
        return;
    };
    other.spec.attachments = vec![place(Path::new("/nowhere"), 4, 3)];
    // The gateway is the machine itself, and answers: the way is there.
    let ways = "ping -c 1 -W 30 10.211.4.1 >/dev/null && echo gateway; ";
    let asking = format!("{ways}{}", client("10.211.3.2", 3)).replace("ping", "busybox ping");
    let server = SERVER.replace("timeout 120", "timeout 20");
    let (_, client) = meet(&one, &server, &other, &asking);
    assert_eq!(client.stdout.trim(), "gateway", "{client:?}");
    for net in [3, 4] {
        dissolve(&bridge(net)).unwrap();
        let device = Path::new("/sys/class/net").join(bridge(net));
        assert!(!device.exists(), "{}", device.display());
    }
}
