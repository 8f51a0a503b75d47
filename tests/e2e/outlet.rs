//! The way out of containers that ask for no network: there when their programs ask for a socket, and not
//! before.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::LazyLock;

use smidge_tests::{InTime as _, until};

use crate::context::{Context, have, skip};
use crate::fixture::{compiled, with_busybox};

const PROBE: &str = r#"#include <arpa/inet.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
static void *ask(void *unused) {
    struct ifreq r = {0};
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    strcpy(r.ifr_name, "eth0");
    return (void *)(long)(s >= 0 && ioctl(s, SIOCGIFADDR, &r) == 0);
}
int main(int argc, char **argv) {
    if (!strcmp(argv[1], "threads")) {
        pthread_t t[50];
        int seen = 0;
        for (int i = 0; i < 50; i++) pthread_create(&t[i], 0, ask, 0);
        for (int i = 0; i < 50; i++) { void *r; pthread_join(t[i], &r); seen += (long)r; }
        printf("%d\n", seen);
        return 0;
    }
    struct timeval patience = {20, 0};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    char text[8] = {0};
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    inet_pton(AF_INET, argv[2], &to.sin_addr);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sendto(s, "hi", 2, 0, (void *)&to, sizeof to);
    if (recv(s, text, 7, 0) < 0) return 1;
    puts(text);
    return 0;
}"#;

/// A program that asks for sockets in many ways.
fn probe() -> &'static Path {
    static PATH: LazyLock<std::path::PathBuf> =
        LazyLock::new(|| compiled("probe", PROBE, &["-static", "-pthread"]));
    &PATH
}

/// The machine's address for others.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent.
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().unwrap().ip())
}

/// Whether something leads out of this user's containers; said if not.
fn leads_out(context: &Context) -> bool {
    if is_root(context) {
        return match have("nft") || have("iptables") {
            true => true,
            false => skip_so("no packet filter"),
        };
    }
    let mut tun = context.program("sh");
    tun.args(["-c", "exec 3<>/dev/net/tun"]);
    if !have("pasta") {
        return skip_so("`pasta` is not installed");
    }
    match context.finish(tun).code() == 0 {
        true => true,
        false => skip_so("this user may not open `/dev/net/tun`"),
    }
}

fn skip_so(why: &str) -> bool {
    skip(why);
    false
}

fn is_root(context: &Context) -> bool {
    context.identity().ids.is_none() && rustix::process::geteuid().is_root()
}

/// Answers whoever connects, or sends a datagram, for the rest of the test's process.
fn serve(host: IpAddr) -> (u16, u16) {
    let tcp = TcpListener::bind((host, 0)).unwrap();
    let udp = UdpSocket::bind((host, 0)).unwrap();
    let ports = (
        tcp.local_addr().unwrap().port(),
        udp.local_addr().unwrap().port(),
    );
    std::thread::spawn(move || {
        for mut stream in smidge_tests::incoming(&tcp) {
            let _ = stream.read(&mut [0; 1000]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nout");
        }
    });
    std::thread::spawn(move || {
        let mut bytes = [0; 100];
        while let Ok((length, from)) = udp.recv_from(&mut bytes) {
            let _ = udp.send_to(&bytes[..length], from);
        }
    });
    ports
}

/// Names of the devices of a root's default network.
fn devices(context: &Context) -> Vec<String> {
    let id = context.line("network ls -q --no-trunc -f name=bridge").ok();
    let bridge = format!("smi-{}", &id[..11]);
    let members = std::fs::read_dir(format!("/sys/class/net/{bridge}/brif"));
    let members = members.into_iter().flatten();
    let names = members.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let itself = Path::new("/sys/class/net").join(&bridge).exists();
    names.chain(itself.then_some(bridge)).collect()
}

fn shown(context: &Context, name: &str, format: &str) -> String {
    context.smidge(["inspect", "-f", format, name]).ok()
}

const ADDRESS: &str = "{{.NetworkSettings.IPAddress}}";

#[test]
fn containers_get_out_without_being_told_to() {
    let Some(host) = own_address() else {
        return skip("this machine has no network");
    };
    let (tcp, udp) = serve(host);
    with_busybox(|context| {
        let asks = format!("run --rm busybox wget -qO- http://{host}:{tcp}/");
        if !leads_out(context) {
            // And it is a program that fails, not one that waits.
            assert_ne!(context.line(&asks).code(), 0);
            return;
        }
        assert_eq!(context.line(&asks).ok(), "out");
        let options = format!("-v {}:/probe", probe().display());
        let line = format!("run --rm {options} busybox /probe udp {host} {udp}");
        assert_eq!(context.line(&line).ok(), "hi");
        // Without a filter nobody tells when it is asked for: it is there from the start.
        for more in ["--security-opt seccomp=unconfined", "--privileged"] {
            let asks = asks.replace("--rm", &format!("--rm {more}"));
            assert_eq!(context.line(&asks).ok(), "out", "{more}");
        }
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
        let profile = context.write("profile.json", profile);
        let own = format!("--rm --security-opt seccomp={}", profile.display());
        assert_eq!(context.line(&asks.replace("--rm", &own)).ok(), "out");
        let none = asks.replace("--rm", "--rm --network none");
        assert_ne!(context.line(&none).code(), 0);
    });
}

#[test]
fn who_comes_in_first_finds_the_way_out() {
    let Some(host) = own_address() else {
        return skip("this machine has no network");
    };
    let (tcp, _) = serve(host);
    with_busybox(|context| {
        if !leads_out(context) {
            return;
        }
        let wget = format!("wget -qO- http://{host}:{tcp}/");
        context.line("run -d --name one busybox sleep 1000").ok();
        assert_eq!(context.line(&format!("exec one {wget}")).ok(), "out");
        context.line("run -d --name two busybox sleep 1000").ok();
        let joined = format!("run --rm --network container:two busybox {wget}");
        assert_eq!(context.line(&joined).ok(), "out");
        context.line("restart -t 0 two").ok();
        assert_eq!(context.line(&joined).ok(), "out");
    });
}

#[test]
fn roots_containers_have_a_cable_when_they_ask_and_not_before() {
    with_busybox(|context| {
        if !is_root(context) || !leads_out(context) {
            return;
        }
        context.line("run --rm busybox true").ok();
        context.line("run -d --name idle busybox sleep 1000").ok();
        assert_eq!(devices(context), [""; 0]);
        // The first look is one at what is there already.
        let seen = context.line("run --rm busybox ip -o addr show eth0").ok();
        assert!(seen.contains("eth0") && seen.contains(" inet "), "{seen}");
        until("the devices are there", || devices(context).len() == 1);
        let line = format!(
            "run --rm -v {}:/probe busybox /probe threads",
            probe().display()
        );
        assert_eq!(context.line(&line).ok(), "50");
        // Whoever asks for its address gets one that leads there.
        let address = shown(context, "idle", ADDRESS);
        let mut ping = std::process::Command::new("ping");
        ping.args(["-c", "1", "-W", "20", &address])
            .stdout(std::process::Stdio::null());
        assert!(
            !have("ping") || ping.status_in_time().unwrap().success(),
            "{address}"
        );
        until("the devices are there", || devices(context).len() == 2);
        let hosts = context.line("exec idle cat /etc/hosts").ok();
        let hostname = context.line("exec idle hostname").ok();
        let own: Vec<&str> = hosts.lines().filter(|l| l.ends_with(&hostname)).collect();
        assert_eq!(own, [format!("{address}\t{hostname}")]);
        // As its name says when it has none.
        context.line("stop -t 0 idle").ok();
        until("the devices are there", || devices(context).len() == 1);
        assert_eq!(shown(context, "idle", ADDRESS), "");
        context.line("start idle").ok();
        let hosts = context.line("cp idle:/etc/hosts -").ok();
        let near = format!("127.0.0.1\t{hostname}\n");
        assert!(
            hosts.contains(&near) && hosts.matches(&hostname).count() == 1,
            "{hosts}"
        );
        assert_eq!(devices(context).len(), 1);
    });
}

#[test]
fn what_kills_leave_of_a_way_out_is_nothing() {
    with_busybox(|context| {
        if !is_root(context) || !leads_out(context) {
            return;
        }
        for name in ["one", "two"] {
            let asks = "ip link > /dev/null; sleep 1000";
            let words = ["run", "-d", "--name", name, "busybox", "sh", "-c", asks];
            context.smidge(words).ok();
        }
        until("the devices are there", || devices(context).len() == 3);
        let pid = shown(context, "one", "{{.State.Pid}}");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let supervisor = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap();
        let kill = |pid: &str| {
            std::process::Command::new("kill")
                .args(["-9", pid])
                .status_in_time()
        };
        assert!(kill(supervisor).unwrap().success());
        until("the devices are there", || devices(context).len() == 2);
        context.line("rm -f one two").ok();
        until("the devices are there", || devices(context).len() == 1);
        context.line("network prune -f").ok();
        assert_eq!(devices(context), [""; 0]);
        assert!(!context.store().join("networks/bridge").exists());
    });
}

#[test]
fn the_default_network_is_one_to_leave_and_to_come_to() {
    with_busybox(|context| {
        if !is_root(context) || !leads_out(context) {
            return;
        }
        context.line("network create net").ok();
        context.line("run -d --name one busybox sleep 1000").ok();
        context.line("network connect net one").ok();
        let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        assert_eq!(shown(context, "one", networks).trim(), "bridge net");
        let links = || context.line("exec one ip -o link").ok();
        assert!(
            links().contains("eth0") && links().contains("eth1"),
            "{}",
            links()
        );
        context.line("network disconnect bridge one").ok();
        assert!(!links().contains("eth0"), "{}", links());
        context.line("network disconnect net one").ok();
        assert!(!links().contains("eth"), "{}", links());
        context.line("restart -t 0 one").ok();
        assert!(!links().contains("eth"), "{}", links());
        context.line("network connect bridge one").ok();
        assert!(links().contains("eth0"), "{}", links());
    });
}

#[test]
fn containers_that_can_have_no_way_out_do_without_and_say_so() {
    with_busybox(|context| {
        if !is_root(context) || !leads_out(context) {
            return;
        }
        // Something else has the bridge's name.
        let id = context.line("network ls -q --no-trunc -f name=bridge").ok();
        let device = format!("smi-{}", &id[..11]);
        let ip = |words: &str| {
            let mut ip = std::process::Command::new("ip");
            ip.args(["link"]).args(words.split_whitespace());
            assert!(ip.status_in_time().unwrap().success(), "{words}");
        };
        ip(&format!("add {device} type veth"));
        for more in ["", "-p 127.0.0.1::80", "--security-opt seccomp=unconfined"] {
            context.line(&format!("run --rm {more} busybox true")).ok();
            let asks = "wget -qO- http://198.51.100.1/";
            let ran = context.line(&format!("run --name one {more} busybox {asks}"));
            assert_eq!(ran.code(), 1, "{}", ran.stderr());
            let why = shown(context, "one", "{{.NetworkSettings.NoWayOut}}");
            assert!(why.contains("cable"), "{why}");
            context.line("rm one").ok();
        }
        ip(&format!("del {device}"));
    });
}
