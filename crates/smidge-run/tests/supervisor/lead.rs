//! Published ports of root's containers on bridges: by the kernel.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;

use smidge_run::network::{Address, Attachment, Mac, dissolve};
use smidge_run::{Protocol, Spec};
use smidge_tests::{InTime as _, connect, until};

use crate::port::{echo, port};
use crate::sandbox::Sandbox;

const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const NEAR4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A network, which is gone when the test is over.
struct Net(String);

impl Drop for Net {
    fn drop(&mut self) {
        let _ = dissolve(&self.0);
    }
}

/// Puts a container on a network of its own, with the third part of its addresses.
fn bridged(sandbox: &Sandbox, spec: &mut Spec, third: u8) -> Option<Net> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root has bridges of the machine");
        return None;
    }
    let net = Net(format!("smi-l{}-{third}", std::process::id() % 100_000));
    let address = |text: String, prefix| Address {
        ip: text.parse().unwrap(),
        prefix,
    };
    spec.attachments = vec![Attachment {
        id: String::new(),
        leases: Vec::new(),
        dir: sandbox.dir("network"),
        bridge: net.0.clone(),
        gateways: vec![
            address(format!("10.213.{third}.1"), 24),
            address(format!("fd23:{third}::1"), 64),
        ],
        internal: false,
        mtu: None,
        device: "eth0".to_owned(),
        mac: Mac([2, 0x42, 10, 213, third, 2]),
        addresses: vec![
            address(format!("10.213.{third}.2"), 24),
            address(format!("fd23:{third}::2"), 64),
        ],
        names: Vec::new(),
        servers: Vec::new(),
    }];
    spec.ports = vec![
        port(ANY4, 80, Protocol::Tcp),
        port(ANY6, 80, Protocol::Tcp),
        port(ANY4, 80, Protocol::Udp),
    ];
    Some(net)
}

/// An address of the host's that is not the loopback device's.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((ANY4, 0)).unwrap();
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn tables() -> String {
    let listed = Command::new("nft")
        .args(["list", "tables"])
        .output_in_time();
    listed.map_or(String::new(), |output| {
        String::from_utf8(output.stdout).unwrap()
    })
}

#[test]
fn a_program_that_listens_sees_who_connects() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let script = "head -c 1 >/dev/null; exec ports tell 80";
    let mut spec = sandbox.spec("led", &["sh", "-c", script]);
    spec.stdin = true;
    let Some(_net) = bridged(&sandbox, &mut spec, 1) else {
        return;
    };
    let Some(own) = own_address() else {
        println!("skipped: the host has no address but 127.0.0.1");
        return;
    };
    let client = crate::sandbox::spawn(&mut sandbox.start(&spec, &["-a", "-i"]));
    let number = sandbox.running("led").ports[0].host_port;
    let told = |ip: IpAddr| {
        let mut text = String::new();
        let mut stream = connect((ip, number)).unwrap();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').next().unwrap().to_owned()
    };
    // They come before the program listens, and wait.
    let mut early: Vec<TcpStream> = [own, NEAR4].map(|ip| connect((ip, number)).unwrap()).into();
    client.stdin.as_ref().unwrap().write_all(b"!").unwrap();
    for stream in &mut early {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        // Whichever of its addresses was tried when it had just begun to listen.
        let near = ["127.0.0.1 ", "::1 "];
        assert!(near.iter().any(|ip| text.starts_with(ip)), "{text}");
    }
    until("the short way", || told(own) == own.to_string());
    // What never leaves the machine goes the other way still.
    assert_eq!(told(NEAR4), NEAR4.to_string());
    let has_nft = tables().contains("smidge-ports-led");
    assert_eq!(sandbox.verb("signal", "led", &["9"]).0, Some(0));
    drop(client.output_in_time());
    match has_nft {
        true => assert!(!tables().contains("smidge-ports-led")),
        false => println!("skipped: nft is not installed"),
    }
    assert!(TcpStream::connect((own, number)).is_err());
}

#[test]
fn datagrams_are_led_as_well() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("datagrams", &["ports", "serve", "80"]);
    let Some(_net) = bridged(&sandbox, &mut spec, 2) else {
        return;
    };
    let ports = sandbox.detach(&spec);
    // Its answer shows that the program listens, to datagrams first.
    echo(SocketAddr::new(NEAR4, ports[0].host_port), b"ready");
    let number = ports.last().unwrap().host_port;
    for ip in [Some(NEAR4), own_address()].into_iter().flatten() {
        let client = crate::port::talker(ip);
        let mut buffer = [0; 16];
        for _ in 0..20 {
            client.send_to(b"hello", (ip, number)).unwrap();
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"hello");
            assert_eq!(from, SocketAddr::new(ip, number));
        }
    }
}
