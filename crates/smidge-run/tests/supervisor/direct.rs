//! Published ports whose sockets are the program's own.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use smidge_run::{Port, Protocol, Publish, Spec, Status};
use smidge_tests::{InTime as _, connect, until};

use crate::port::{echo, noise, port, talker};
use crate::sandbox::Sandbox;

const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const NEAR4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NEAR6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// `FD_CLOEXEC` and `O_NONBLOCK` of both names that the program has for its socket.
const FLAGS: &str = "(false, true) (true, true)";

fn direct(sandbox: &Sandbox, id: &str, arguments: &[&str], ports: &[Port]) -> Spec {
    let mut spec = sandbox.spec(id, arguments);
    (spec.ports, spec.publish) = (ports.to_vec(), Publish::Direct);
    spec
}

fn everywhere(protocol: Protocol) -> [Port; 2] {
    [port(ANY4, 80, protocol), port(ANY6, 80, protocol)]
}

/// What a server says at once.
fn told(ip: IpAddr, port: u16) -> String {
    try_told(ip, port).unwrap()
}

fn try_told(ip: IpAddr, port: u16) -> std::io::Result<String> {
    let mut text = String::new();
    connect((ip, port))?.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// An address of the host's that is not the loopback device's.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((ANY4, 0)).unwrap();
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// Whether `[::]` is published, too.
fn has_six(ports: &[Port]) -> bool {
    let has = ports.iter().any(|port| port.host_ip == ANY6);
    if !has {
        println!("skipped: the host has no IPv6");
    }
    has
}

#[test]
fn settings_names_and_watchers_of_a_socket_last() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let expected = |ip: IpAddr| format!("{ip} 77 {FLAGS}");
    for (id, arguments) in [
        ("both", ["ports", "tell", "80"].as_slice()),
        ("four", &["ports", "tell", "80", "4"]),
    ] {
        let spec = direct(&sandbox, id, arguments, &everywhere(Protocol::Tcp));
        let ports = sandbox.detach(&spec);
        let number = ports[0].host_port;
        assert!(ports.iter().all(|port| port.host_port == number));
        // What comes before the program listens waits, but does not get what the program has set.
        told(NEAR4, number);
        assert_eq!(told(NEAR4, number), expected(NEAR4), "{id}");
        if let Some(own) = own_address() {
            assert_eq!(told(own, number), expected(own), "{id}");
        }
        if has_six(&ports) {
            // A program of IPv4 does not know such clients.
            let seen = if id == "both" { NEAR6 } else { NEAR4 };
            assert_eq!(told(NEAR6, number), expected(seen), "{id}");
        }
    }
}

#[test]
fn one_address_leads_to_programs_of_both_families() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    for (id, ip, arguments) in [
        ("a", NEAR4, ["ports", "tell", "80"].as_slice()),
        ("b", NEAR4, &["ports", "tell", "80", "4"]),
        ("c", NEAR6, &["ports", "tell", "80"]),
        // The program's own socket stays: the host's does not fit.
        ("d", NEAR6, &["ports", "tell", "80", "4"]),
    ] {
        let published = [port(ip, 80, Protocol::Tcp)];
        let spec = direct(&sandbox, id, arguments, &published);
        let ports = sandbox.detach(&spec);
        let Some(port) = ports.first() else {
            println!("skipped: the host has no IPv6");
            continue;
        };
        told(ip, port.host_port);
        let seen = if id == "d" { NEAR4 } else { ip };
        let text = told(ip, port.host_port);
        assert!(text.starts_with(&format!("{seen} 77 ")), "{id}: {text}");
        // Whoever leads there lets go of it before the end is told.
        assert_eq!(sandbox.verb("signal", id, &["9"]).0, Some(0));
        assert_eq!(sandbox.verb("wait", id, &[]).0, Some(137));
        TcpListener::bind((ip, port.host_port)).unwrap();
    }
}

#[test]
fn bytes_and_datagrams_arrive() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let published = [everywhere(Protocol::Tcp), everywhere(Protocol::Udp)];
    let spec = direct(
        &sandbox,
        "server",
        &["ports", "serve", "80"],
        &published.concat(),
    );
    let ports = sandbox.detach(&spec);
    let at = |protocol, ip| {
        let port = ports.iter().find(|port| port.protocol == protocol).unwrap();
        SocketAddr::new(ip, port.host_port)
    };
    let bytes = noise(1_000_000);
    let ips = if has_six(&ports) {
        vec![NEAR4, NEAR6]
    } else {
        vec![NEAR4]
    };
    for ip in ips {
        assert!(echo(at(Protocol::Tcp, ip), &bytes) == bytes, "{ip}");
        let client = talker(ip);
        let mut datagram = [0; 16];
        for message in [b"one", b"two"] {
            client.send_to(message, at(Protocol::Udp, ip)).unwrap();
            let (length, from) = client.recv_from(&mut datagram).unwrap();
            assert_eq!(
                (&datagram[..length], from),
                (message.as_slice(), at(Protocol::Udp, ip))
            );
        }
    }
}

#[test]
fn a_connection_waits_and_the_port_is_taken_meanwhile() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let script = "head -c 1 >/dev/null; exec ports serve 80";
    let published = everywhere(Protocol::Tcp);
    let mut spec = direct(&sandbox, "late", &["sh", "-c", script], &published);
    spec.stdin = true;
    let client = crate::sandbox::spawn(&mut sandbox.start(&spec, &["-a", "-i"]));
    let number = sandbox.running("late").ports[0].host_port;
    let mut streams: Vec<TcpStream> = (0..50).map(|_| connect((NEAR4, number)).unwrap()).collect();
    for stream in &mut streams {
        stream.write_all(b"ehello").unwrap();
    }
    let mut second = direct(&sandbox, "second", &["true"], &published);
    second
        .ports
        .iter_mut()
        .for_each(|port| port.host_port = number);
    let refused = || {
        let output = sandbox.run(&second, b"");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("is already in use"), "{message}");
        assert!(TcpListener::bind((ANY4, number)).is_err());
    };
    refused();
    client.stdin.as_ref().unwrap().write_all(b"!").unwrap();
    for stream in &mut streams {
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }
    refused();
    assert_eq!(sandbox.verb("signal", "late", &["9"]).0, Some(0));
    drop(client.output_in_time());
    assert_eq!(sandbox.state("late").status, Status::Exited);
    TcpListener::bind((ANY4, number)).unwrap();
}

#[test]
fn whoever_is_inside_reaches_the_program_too() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let published = everywhere(Protocol::Tcp);
    let script = "ports tell 80 & while ! busybox nc 127.0.0.1 80; do :; done; wait";
    let mut spec = direct(&sandbox, "inside", &["sh", "-c", script], &published);
    // A second host port leads to the same program.
    spec.ports.extend(everywhere(Protocol::Tcp));
    let ports = sandbox.detach(&spec);
    for port in [&ports[0], ports.last().unwrap()] {
        assert!(told(NEAR4, port.host_port).ends_with(FLAGS), "{port:?}");
    }
    let log = sandbox.dir("inside").join("inside-json.log");
    until("who is inside", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains(FLAGS))
    });
}

#[test]
fn a_program_that_comes_again_gets_its_port_again() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let published = everywhere(Protocol::Tcp);
    let script = "for f in '' '' 4 4 ''; do ports tell 80 $f & read x; kill -9 $!; wait; done";
    let mut spec = direct(&sandbox, "again", &["sh", "-c", script], &published);
    spec.stdin = true;
    let client = crate::sandbox::spawn(&mut sandbox.start(&spec, &["-a", "-i"]));
    let number = sandbox.running("again").ports[0].host_port;
    let ips = if has_six(&sandbox.state("again").ports) {
        vec![NEAR4, NEAR6]
    } else {
        vec![NEAR4]
    };
    for _ in 0..5 {
        for ip in &ips {
            // Who was let in by one that was killed is turned away.
            until("the program", || {
                try_told(*ip, number).is_ok_and(|text| text.ends_with(FLAGS))
            });
        }
        client.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
    }
    assert!(client.output_in_time().unwrap().status.success());
}
