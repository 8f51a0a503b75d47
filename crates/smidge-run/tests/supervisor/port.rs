//! Published ports, as clients of the host see them.

use std::io::{Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::process::Command;
use std::thread;

use smidge_run::{Network, Port, Protocol, Spec, Status};
use smidge_tests::{InTime as _, connect};

use crate::sandbox::Sandbox;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

pub(crate) fn port(host_ip: IpAddr, container_port: u16, protocol: Protocol) -> Port {
    Port {
        host_ip,
        host_port: 0,
        last_host_port: 0,
        container_port,
        protocol,
    }
}

/// The `ports` example as a server behind published ports.
fn server(sandbox: &Sandbox, ports: &[Port]) -> Spec {
    let mut spec = sandbox.spec("server", &["ports", "serve", "80"]);
    spec.ports = ports.to_vec();
    spec
}

fn tcp(sandbox: &Sandbox) -> SocketAddr {
    let ports = sandbox.detach(&server(sandbox, &[port(V4, 80, Protocol::Tcp)]));
    SocketAddr::new(V4, ports[0].host_port)
}

/// Sends everything, then ends its half, then reads everything: half-closing must work both ways.
pub(crate) fn echo(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(b"e").unwrap();
            writer.write_all(bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut received).unwrap();
    });
    received
}

/// A socket for datagrams that waits no longer than two minutes for an answer.
pub(crate) fn talker(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket
        .set_read_timeout(Some(smidge_tests::PATIENCE))
        .unwrap();
    socket
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(step).collect()
}

#[test]
fn bytes_arrive_unchanged_both_ways() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let address = tcp(&sandbox);
    for length in [0, 1, 1000, 65_535, 65_536, 65_537, 20_000_000] {
        let bytes = noise(length);
        assert!(echo(address, &bytes) == bytes, "{length} bytes");
    }
}

#[test]
fn a_thousand_connections_at_once() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let address = tcp(&sandbox);
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| connect(address).unwrap()).collect();
    for (round, message) in ["e", "hello", "again"].iter().enumerate() {
        for stream in &mut streams {
            stream.write_all(message.as_bytes()).unwrap();
        }
        for stream in streams.iter_mut().filter(|_| round > 0) {
            let mut answer = vec![0; message.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, message.as_bytes());
        }
    }
}

#[test]
fn a_lack_of_descriptors_delays_connections_and_loses_none() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let start = sandbox.start(&server(&sandbox, &[port(V4, 80, Protocol::Tcp)]), &[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 300 && exec \"$@\"", "sh"]);
    let output = limited
        .arg(start.get_program())
        .args(start.get_args())
        .output_in_time()
        .unwrap();
    assert!(output.status.success());
    let address = SocketAddr::new(V4, sandbox.state("server").ports[0].host_port);
    let mut streams: Vec<TcpStream> = (0..250).map(|_| connect(address).unwrap()).collect();
    streams
        .iter_mut()
        .for_each(|stream| stream.write_all(b"ehello").unwrap());
    // Each that is done makes room for another.
    for mut stream in streams {
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
}

#[test]
fn many_bulk_connections_share_few_pipes() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let address = tcp(&sandbox);
    let bytes = noise(1_000_000);
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert!(echo(address, &bytes) == bytes));
        }
    });
}

#[test]
fn a_connection_waits_for_the_program_to_listen() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    // The program listens when it is told to, which is when connections wait already.
    let script = "head -c 1 >/dev/null; exec ports serve 80";
    let mut spec = sandbox.spec("late", &["sh", "-c", script]);
    (spec.stdin, spec.ports) = (true, vec![port(V4, 80, Protocol::Tcp)]);
    let client = crate::sandbox::spawn(&mut sandbox.start(&spec, &["-a", "-i"]));
    let state = loop {
        let state = sandbox.state("late");
        if state.pid != 0 {
            break state;
        }
        thread::yield_now();
    };
    let address = SocketAddr::new(V4, state.ports[0].host_port);
    let mut streams: Vec<TcpStream> = (0..50).map(|_| connect(address).unwrap()).collect();
    streams
        .iter_mut()
        .for_each(|stream| stream.write_all(b"ehello").unwrap());
    client.stdin.as_ref().unwrap().write_all(b"!").unwrap();
    for stream in &mut streams {
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
    assert_eq!(sandbox.verb("signal", "late", &["9"]).0, Some(0));
    drop(client.output_in_time());
}

#[test]
fn both_families_get_the_same_free_port() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let wanted = [port(ANY4, 80, Protocol::Tcp), port(ANY6, 80, Protocol::Tcp)];
    let ports = sandbox.detach(&server(&sandbox, &wanted));
    assert!(
        ports
            .iter()
            .all(|port| port.host_port == ports[0].host_port && port.host_port > 0)
    );
    assert_eq!(
        echo(SocketAddr::new(V4, ports[0].host_port), b"four"),
        b"four"
    );
    if ports.len() == 1 {
        println!("skipped: the host has no IPv6");
        return;
    }
    let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), ports[1].host_port);
    assert_eq!(echo(address, b"six"), b"six");
}

#[test]
fn datagrams_find_their_way_back() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let wanted = [port(V4, 80, Protocol::Udp), port(V4, 80, Protocol::Tcp)];
    let ports = sandbox.detach(&server(&sandbox, &wanted));
    let address = |index: usize| SocketAddr::new(V4, ports[index].host_port);
    // Its answer shows that the program listens, to datagrams first.
    echo(address(1), b"ready");
    let clients: Vec<UdpSocket> = (0..20).map(|_| talker(V4)).collect();
    let mut datagram = vec![0; 64 << 10];
    for _ in 0..2 {
        for (number, client) in (0_u8..).zip(&clients) {
            let message = vec![number; 1 + 3000 * usize::from(number)];
            client.send_to(&message, address(0)).unwrap();
            let (length, from) = client.recv_from(&mut datagram).unwrap();
            assert_eq!(
                (&datagram[..length], from),
                (message.as_slice(), address(0))
            );
        }
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_started() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let taken = TcpListener::bind((V4, 0)).unwrap();
    let mut spec = server(&sandbox, &[port(V4, 80, Protocol::Tcp)]);
    spec.ports[0].host_port = taken.local_addr().unwrap().port();
    let output = sandbox.run(&spec, b"");
    assert_eq!(output.status.code(), Some(125));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&format!(
        "`{}` is already in use",
        taken.local_addr().unwrap()
    )));
    assert_eq!(sandbox.state("server").status, Status::Created);
}

#[test]
fn ports_are_free_again_when_the_container_has_ended() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let address = tcp(&sandbox);
    let mut open = connect(address).unwrap();
    open.write_all(b"e").unwrap();
    sandbox.verb("signal", "server", &["9"]);
    sandbox.verb("wait", "server", &[]);
    assert!(!matches!(open.read(&mut [0]), Ok(1..)));
    assert!(TcpStream::connect(address).is_err());
    TcpListener::bind(address).unwrap();
}

#[test]
fn last_words_are_passed_on() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let bytes = 4 << 20;
    let script = format!("head -c {bytes} /dev/zero | busybox nc -l -p 80");
    let mut spec = sandbox.spec("words", &["sh", "-c", &script]);
    spec.ports = vec![port(V4, 80, Protocol::Tcp)];
    let ports = sandbox.detach(&spec);
    let mut stream = connect((V4, ports[0].host_port)).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), bytes);
}

#[test]
fn a_program_that_resets_resets_its_client() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let address = tcp(&sandbox);
    // It answers one byte and closes with the rest unread, which TCP makes a reset.
    let mut stream = connect(address).unwrap();
    stream.write_all(&vec![b'c'; 1 << 20]).ok();
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    assert!(received.len() <= 1);
    assert_eq!(echo(address, b"next"), b"next");
}

#[test]
fn the_host_network_needs_no_ports() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("host", &["true"]);
    spec.network = Network::Host;
    spec.ports = vec![port(V4, 80, Protocol::Tcp)];
    assert_eq!(sandbox.detach(&spec), []);
}
