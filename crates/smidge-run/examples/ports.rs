//! Measures published ports: a proxy into any process's network namespace, a server, and a client.
//!
//! ```text
//! ports serve PORT                    a server for the client below, HTTP (`wrk`), echoes (also UDP)
//! ports tell PORT [4]                 a server of both families that tells each client what it knows
//! ports proxy PID PORT TARGET         publishes TARGET of the namespace of PID as 127.0.0.1:PORT
//! ports measure PORT KIND SECONDS     download, upload, ping or connect
//! ```
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for measuring, whose result is text"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::OFlags;
use rustix::io::FdFlags;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use smidge_run::port::{Listeners, Proxy, Way};
use smidge_run::{Port, Protocol, Publish};

const BLOCK: usize = 128 << 10;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhello, world\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", port] => serve(port.parse().unwrap()),
        ["tell", port] => tell(port.parse().unwrap(), AddressFamily::INET6),
        ["tell", port, "4"] => tell(port.parse().unwrap(), AddressFamily::INET),
        ["proxy", pid, port, target] => {
            proxy(
                pid.parse().unwrap(),
                port.parse().unwrap(),
                target.parse().unwrap(),
            );
        }
        ["measure", port, kind, seconds] => {
            let seconds = Duration::from_secs_f64(seconds.parse().unwrap());
            println!("{}", measure(port.parse().unwrap(), kind, seconds));
        }
        _ => {
            println!("usage: ports serve PORT | proxy PID PORT TARGET | measure PORT KIND SECONDS")
        }
    }
}

fn serve(port: u16) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    thread::spawn(move || {
        let mut datagram = vec![0; 64 << 10];
        while let Ok((length, client)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], client);
        }
    });
    for stream in TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .unwrap()
        .incoming()
    {
        thread::spawn(move || answer(stream.unwrap()));
    }
}

/// The first byte says what the client wants.
fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut block = vec![0; BLOCK];
    let Ok(1) = stream.read(&mut block[..1]) else {
        return;
    };
    match block[0] {
        b'e' => drop(std::io::copy(&mut &stream, &mut &stream)),
        b'd' => while stream.write_all(&block).is_ok() {},
        b'u' => while stream.read(&mut block).is_ok_and(|length| length > 0) {},
        b'p' => {
            while stream.read_exact(&mut block[..1]).is_ok() && stream.write_all(b"p").is_ok() {}
        }
        b'c' => drop(stream.write_all(b"c")),
        _ => loop {
            match stream.read(&mut block) {
                Ok(length) if length > 0 && stream.write_all(ANSWER).is_ok() => {}
                _ => return,
            }
        },
    }
}

/// Does with a socket what few programs do before they bind it, and sees whether all of that lasts.
fn tell(port: u16, family: AddressFamily) {
    let first = net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    sockopt::set_socket_reuseaddr(&first, true).unwrap();
    sockopt::set_socket_keepalive(&first, true).unwrap();
    sockopt::set_tcp_keepidle(&first, Duration::from_secs(77)).unwrap();
    let second = rustix::io::fcntl_dupfd_cloexec(&first, 30).unwrap();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let data = EventData::new_u64(7);
    epoll::add(&poll, &second, data, EventFlags::IN).unwrap();
    let any: IpAddr = match family {
        AddressFamily::INET => Ipv4Addr::UNSPECIFIED.into(),
        _ => {
            sockopt::set_ipv6_v6only(&first, false).unwrap();
            Ipv6Addr::UNSPECIFIED.into()
        }
    };
    net::bind(&first, &SocketAddr::new(any, port)).unwrap();
    net::listen(&second, 16).unwrap();
    let flags = |socket| {
        let descriptor = rustix::io::fcntl_getfd(socket).unwrap();
        let status = rustix::fs::fcntl_getfl(socket).unwrap();
        (
            descriptor.contains(FdFlags::CLOEXEC),
            status.contains(OFlags::NONBLOCK),
        )
    };
    loop {
        let mut events = Vec::with_capacity(4);
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        assert_eq!(events[0].data.u64(), 7);
        let (client, from) = match net::acceptfrom(&first) {
            Ok((client, from)) => (client, SocketAddr::try_from(from.unwrap()).unwrap()),
            Err(_) => continue,
        };
        let text = format!(
            "{} {} {:?} {:?}\n",
            from.ip().to_canonical(),
            sockopt::tcp_keepidle(&client).unwrap().as_secs(),
            flags(&first),
            flags(&second),
        );
        let _ = TcpStream::from(client).write_all(text.as_bytes());
    }
}

fn proxy(pid: i32, port: u16, target: u16) {
    let port = Port {
        host_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        host_port: port,
        last_host_port: 0,
        container_port: target,
        protocol: Protocol::Tcp,
    };
    let listeners = Listeners::bind(&[port], Publish::Proxy).unwrap();
    let program = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    let _proxy = Proxy::fork(listeners, program.as_fd(), Way::Proxy).unwrap();
    thread::park();
}

fn measure(port: u16, kind: &str, time: Duration) -> String {
    let connect = |kind: &[u8]| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(kind).unwrap();
        stream
    };
    let mut block = vec![0; BLOCK];
    let mut count = 0;
    let start = Instant::now();
    let until = |count: u64| (start.elapsed() < time).then_some(count);
    if kind == "connect" {
        while until(count).is_some() {
            connect(b"c").read_exact(&mut block[..1]).unwrap();
            count += 1;
        }
        return format!(
            "{:.0} connections/s",
            count as f64 / start.elapsed().as_secs_f64()
        );
    }
    let mut stream = connect(&kind.as_bytes()[..1]);
    while until(count).is_some() {
        count += match kind {
            "download" => stream.read(&mut block).unwrap() as u64,
            "upload" => stream.write(&block).unwrap() as u64,
            _ => {
                stream.write_all(b"p").unwrap();
                stream.read_exact(&mut block[..1]).unwrap();
                1
            }
        };
    }
    let seconds = start.elapsed().as_secs_f64();
    match kind {
        "ping" => format!("{:.1} µs", seconds * 1e6 / count as f64),
        _ => format!("{:.2} Gbit/s", count as f64 * 8e-9 / seconds),
    }
}
