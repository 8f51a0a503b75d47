//! Networks: what comes at once, what is refused, and what goes wrong.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use smidge_tests::{InTime as _, until};

use crate::context::{Context, SELF, have, skip};
use crate::fixture::{compiled, load_busybox, with_busybox};

fn shown(context: &Context, name: &str, format: &str) -> String {
    context.smidge(["inspect", "-f", format, name]).ok()
}

#[test]
fn what_changes_a_container_at_once_is_all_kept() {
    with_busybox(|context| {
        context.line("create --name box busybox true").ok();
        let id = shown(context, "box", "{{.Id}}");
        let networks: Vec<String> = (0..6).map(|at| format!("n{at}")).collect();
        for name in &networks {
            context.line(&format!("network create {name}")).ok();
        }
        for round in 0..4 {
            let mut lines: Vec<String> = networks
                .iter()
                .map(|name| format!("network connect {name} {id}"))
                .collect();
            lines.push(format!("update --restart on-failure:{} {id}", round + 1));
            lines.push(format!("update --cpu-shares {} {id}", round + 100));
            lines.push(format!("rename {id} box{round}"));
            let all = lines
                .iter()
                .map(|line| context.spawn(context.line_command(line)));
            let all: Vec<_> = all.collect();
            for one in all {
                let ended = one.output_in_time().unwrap();
                let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert!(ended.status.success(), "{said}");
            }
            let all = shown(context, &id, "{{json .NetworkSettings.Networks}}");
            for name in &networks {
                assert!(all.contains(&format!("\"{name}\":")), "{name}: {all}");
            }
            let format = "{{.HostConfig.RestartPolicy.MaximumRetryCount}} \
                {{.HostConfig.CpuShares}} {{.Name}}";
            let expected = format!("{} {} /box{round}", round + 1, round + 100);
            assert_eq!(shown(context, &id, format), expected);
            for name in &networks {
                context
                    .line(&format!("network disconnect {name} {id}"))
                    .ok();
            }
        }
    });
}

#[test]
fn a_container_that_is_being_started_is_put_on_a_network_once_it_runs() {
    with_busybox(|context| {
        context.line("network create one").ok();
        context.line("network create two").ok();
        context
            .line("create --name box --network one busybox sleep 1000")
            .ok();
        for _ in 0..4 {
            let lines = ["start box", "network connect two box", "start box"];
            let all = lines.map(|line| context.spawn(context.line_command(line)));
            for one in all {
                let ended = one.output_in_time().unwrap();
                let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert!(ended.status.success(), "{said}");
            }
            // The two in front, and that of the machine itself.
            let devices = context.line("exec box ls /sys/class/net").ok();
            assert_eq!(devices.split_whitespace().count(), 3, "{devices}");
            context.line("stop -t 0 box").ok();
            context.line("network disconnect two box").ok();
        }
        context.line("rm box").ok();
    });
}

#[test]
fn networks_that_cannot_be_removed_keep_no_others() {
    if !have("unshare") {
        return;
    }
    with_busybox(|context| {
        for name in ["a", "b", "c", "d"] {
            context.line(&format!("network create {name}")).ok();
        }
        // Neither what is mounted nor what cannot be read can be removed.
        let mut prune = match is_root(context) {
            true => {
                let script = "for n in b c; do mount --bind store/networks/$n store/networks/$n; done; \
                    exec \"$0\" network prune -f";
                let mut unshare = context.program("unshare");
                unshare.args(["--mount", "sh", "-c", script]);
                unshare.arg(crate::context::smidge_binary());
                unshare
            }
            false => {
                let script = "chmod 0 store/networks/[bc]/leases; \"$0\" network prune -f; code=$?; \
                    chmod 755 store/networks/[bc]/leases; exit $code";
                let mut shell = context.program("sh");
                shell
                    .args(["-c", script])
                    .arg(crate::context::smidge_binary());
                shell
            }
        };
        prune.env("TERM", "dumb");
        let pruned = context.finish(prune);
        pruned.says(1, &["networks/b", "networks/c"]);
        assert_eq!(pruned.stdout(), "Deleted Networks:\na\nd");
        assert_eq!(
            context
                .line("network ls -q -f type=custom")
                .ok()
                .lines()
                .count(),
            2
        );
        assert_eq!(
            context.line("network prune -f").ok(),
            "Deleted Networks:\nb\nc"
        );
    });
}

fn is_root(context: &Context) -> bool {
    context.identity().ids.is_none() && rustix::process::geteuid().is_root()
}

#[test]
fn addresses_are_asked_for_where_they_are_settled() {
    with_busybox(|context| {
        context.line("network create loose").ok();
        context
            .line("network create --subnet 10.83.0.0/24 --ipv6 half")
            .ok();
        let wanted = "user specified IP address is supported only when connecting to networks with user configured subnets";
        context
            .line("run --rm --network loose --ip 172.30.0.9 busybox true")
            .says(125, &[wanted, "--subnet 10.1.0.0/16"]);
        context
            .line("run --rm --network half --ip6 fd00::9 busybox true")
            .says(125, &[wanted, "--ipv6 --subnet fd01::/64"]);
        context
            .line("run --rm --network bridge --ip 172.17.0.9 busybox true")
            .says(
                125,
                &["user specified IP address is supported on user defined networks only"],
            );
        context.line("create --name box busybox true").ok();
        context
            .line("network connect --ip 172.30.0.9 loose box")
            .says(1, &[wanted]);
        let line = "run --rm --network half --ip 10.83.0.9 busybox ip -4 -o addr show eth0";
        assert!(context.line(line).ok().contains("10.83.0.9/24"));
    });
}

#[test]
fn addresses_of_ipv6_are_the_ones_that_were_asked_for() {
    with_busybox(|context| {
        context
            .line("network create --ipv6 --subnet fd71::/64 net")
            .ok();
        let run = "run -d --name box --network net --ip6 fd71::55 busybox sleep 1000";
        context.line(run).ok();
        let format = "{{.NetworkSettings.Networks.net.GlobalIPv6Address}} \
            {{.NetworkSettings.Networks.net.IPAMConfig.IPv6Address}}";
        assert_eq!(shown(context, "box", format), "fd71::55 fd71::55");
        let device = context.line("exec box ip -6 -o addr show eth0").ok();
        assert!(device.contains("fd71::55/64"), "{device}");
        context
            .line("run --rm --network net --ip6 fd72::1 busybox true")
            .says(
                125,
                &["no configured subnet or ip-range contain the IP address fd72::1"],
            );
        context
            .line("run --rm --network net --ip6 fd71::55 busybox true")
            .says(125, &["Address already in use", "box"]);
    });
}

/// Says `192.0.2.7`, whatever it is asked: once in datagrams, four hundred times by connections.
const ANSWERS: &str = r#"#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>
static unsigned char m[8192];
static int answered(int n, int times) {
    int end = 12;
    while (end < n && m[end]) end += m[end] + 1;
    if ((end += 5) > n) return 0;
    memcpy(m + 2, "\x80\x80\0\1\0\0\0\0\0\0", 10);
    m[6] = times >> 8, m[7] = times;
    for (; times--; end += 16) memcpy(m + end, "\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\7", 16);
    return end;
}
int main(void) {
    int kind = fork() ? SOCK_DGRAM : SOCK_STREAM, s = socket(AF_INET, kind, 0), c, n;
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(53)}, peer;
    if (bind(s, (void *)&own, sizeof own)) return 1;
    if (kind == SOCK_STREAM) listen(s, 9);
    for (socklen_t l;;)
        if (kind == SOCK_DGRAM) {
            l = sizeof peer;
            n = answered(recvfrom(s, m, 400, 0, (void *)&peer, &l), 1);
            sendto(s, m, n, 0, (void *)&peer, l);
        } else if ((c = accept(s, 0, 0)) >= 0) {
            unsigned char length[2];
            if (recv(c, length, 2, MSG_WAITALL) == 2 && !length[0] && recv(c, m, length[1], MSG_WAITALL) == length[1]) {
                n = answered(length[1], 400);
                length[0] = n >> 8, length[1] = n;
                write(c, length, 2);
                write(c, m, n);
            }
            close(c);
        }
}"#;
static SERVER: LazyLock<PathBuf> = LazyLock::new(|| compiled("server", ANSWERS, &["-static"]));

#[test]
fn servers_that_were_asked_for_answer_behind_the_networks_own() {
    with_busybox(|context| {
        context.line("network create net").ok();
        // A server of names beside it, which knows what nobody else does.
        context.copy(&SERVER, "server");
        context.line("build -q -t server ./server").ok();
        context
            .line("run -d --name names --network net server")
            .ok();
        let ip = shown(
            context,
            "names",
            "{{.NetworkSettings.Networks.net.IPAddress}}",
        );
        let run = format!(
            "run -d --name box --network net --dns {ip} --dns-search lan --dns-option timeout:2 busybox sleep 1000"
        );
        context.line(&run).ok();
        let told = context.line("exec box cat /etc/resolv.conf").ok();
        assert_eq!(
            told,
            "nameserver 127.0.0.11\nsearch lan\noptions timeout:2 ndots:0"
        );
        let format = "{{.HostConfig.Dns}} {{.HostConfig.DnsSearch}} {{.HostConfig.DnsOptions}}";
        assert_eq!(
            shown(context, "box", format),
            format!("[{ip}] [lan] [timeout:2]")
        );
        let found = |name: &str| {
            let line = format!("exec box nslookup -type=a {name}. 127.0.0.11");
            context.line(&line).stdout()
        };
        until("the server of names", || {
            found("only.example").contains("192.0.2.7")
        });
        assert!(found("names").contains(&ip));
        if rustix::process::geteuid().is_root() {
            let pid = shown(context, "box", "{{.State.Pid}}");
            let own: Ipv4Addr = ip.parse().unwrap();
            let known = said_to_connections(&pid, "names");
            assert!(
                known.iter().all(|said| said.ends_with(&own.octets())),
                "{known:?}"
            );
            // What does not fit into a datagram comes by a connection, all of it.
            let handed_on = said_to_connections(&pid, "only");
            for said in handed_on {
                assert_eq!(said.len(), 12 + 10 + 400 * 16, "{said:?}");
                assert!(said.ends_with(&[192, 0, 2, 7]), "{said:?}");
            }
        }
    });
}

/// What a container's name server says to two questions by one connection, beside one that says nothing.
fn said_to_connections(pid: &str, name: &'static str) -> [Vec<u8>; 2] {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let inside = std::thread::spawn(move || {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), network).unwrap();
        let silent = TcpStream::connect(("127.0.0.11", 53)).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.11", 53)).unwrap();
        let length = u8::try_from(name.len()).unwrap();
        let question = [
            b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0",
            &[length][..],
            name.as_bytes(),
            b"\0\0\x01\0\x01",
        ];
        let question = question.concat();
        let size = u16::try_from(question.len()).unwrap().to_be_bytes();
        // In pieces, as it may come, and the next one before the first is answered.
        let again = [&size[..], &question].concat();
        for piece in [
            &size[..1],
            &size[1..],
            &question[..9],
            &question[9..],
            &again,
        ] {
            stream.write_all(piece).unwrap();
        }
        let said = [(); 2].map(|()| {
            let mut size = [0; 2];
            stream.read_exact(&mut size).unwrap();
            let mut said = vec![0; usize::from(u16::from_be_bytes(size))];
            stream.read_exact(&mut said).unwrap();
            assert_eq!(said[..2], question[..2]);
            said
        });
        drop(silent);
        said
    });
    inside.join().unwrap()
}

#[test]
fn a_bridge_that_was_not_finished_is_finished() {
    if !rustix::process::geteuid().is_root() || !have("ip") {
        return skip("only root's bridges stay");
    }
    let context = Context::new();
    load_busybox(&context);
    let create = "network create --subnet 10.73.0.0/24 -o com.docker.network.bridge.name=smtest1 n";
    context.line(create).ok();
    // As whoever is killed on the way leaves it.
    for change in ["link set smtest1 down", "addr flush dev smtest1"] {
        let mut ip = context.program("ip");
        ip.args(change.split(' '));
        context.finish(ip).ok();
    }
    context
        .line("run --rm --network n busybox ping -c 1 -W 30 10.73.0.1")
        .ok();
    context.line("network rm n").ok();
}

/// What keeps a program from being started is told, not that its network has gone with it.
#[test]
fn a_network_hides_no_fault_of_the_program() {
    with_busybox(|context| {
        context.line("network create net").ok();
        for _ in 0..5 {
            context
                .line("run --rm --network net busybox nowhere")
                .says(127, &["`nowhere`"]);
        }
    });
}

#[test]
fn ordinary_users_have_the_bridge_too() {
    with_busybox(|context| {
        for name in ["one", "two"] {
            let run = format!("run -d --name {name} --network bridge busybox sleep 1000");
            context.line(&run).ok();
        }
        let ip = shown(context, "two", "{{.NetworkSettings.IPAddress}}");
        assert_ne!(ip, "");
        context.line(&format!("exec one ping -c 1 -W 30 {ip}")).ok();
        // As in Docker, it knows no names.
        assert_ne!(context.line("exec one ping -c 1 -W 1 two").code(), 0);
        assert_eq!(
            shown(context, "one", "{{.HostConfig.NetworkMode}}"),
            "bridge"
        );
    });
}

#[test]
fn a_bridge_has_one_network() {
    with_busybox(|context| {
        let line = "network create -o com.docker.network.bridge.name=smtest0";
        context.line(&format!("{line} one")).ok();
        let again = context.line(&format!("{line} two"));
        again.says(1, &["networks have conflicting bridge names", "smtest0"]);
        if !is_root(context) {
            return;
        }
        // Of another store.
        let other = Context::of(SELF);
        let again = other.line(&format!("{line} two"));
        again.says(1, &["there is a device `smtest0` already"]);
    });
}

#[test]
fn networks_of_different_stores_never_share_a_range() {
    if !rustix::process::geteuid().is_root() {
        return skip("an ordinary user's bridges are apart");
    }
    let contexts: Vec<Context> = (0..4).map(|_| Context::new()).collect();
    let creates: Vec<_> = contexts
        .iter()
        .map(|context| context.spawn(context.line_command("network create n")))
        .collect();
    for create in creates {
        assert!(create.output_in_time().unwrap().status.success());
    }
    let format = "{{(index .IPAM.Config 0).Subnet}}";
    let mut ranges: Vec<String> = contexts
        .iter()
        .map(|context| {
            context
                .smidge(["network", "inspect", "-f", format, "n"])
                .ok()
        })
        .collect();
    ranges.sort();
    ranges.dedup();
    assert_eq!(ranges.len(), contexts.len(), "{ranges:?}");
    for context in &contexts {
        context.line("network rm n").ok();
    }
}

#[test]
fn a_store_that_is_made_anew_has_a_bridge_of_its_own() {
    if !rustix::process::geteuid().is_root() || !have("ip") {
        return skip("only root's bridges stay");
    }
    let context = Context::new();
    let started = |name: &str| {
        load_busybox(&context);
        let run = format!("run -d --name {name} --network bridge busybox sleep 1000");
        let ran = context.line(&run);
        ran.code() == 0
    };
    if !started("first") {
        return skip("no bridges can be made here");
    }
    let gateway = || shown(&context, "bridge", "{{(index .IPAM.Config 0).Gateway}}");
    let old = gateway();
    context.line("rm -f first").ok();
    std::fs::remove_dir_all(context.store()).unwrap();
    assert!(started("second"));
    let bridge = context.line("network ls -q --no-trunc -f name=bridge").ok();
    let device = format!("smi-{}", &bridge[..11]);
    let mut ip = context.program("ip");
    ip.args(["-4", "-o", "addr", "show", "dev", &device]);
    let addresses = context.finish(ip).ok();
    assert_eq!(addresses.lines().count(), 1, "{old}: {addresses}");
    assert!(
        addresses.contains(&format!("{}/", gateway())),
        "{addresses}"
    );
    let ping = format!("exec second ping -c 1 -W 30 {}", gateway());
    context.line(&ping).ok();
    context.line("rm -f second").ok();
}

#[test]
fn a_container_that_is_thrown_away_keeps_no_address() {
    with_busybox(|context| {
        for name in ["first", "later"] {
            context.line(&format!("network create {name}")).ok();
        }
        context
            .line("run -d --rm --name box --network first busybox sleep 1000")
            .ok();
        context.line("network connect later box").ok();
        let leases = |name: &str| {
            let path = context.store().join("networks").join(name).join("leases");
            std::fs::read_dir(path).unwrap().count()
        };
        assert_eq!((leases("first"), leases("later")), (1, 1));
        context.line("stop -t 0 box").ok();
        until("its end", || context.line("inspect box").code() != 0);
        assert_eq!((leases("first"), leases("later")), (0, 0));
    });
}

#[test]
fn what_a_network_has_is_told_alike_everywhere() {
    with_busybox(|context| {
        context.line("network create --ipv6 six").ok();
        context.line("network create four").ok();
        let listed = context
            .smidge(["network", "ls", "--format", "{{.Name}} {{.IPv4}} {{.IPv6}}"])
            .ok();
        let expected =
            "bridge true false\nfour true false\nhost false false\nnone false false\nsix true true";
        assert_eq!(listed, expected);
        for line in expected.lines() {
            let name = line.split(' ').next().unwrap();
            let format = "{{.Name}} {{.EnableIPv4}} {{.EnableIPv6}}";
            assert_eq!(shown(context, name, format), line);
        }
    });
}
