//! Root's networks and what is beyond the machine: what leads out of them, and who comes in from there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use smidge_tests::{InTime as _, until};

use crate::context::{Context, Ran, have, skip, smidge_binary};
use crate::fixture::load_busybox;

/// Where the neighbour finds the container's page, and where it must not.
const PUBLISHED: [&str; 2] = ["198.51.100.1:8080", "[2001:db8::1]:8080"];
const HIDDEN: [&str; 5] = [
    "10.66.0.9:80",
    "10.66.0.9:82",
    "[fd66::9]:80",
    "[fd66::9]:82",
    "127.0.0.1:8081",
];

/// How many have been made: tests run side by side.
static MACHINES: AtomicU32 = AtomicU32::new(0);

/// A network namespace in place of a machine, with the one behind it, which knows no way to containers.
struct Machine(String);

impl Machine {
    /// `None` where namespaces cannot be made.
    fn new() -> Option<Self> {
        let name = format!(
            "smt{}-{}",
            std::process::id(),
            MACHINES.fetch_add(1, Ordering::Relaxed)
        );
        let script = "ip netns add NAME && ip netns add NAMEx && ip -n NAME link set lo up && ip -n NAMEx link set lo up \
            && ip -n NAME link add up0 type veth peer name up0 netns NAMEx \
            && ip -n NAME addr add 198.51.100.1/24 dev up0 && ip -n NAMEx addr add 198.51.100.2/24 dev up0 \
            && ip -n NAME link set up0 up && ip -n NAMEx link set up0 up \
            && ip netns exec NAME sysctl -qw net.ipv4.ip_forward=0";
        let machine = Self(name);
        let made = machine.shell(script);
        made.then_some(machine)
    }

    fn shell(&self, script: &str) -> bool {
        let script = script.replace("NAME", &self.0);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script])
            .status_in_time()
            .unwrap()
            .success()
    }

    /// `smidge` with the words of a line, on this machine.
    fn line(&self, context: &Context, line: &str) -> Ran {
        context.finish(self.command(context, line))
    }

    /// The same, not yet started.
    fn command(&self, context: &Context, line: &str) -> Command {
        let mut command = context.program("ip");
        command
            .args(["netns", "exec", &self.0])
            .arg(smidge_binary());
        command.args(line.split_whitespace());
        command
    }

    /// What `body` comes to in the network of the one behind this machine.
    fn behind<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/run/netns/{}x", self.0)).unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(network.as_fd(), kind).unwrap();
                body()
            });
            there.join().unwrap()
        })
    }

    /// Whether the one behind this machine gets a page from an address, at once or for as long as something is lost
    /// on the way.
    fn shows(&self, address: &str) -> bool {
        let address: SocketAddr = address.parse().unwrap();
        self.behind(|| {
            let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1))
            else {
                return false;
            };
            stream
                .set_read_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            let mut said = String::new();
            let asked = stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n");
            asked.is_ok() && stream.read_to_string(&mut said).is_ok() && said.contains("fine")
        })
    }

    /// Starts a container whose page is published to everybody at one port, to this machine at another, and to nobody at
    /// a third. The neighbour knows the way to it.
    fn publishes(&self, context: &Context) {
        assert!(self.shell(
        "ip -n NAME addr add 2001:db8::1/64 dev up0 nodad && ip -n NAMEx addr add 2001:db8::2/64 dev up0 nodad \
         && ip -n NAMEx route add 10.66.0.0/24 via 198.51.100.1 && ip -n NAMEx route add fd66::/64 via 2001:db8::1 \
         && ip -n NAMEx addr del 127.0.0.1/8 dev lo && ip -n NAMEx route add 127.0.0.0/8 via 198.51.100.1 \
         && ip netns exec NAME sysctl -qw net.ipv4.conf.up0.route_localnet=1 \
         && ip netns exec NAMEx sysctl -qw net.ipv4.conf.up0.route_localnet=1"
    ));
        let create = "network create --subnet 10.66.0.0/24 --ipv6 --subnet fd66::/64 net";
        self.line(context, create).ok();
        let run = "run -d --network net --ip 10.66.0.9 --ip6 fd66::9 -p 8080:80 -p 127.0.0.1:8081:81 --name web busybox sh -c";
        let script = "mkdir /www; echo fine > /www/index.html; httpd -p 81 -h /www; httpd -p 82 -h /www; \
        exec httpd -f -p 80 -h /www";
        let mut web = self.command(context, run);
        web.arg(script);
        context.finish(web).ok();
    }

    /// Whether a container on a network reaches the machine behind this one: at the first try, with more than the
    /// way there takes in one packet.
    fn leads_out(&self, context: &Context, network: &str) -> bool {
        let ping = "ping -c 1 -W 30 -s 2000 198.51.100.2";
        let line = format!("run --rm --network {network} busybox {ping}");
        self.line(context, &line).code() == 0
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.shell("ip netns del NAME; ip netns del NAMEx");
    }
}

/// What stays on the machine is handed over in larger pieces than usual; what leaves it is not, since its card takes
/// 64 KiB to cut up. Where somebody wants packets of a certain size, all is as usual.
#[test]
fn no_more_leaves_at_once_than_a_card_takes() {
    if !rustix::process::geteuid().is_root() || !have("ip") {
        return skip("only root's networks have cables of this kind");
    }
    let Some(machine) = Machine::new() else {
        return skip("no network namespaces can be made here");
    };
    let context = Context::new();
    load_busybox(&context);
    let line = |line: &str| machine.line(&context, line).ok();
    line("network create --opt com.docker.network.driver.mtu=1400 plain");
    for (network, pieces) in [
        ("bridge", "gso_max_segs 44 "),
        ("plain", "gso_max_segs 65535 "),
    ] {
        line(&format!(
            "run -d --name {network} --network {network} busybox sleep 1000"
        ));
        line(&format!("exec {network} ip addr"));
        let pid = line(&format!("inspect --format {{{{.State.Pid}}}} {network}"));
        let mut look = Command::new("nsenter");
        look.args(["-n", "-t", pid.trim(), "ip", "-d", "link", "show", "eth0"]);
        let shown = look.output_in_time().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.contains(pieces), "{network}: {shown}");
    }
    line("rm -f bridge plain");
}

#[test]
fn roots_networks_lead_out_under_the_machines_address() {
    if !rustix::process::geteuid().is_root() || !have("ip") {
        return skip("only root's networks lead out");
    }
    let Some(machine) = Machine::new() else {
        return skip("no network namespaces can be made here");
    };
    let context = Context::new();
    load_busybox(&context);
    for line in ["network create open", "network create --internal shut"] {
        machine.line(&context, line).ok();
    }
    assert!(machine.leads_out(&context, "open"));
    assert!(machine.leads_out(&context, "bridge"));
    assert!(!machine.leads_out(&context, "shut"));
    assert!(!machine.leads_out(&context, "none"));
    // The machine itself can be named.
    let line = "run --rm --network open --add-host host:host-gateway busybox ping -c 1 -W 30 host";
    machine.line(&context, line).ok();
    let devices = || machine.shell("ip -n NAME link | grep -q smi-");
    assert!(devices());
    // Somebody else's firewall lets nothing pass that it does not know, as Docker's does.
    if have("iptables") {
        assert!(machine.shell("ip netns exec NAME iptables -P FORWARD DROP"));
        assert!(machine.leads_out(&context, "open"));
        assert!(machine.shell("ip netns exec NAME iptables -N DOCKER-USER"));
        assert!(machine.shell("ip netns exec NAME iptables -A DOCKER-USER -j RETURN"));
        assert!(machine.shell("ip netns exec NAME iptables -I FORWARD -j DOCKER-USER"));
        assert!(machine.leads_out(&context, "open"));
    }
    // Rules that somebody has thrown away are made again.
    if have("nft") {
        assert!(machine.shell("ip netns exec NAME nft flush ruleset"));
        assert!(machine.leads_out(&context, "open"));
    }
    // What the next command finds of a machine that was started anew.
    assert!(machine.shell(
        "for d in $(ip -n NAME -o link | grep -o 'smi-[0-9a-f]*' | sort -u); do ip -n NAME link del $d; done"
    ));
    assert!(machine.leads_out(&context, "open"));
    machine.line(&context, "network prune -f").ok();
    assert!(!devices());
    assert!(!machine.shell("ip netns exec NAME nft list tables | grep -q smidge-smi"));
}

#[test]
fn neighbours_of_the_machine_come_to_published_ports_only() {
    if !rustix::process::geteuid().is_root() || !have("ip") || !have("nft") {
        return skip("only root's networks have neighbours");
    }
    let Some(machine) = Machine::new() else {
        return skip("no network namespaces can be made here");
    };
    let context = Context::new();
    load_busybox(&context);
    machine.publishes(&context);
    let shell = |script: &str| assert!(machine.shell(script), "{script}");
    until("the kernel's way to the program", || {
        machine.shell("ip netns exec NAME nft list tables | grep -q smidge-ports-")
    });
    let check = |when: &str| {
        for address in PUBLISHED {
            until(&format!("{when}: {address}"), || machine.shows(address));
        }
        for address in HIDDEN {
            assert!(!machine.shows(address), "{when}: {address}");
        }
    };
    check("at first");
    if have("iptables") {
        // What lets through what others drop opens no door, either.
        shell(
            "for p in iptables ip6tables; do ip netns exec NAME $p -P FORWARD DROP || exit; done",
        );
        machine
            .line(&context, "run --rm --network net busybox true")
            .ok();
        check("where others drop what they do not know");
    }
    // Rules of an older smidge's are made anew.
    shell(
        "for t in $(ip netns exec NAME nft list tables | grep -o smidge-smi-.*); do \
         ip netns exec NAME nft delete chain inet $t prerouting; done",
    );
    machine
        .line(&context, "run --rm --network net busybox true")
        .ok();
    check("after an older smidge");
    // It is the rules that hold them back.
    shell(
        "for t in $(ip netns exec NAME nft list tables | grep -o smidge-smi-.*); do \
         ip netns exec NAME nft delete table inet $t; done",
    );
    if have("iptables") {
        shell(
            "for p in iptables ip6tables; do ip netns exec NAME $p -P FORWARD ACCEPT || exit; done",
        );
    }
    for address in HIDDEN {
        until(&format!("without rules: {address}"), || {
            machine.shows(address)
        });
    }
    machine.line(&context, "rm -f web").ok();
    machine.line(&context, "network rm net").ok();
}
