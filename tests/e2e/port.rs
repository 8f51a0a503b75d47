//! Published ports: by which way, and who is in it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use smidge_tests::{InTime as _, connect, until};

use crate::context::{Context, have, skip, smidge_binary};
use crate::fixture::{compiled, with_busybox};
use crate::http::page;

/// A CGI program that tells whom the server sees.
const TELLS: &str = "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR\\n' > /www/cgi-bin/who; \
     chmod 755 /www/cgi-bin/who; exec httpd -f -p 80 -h /www";

/// How long an answer may take until it is asked again.
const TURN: Duration = Duration::from_millis(100);

/// Sends back what arrives at port 53 of an address.
static ECHO: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = r#"#include <arpa/inet.h>
int main(int argc, char **argv) {
    char said[512];
    struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(53) }, other;
    inet_pton(AF_INET, argv[1], &own.sin_addr);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(s, (void *)&own, sizeof own)) return 1;
    for (;;) {
        socklen_t length = sizeof other;
        int n = recvfrom(s, said, sizeof said, 0, (void *)&other, &length);
        if (n > 0) sendto(s, said, n, 0, (void *)&other, length);
    }
}"#;
    compiled("echo", source, &["-static"])
});

/// An address of this machine that is not the loopback device's.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().unwrap().ip().to_string())
}

/// The host's port of a container's.
fn published(context: &Context, name: &str) -> u16 {
    let line = context.line(&format!("port {name} 80")).ok();
    let first = line.lines().next().unwrap().to_owned();
    first.rsplit(':').next().unwrap().parse().unwrap()
}

/// What an HTTP server answers to one who asks for a page.
fn ask(address: &str, port: u16, path: &str) -> String {
    let mut stream = connect((address, port)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn start(context: &Context, options: &str, script: &str) {
    let mut command = context.line_command(&format!("run -d {options} busybox sh -c"));
    command.arg(script);
    context.finish(command).ok();
}

#[test]
fn direct_ports_show_who_connects() {
    with_busybox(|context| {
        let options =
            "--name web --publish-mode direct -p 0:80 --health-tcp 80 --health-interval 1s";
        start(context, options, TELLS);
        let port = published(context, "web");
        // The first connection may come before the program listens.
        assert!(ask("127.0.0.1", port, "/cgi-bin/who").contains("127.0.0.1"));
        if let Some(own) = own_address() {
            let answer = ask(&own, port, "/cgi-bin/who");
            assert!(answer.contains(&own), "{answer}");
        }
        // From inside it is where the program believes it to be.
        let inside = context.line("exec web wget -qO- http://127.0.0.1:80/cgi-bin/who");
        assert!(inside.ok().contains("127.0.0.1"));
        until("healthy", || {
            let status = context.line("inspect web --format {{.State.Health.Status}}");
            status.ok() == "healthy"
        });
        let taken = context.line(&format!("run --rm -p {port}:80 busybox true"));
        taken.says(125, &["is already in use", "container `web`"]);
        // Whoever comes while it is started again waits.
        context.line("restart -t 0 web").ok();
        assert!(ask("127.0.0.1", published(context, "web"), "/cgi-bin/who").contains("127.0.0.1"));
        context.line("rm -f web").ok();
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    });
}

/// They take more files than a process may usually have open, and more room than a packet has.
#[test]
fn a_thousand_ports_are_published_at_once() {
    let files = getrlimit(Resource::Nofile).maximum;
    if files.is_some_and(|files| files < 8192) {
        return skip("nobody may have enough files open");
    }
    with_busybox(|context| {
        context.line("network create many").ok();
        for options in [
            "--network many",
            "--publish-mode proxy",
            "--publish-mode direct",
        ] {
            println!("{options}");
            let run =
                format!("run -d --name web {options} -p 20000-20999:20000-20999 busybox sh -c");
            let mut shell = context.program("sh");
            shell.args(["-c", "ulimit -S -n 1024; exec \"$0\" \"$@\""]);
            shell.arg(smidge_binary()).args(run.split(' '));
            // The program has the limit that the caller has.
            shell.arg("mkdir /www; ulimit -S -n > /www/files; exec httpd -f -p 20500 -h /www");
            context.finish(shell).ok();
            let listed = context.line("port web").ok();
            assert!(listed.lines().count() >= 1000, "{listed}");
            assert_eq!(page(20500, "/files"), "1024\n");
            context.line("rm -f web").ok();
        }
        context.line("network rm many").ok();
    });
}

#[test]
fn ports_of_roots_containers_on_networks_show_who_connects() {
    with_busybox(|context| {
        let is_root = context.identity().ids.is_none() && rustix::process::geteuid().is_root();
        let (Some(own), true) = (own_address(), is_root) else {
            return skip("only root's networks are the kernel's, and it takes an address");
        };
        context.line("network create led").ok();
        start(context, "--name web --network led -p 0:80", TELLS);
        let port = published(context, "web");
        // Until the program listens, there is a proxy.
        smidge_tests::until("the short way", || {
            ask(&own, port, "/cgi-bin/who").contains(&own)
        });
        // What the machine asks for never leaves it, so its packets may be large.
        let routes = context.line("exec web ip route").ok();
        assert!(routes.contains(&format!("{own} via")), "{routes}");
        assert!(ask("127.0.0.1", port, "/cgi-bin/who").contains("127.0.0.1"));
        // A neighbour gets there by the machine's address as well.
        let gateway = "{{(index .IPAM.Config 0).Gateway}}";
        let gateway = context
            .smidge(["network", "inspect", "led", "-f", gateway])
            .ok();
        let fetch =
            format!("run --rm --network led busybox wget -qO- http://{gateway}:{port}/cgi-bin/who");
        context.line(&fetch).ok();
        context.line("rm -f web").ok();
        assert!(TcpStream::connect((own.as_str(), port)).is_err());
        context.line("network rm led").ok();
    });
}

#[test]
fn every_mode_leads_to_the_program() {
    with_busybox(|context| {
        for mode in ["auto", "proxy", "direct"] {
            let options = format!("--name box --publish-mode {mode} -p 0:80");
            start(
                context,
                &options,
                "echo fine > /tmp/page; exec httpd -f -p 80 -h /tmp",
            );
            assert_eq!(
                page(published(context, "box"), "/page").trim(),
                "fine",
                "{mode}"
            );
            context.line("rm -f box").ok();
        }
        context
            .line("run --rm --publish-mode other busybox true")
            .says(125, &["auto", "proxy", "direct"]);
    });
}

#[test]
fn a_program_is_found_that_listens_at_its_own_address_alone() {
    with_busybox(|context| {
        context.line("network create n").ok();
        for options in ["--network n", "--network n --publish-mode proxy"] {
            let echo = ECHO.display();
            let options = format!(
                "--name web {options} -v {echo}:/echo:ro -p 127.0.0.1:0:80 -p 127.0.0.1:0:53/udp"
            );
            let script =
                "own=$(hostname -i); echo page > /page; httpd -p $own:80 -h /; exec /echo $own";
            start(context, &options, script);
            let answer = ask("127.0.0.1", published(context, "web"), "/page");
            assert!(answer.ends_with("page\n"), "{answer}");
            let udp = context.line("port web 53/udp").ok();
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.connect(&udp).unwrap();
            socket.set_read_timeout(Some(TURN)).unwrap();
            let mut said = [0; 8];
            // One that nobody takes is lost.
            until("answered", || {
                let _ = socket.send(b"word");
                socket.recv(&mut said).is_ok()
            });
            assert_eq!(&said[..4], b"word");
            context.line("rm -f web").ok();
        }
        context.line("network rm n").ok();
    });
}

#[test]
fn the_first_free_port_of_a_range_is_taken() {
    with_busybox(|context| {
        let first = smidge_tests::free_ports(2);
        let free = first + 1;
        let _taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, first)).unwrap();
        for mode in ["proxy", "direct"] {
            let options = format!("--name web --publish-mode {mode} -p {first}-{free}:80");
            start(context, &options, TELLS);
            assert_eq!(published(context, "web"), free);
            let format = "{{json .HostConfig.PortBindings}}";
            let asked = context.smidge(["inspect", "-f", format, "web"]).ok();
            assert!(asked.contains(&format!("\"{first}-{free}\"")), "{asked}");
            let none = context.line(&format!("run --rm -p {first}-{free}:80 busybox true"));
            let said = [&format!(":{free}` is already in use"), "container `web`"];
            none.says(125, &said.map(|part| part as &str));
            context.line("rm -f web").ok();
        }
    });
}

/// A socket of a network is enough to administer it, for whoever may.
#[test]
fn a_program_gets_no_socket_of_a_network_that_it_could_administer() {
    with_busybox(|context| {
        let own_ids = context.identity().ids.is_some() || !rustix::process::geteuid().is_root();
        for options in ["--cap-add NET_ADMIN", "--privileged"] {
            let with = |mode: &str| {
                let line = format!("run --rm {options} --publish-mode {mode} -p 0:80 busybox true");
                context.line(&line)
            };
            match own_ids {
                true => drop(with("direct").ok()),
                false => with("direct").says(125, &["NET_ADMIN", "--publish-mode proxy"]),
            }
            with("proxy").ok();
        }
    });
}

#[test]
fn a_port_in_use_is_somebodys() {
    with_busybox(|context| {
        let refused = |port: u16, by: &[&str]| {
            let taken = context.line(&format!("run --rm -p {port}:80 busybox true"));
            taken.says(125, &[&[&port.to_string(), "already in use"], by].concat());
        };
        // This process, which only root and its own user may look into.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = format!("process {} (`", std::process::id());
        let is_root = context.identity().ids.is_none();
        refused(
            port,
            &[if is_root {
                &own
            } else {
                "a process of user `root`"
            }],
        );
        // A container of the same store, and one that publishes another port of the same number.
        context
            .line("run -d --name one -p 127.0.0.1:0:80 busybox sleep 1000")
            .ok();
        let port = published(context, "one");
        refused(port, &["used by: container `one`"]);
        context
            .line(&format!(
                "run -d --name two -p 127.0.0.1:{port}:80/udp busybox sleep 1000"
            ))
            .ok();
        context.line("rm -f one two").ok();
    });
}

#[test]
fn pasta_leads_out_or_says_what_is_missing() {
    with_busybox(|context| {
        let run = |script: &str| {
            let mut run = context.line_command("run --rm --network pasta busybox sh -c");
            run.arg(script);
            context.finish(run)
        };
        if context.identity().ids.is_none() && rustix::process::geteuid().is_root() {
            run("true").says(125, &["for ordinary users", "--network bridge"]);
            return;
        }
        if !have("pasta") {
            run("true").says(125, &["not installed", "`passt`"]);
            return skip("`pasta` is not installed");
        }
        let is_open = context
            .program("sh")
            .args(["-c", "exec 3<>/dev/net/tun 2>/dev/null"])
            .status_in_time();
        if !is_open.unwrap().success() {
            run("true").says(125, &["/dev/net/tun", "chmod", "smidge network create"]);
            return skip("`/dev/net/tun` is root's alone");
        }
        // It is there before the program, which keeps its loopback device.
        let shown = run("ip route; cat /etc/resolv.conf; ip addr show lo").ok();
        for part in ["default via", "nameserver 169.254.1.1", "127.0.0.1/8"] {
            assert!(shown.contains(part), "{shown}");
        }
        start(context, "--name web --network pasta -p 0:80", TELLS);
        ask("127.0.0.1", published(context, "web"), "/cgi-bin/who");
        let children = || {
            let supervisor = context.line("inspect web --format {{.State.Pid}}").ok();
            let status = std::fs::read_to_string(format!("/proc/{supervisor}/status")).unwrap();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            let parent = parent.unwrap().trim().to_owned();
            let path = format!("/proc/{parent}/task/{parent}/children");
            (parent, std::fs::read_to_string(path).unwrap())
        };
        let (supervisor, all) = children();
        let pasta: Vec<&str> = all
            .split_whitespace()
            .filter(|pid| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                name.is_ok_and(|name| name.starts_with("pas"))
            })
            .collect();
        assert_eq!(pasta.len(), 1, "{all}");
        // A supervisor that is killed takes it along.
        let pid = rustix::process::Pid::from_raw(supervisor.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let exe = format!("/proc/{}/exe", pasta[0]);
        smidge_tests::until("its end", || !std::path::Path::new(&exe).exists());
        context.line("rm -f web").ok();
    });
}
