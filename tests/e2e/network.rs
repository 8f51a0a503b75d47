//! Networks with names: who reaches whom, by which name and address, and what `kill -9` leaves.

use smidge_tests::{InTime as _, until};

use crate::context::{Context, have, skip};
use crate::fixture::with_busybox;

/// A container that does nothing, with these options.
fn idle(context: &Context, options: &str) {
    let line = format!("run -d {options} busybox sleep 1000");
    context.line(&line).ok();
}

fn shown(context: &Context, name: &str, format: &str) -> String {
    context.smidge(["inspect", "-f", format, name]).ok()
}

/// A container's address on a network.
fn address(context: &Context, name: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    shown(context, name, &format)
}

/// Whether one container reaches what another is called by, however busy the machine is.
fn reaches(context: &Context, from: &str, to: &str) -> bool {
    hears(context, from, to, 30)
}

/// Whether it hears from it soon: to be asked again, or where nothing is to be heard.
fn reaches_at_once(context: &Context, from: &str, to: &str) -> bool {
    hears(context, from, to, 1)
}

fn hears(context: &Context, from: &str, to: &str, seconds: u32) -> bool {
    let ran = context.line(&format!("exec {from} ping -c 1 -W {seconds} {to}"));
    ran.code() == 0
}

/// Whether one container knows a name.
fn knows(context: &Context, from: &str, name: &str) -> bool {
    let ran = context.line(&format!("exec {from} nslookup -type=a {name}. 127.0.0.11"));
    ran.code() == 0
}

#[test]
fn networks_are_made_listed_and_removed() {
    with_busybox(|context| {
        let create = "network create --subnet 10.66.0.0/16 --ip-range 10.66.5.0/24 --gateway 10.66.0.254 \
            --aux-address router=10.66.5.1 --label tier=back -o com.docker.network.driver.mtu=1400 --attachable back";
        let id = context.line(create).ok();
        assert!(
            id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
            "{id}"
        );
        let listed = context.line("network ls").ok();
        let lines: Vec<Vec<&str>> = listed
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]);
        assert_eq!(lines[1], [&id[..12], "back", "bridge", "local"]);
        let names = context.line("network ls --format {{.Name}}").ok();
        assert_eq!(names, "back\nbridge\nhost\nnone");
        for (filter, expected) in [
            ("label=tier=back", "back"),
            ("type=custom", "back"),
            ("driver=null", "none"),
            ("name=ack", "back"),
            ("dangling=true", "back"),
            ("label=tier=front", ""),
        ] {
            let line = format!("network ls --format {{{{.Name}}}} -f {filter}");
            assert_eq!(context.line(&line).ok(), expected, "{filter}");
        }
        assert_eq!(
            context.line("network ls -q --no-trunc -f name=back").ok(),
            id
        );
        let format = "{{.Name}} {{.Driver}} {{.Attachable}} {{json .IPAM.Config}} {{json .Labels}} {{json .Options}}";
        let expected = "back bridge true [{\"AuxiliaryAddresses\":{\"router\":\"10.66.5.1\"},\
            \"Gateway\":\"10.66.0.254\",\"IPRange\":\"10.66.5.0/24\",\"Subnet\":\"10.66.0.0/16\"}] \
            {\"tier\":\"back\"} {\"com.docker.network.driver.mtu\":\"1400\"}";
        let told = context
            .smidge(["network", "inspect", "-f", format, &id[..5]])
            .ok();
        let sorted = |text: &str| {
            let mut bytes: Vec<u8> = text.bytes().collect();
            bytes.sort_unstable();
            bytes
        };
        assert_eq!(sorted(&told), sorted(expected), "{told}");
        assert_eq!(shown(context, "back", "{{.Scope}}"), "local");
        assert_eq!(context.line("network rm back").ok(), "back");
        context
            .line("network rm back")
            .says(1, &["network back not found"]);
        context.line("network rm -f back").ok();
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    with_busybox(|context| {
        context
            .line("network create --subnet 10.67.0.0/16 back")
            .ok();
        for (line, said) in [
            (
                "network create back",
                "network with name back already exists",
            ),
            ("network create bridge", "predefined bridge network"),
            (
                "network create -d overlay a",
                "there is no network driver `overlay`",
            ),
            (
                "network create --subnet 10.67.1.0/24 a",
                "Pool overlaps with other one",
            ),
            (
                "network create --subnet 10.68.0.1/16 a",
                "last bits are not zero",
            ),
            (
                "network create --gateway 10.68.0.1 a",
                "no matching subnet for gateway",
            ),
            (
                "network create --ipam-driver dhcp a",
                "`--ipam-driver` cannot be met",
            ),
            ("network create -o a=b a", "no such option"),
            (
                "network rm bridge",
                "pre-defined network and cannot be removed",
            ),
            ("network inspect none1", "network none1 not found"),
            ("network connect back nobody", "No such container"),
        ] {
            context.line(line).says(1, &[said]);
        }
    });
}

#[test]
fn containers_get_what_a_network_has() {
    with_busybox(|context| {
        context
            .line("network create --subnet 10.74.0.0/16 back")
            .ok();
        for (options, said) in [
            ("--network nowhere", "network nowhere not found"),
            ("--network back --network back", "specified multiple times"),
            ("--network back --network host", "cannot attach both"),
            (
                "--network host --ip 10.74.0.9",
                "user specified IP address is supported on user defined networks only",
            ),
            (
                "--network-alias a",
                "network-scoped alias is supported only for containers in user defined networks",
            ),
            (
                "--network name=back,ip=10.74.0.9 --ip 10.74.0.8",
                "cannot specify both",
            ),
            (
                "--network back --ip 10.99.0.9",
                "contain the IP address 10.99.0.9",
            ),
            (
                "--network back --ip 10.74.0.1",
                "contain the IP address 10.74.0.1",
            ),
        ] {
            let line = format!("run --rm {options} busybox true");
            context.line(&line).says(125, &[said]);
        }
    });
}

#[test]
fn a_network_stays_while_containers_are_on_it() {
    with_busybox(|context| {
        context
            .line("network create --subnet 10.75.0.0/16 back")
            .ok();
        idle(context, "--name holder --network back --ip 10.75.0.9");
        let second = context.line("run --rm --network back --ip 10.75.0.9 busybox true");
        second.says(125, &["Address already in use", "container `holder`"]);
        let used = context.line("network rm back");
        used.says(1, &["network back has active endpoints (name:\"holder\""]);
        context
            .line("network connect back holder")
            .says(1, &["already exists in network back"]);
        context
            .line("network connect host holder")
            .says(1, &["host network"]);
        context
            .line("network disconnect bridge holder")
            .says(1, &["is not connected to network"]);
        assert_eq!(context.line("network prune -f").ok(), "");
        context.line("rm -f holder").ok();
        assert_eq!(
            context.line("network prune -f").ok(),
            "Deleted Networks:\nback"
        );
    });
}

#[test]
fn neighbours_reach_each_other_by_name_and_others_do_not() {
    with_busybox(|context| {
        context.line("network create one").ok();
        context.line("network create two").ok();
        idle(
            context,
            "--name first --network one --network-alias db --network-alias store",
        );
        idle(context, "--name second --network one");
        idle(context, "--name other --network two");
        let id = shown(context, "first", "{{.Id}}");
        for name in ["first", "db", "store", &id[..12]] {
            assert!(reaches(context, "second", name), "{name}");
            assert!(!knows(context, "other", name), "{name}");
        }
        let ip = address(context, "first", "one");
        assert!(reaches(context, "second", &ip));
        assert!(!reaches_at_once(context, "other", &ip), "{ip}");
        let hosts = context.line("exec first cat /etc/hosts").ok();
        assert!(hosts.contains(&format!("{ip}\t{}", &id[..12])), "{hosts}");
        let resolver = context.line("exec first cat /etc/resolv.conf").ok();
        assert!(resolver.starts_with("nameserver 127.0.0.11"), "{resolver}");
        assert!(resolver.contains("ndots:0"), "{resolver}");
        let listed = context
            .line("ps --filter network=one --format {{.Names}}:{{.Networks}}")
            .ok();
        assert_eq!(listed, "second:one\nfirst:one");
        let format = "{{range .Containers}}{{.Name}} {{.IPv4Address}},{{end}}";
        let on = context
            .smidge(["network", "inspect", "-f", format, "one"])
            .ok();
        assert!(on.contains(&format!("first {ip}/")), "{on}");
        // Who has ended is not there any more, nor is its name.
        context.line("stop -t 0 first").ok();
        assert!(!knows(context, "second", "first"));
        context.line("start first").ok();
        assert!(reaches(context, "second", "db"));
    });
}

#[test]
fn names_are_those_that_containers_have_now() {
    with_busybox(|context| {
        let id = context.line("network create net").ok();
        idle(
            context,
            "--name old -h mill.example --network net --restart always",
        );
        idle(context, "--name peer --network net");
        let line = format!("ps --filter network={} --format {{{{.Names}}}}", &id[..8]);
        assert_eq!(context.line(&line).ok(), "peer\nold");
        assert!(reaches(context, "peer", "mill.example"));
        context.line("rename old new").ok();
        assert!(reaches(context, "peer", "new"));
        assert!(!knows(context, "peer", "old"));
        let names = "{{(index .NetworkSettings.Networks \"net\").DNSNames}}";
        assert!(shown(context, "new", names).starts_with("[new "));
        // The name stays when it is started again by itself.
        let pid = shown(context, "new", "{{.State.Pid}}");
        context.finish(killed(context, &pid)).ok();
        until("its next start", || {
            shown(context, "new", "{{.State.Status}} {{.RestartCount}}") == "running 1"
        });
        until("the name", || reaches_at_once(context, "peer", "new"));
    });
}

#[test]
fn addresses_are_the_ones_that_were_asked_for() {
    with_busybox(|context| {
        context
            .line("network create --subnet 10.69.0.0/24 --ipv6 --subnet fd69::/64 net")
            .ok();
        let line = "--name box --network name=net,alias=a,ip=10.69.0.77,ip6=fd69::77,mac-address=02:11:22:33:44:55";
        idle(context, line);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}} {{.Gateway}} \
            {{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}} {{.MacAddress}} {{json .Aliases}}{{end}}";
        let expected = "10.69.0.77/24 10.69.0.1 fd69::77/64 fd69::1 02:11:22:33:44:55 [\"a\"]";
        assert_eq!(shown(context, "box", format), expected);
        let device = context.line("exec box ip addr show eth0").ok();
        for part in ["10.69.0.77/24", "fd69::77/64", "02:11:22:33:44:55"] {
            assert!(device.contains(part), "{device}");
        }
        idle(context, "--name peer --network net");
        assert_eq!(address(context, "peer", "net"), "10.69.0.2");
        assert!(reaches(context, "peer", "10.69.0.77"));
        let six = context.line("exec peer ping -6 -c 1 -W 30 fd69::77");
        six.ok();
        context.line("restart -t 0 box").ok();
        assert_eq!(shown(context, "box", format), expected);
        context.line("stop -t 0 box").ok();
        assert_eq!(address(context, "box", "net"), "");
    });
}

#[test]
fn running_containers_come_and_go() {
    with_busybox(|context| {
        for name in ["front", "back"] {
            context.line(&format!("network create {name}")).ok();
        }
        idle(context, "--name db --network back");
        idle(context, "--name web --network front --restart always");
        // It has no network that others are on.
        idle(context, "--name lone");
        assert!(!reaches_at_once(context, "web", "db"));
        context.line("network connect --alias www back web").ok();
        context.line("network connect back lone").ok();
        for (from, to) in [("web", "db"), ("db", "www"), ("db", "lone"), ("lone", "db")] {
            assert!(reaches(context, from, to), "{from} {to}");
        }
        assert_eq!(
            shown(context, "web", "{{len .NetworkSettings.Networks}}"),
            "2"
        );
        // What it is on, it is on again when it is started again by itself.
        let pid = shown(context, "web", "{{.State.Pid}}");
        context.finish(killed(context, &pid)).ok();
        until("its next start", || {
            let now = shown(context, "web", "{{.State.Running}} {{.State.Pid}}");
            now.starts_with("true") && now != format!("true {pid}") && !now.ends_with(" 0")
        });
        until("the network", || {
            reaches_at_once(context, "web", "db") && reaches_at_once(context, "db", "web")
        });
        context.line("network disconnect back web").ok();
        assert!(!reaches_at_once(context, "web", "db"));
        assert!(!knows(context, "db", "www"));
        let again = context.line("network disconnect back web");
        again.says(1, &["is not connected to network back"]);
        assert_eq!(
            shown(context, "web", "{{len .NetworkSettings.Networks}}"),
            "1"
        );
        context.line("restart -t 0 lone").ok();
        assert!(reaches(context, "lone", "db"));
        context.line("network disconnect back lone").ok();
        let resolver = context.line("exec lone cat /etc/resolv.conf").ok();
        assert!(!resolver.contains("127.0.0.11"), "{resolver}");
        // What is done to one that does not run is so when it does.
        context.line("stop -t 0 lone").ok();
        context.line("network connect --alias late back lone").ok();
        context.line("start lone").ok();
        assert!(reaches(context, "lone", "db") && reaches(context, "db", "late"));
    });
}

/// A command that kills a process of the context's user.
fn killed(context: &Context, pid: &str) -> std::process::Command {
    let mut kill = context.program("kill");
    kill.args(["-9", pid]);
    kill
}

#[test]
fn published_ports_lead_to_containers_on_networks() {
    with_busybox(|context| {
        context.line("network create net").ok();
        let script = "mkdir /www; echo fine > /www/index.html; exec httpd -f -p 80 -h /www";
        let mut run = context.line_command("run -d --name web --network net -p 0:80 busybox sh -c");
        run.arg(script);
        context.finish(run).ok();
        let line = context.line("port web 80").ok();
        let port = line
            .lines()
            .next()
            .and_then(|line| line.rsplit(':').next())
            .unwrap();
        let page = crate::http::page(port.parse().unwrap(), "/index.html");
        assert!(page.contains("fine"), "{page}");
    });
}

#[test]
fn many_start_at_once_and_none_shares_an_address() {
    with_busybox(|context| {
        context.line("network create net").ok();
        let line = "run -d --network net busybox sleep 1000";
        let starts: Vec<_> = (0..12)
            .map(|_| context.spawn(context.line_command(line)))
            .collect();
        for start in starts {
            let output = start.output_in_time().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
        }
        let format = "{{range .Containers}}{{.IPv4Address}} {{.MacAddress}}\n{{end}}";
        let shown = context
            .smidge(["network", "inspect", "-f", format, "net"])
            .ok();
        let addresses: std::collections::BTreeSet<&str> = shown.split_whitespace().collect();
        assert_eq!(addresses.len(), 24, "{shown}");
    });
}

#[test]
fn what_kills_leave_is_cleared_away() {
    with_busybox(|context| {
        context
            .line("network create --subnet 10.71.0.0/24 net")
            .ok();
        for round in 0..3 {
            idle(context, "--name victim --network net --ip 10.71.0.9");
            idle(context, "--name peer --network net");
            let pid = shown(context, "victim", "{{.State.Pid}}");
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            context.finish(killed(context, parent.unwrap().trim())).ok();
            assert_eq!(context.line("wait victim").ok(), "137");
            assert!(!knows(context, "peer", "victim"), "round {round}");
            // Its address is free.
            idle(context, "--name next --network net --ip 10.71.0.9");
            assert!(reaches(context, "peer", "next"));
            context.line("rm -f victim peer next").ok();
        }
        for moment in 0..25_u64 {
            let line = "run --rm --name victim --network net --ip 10.71.0.9 busybox sleep 1000";
            let mut child = context.spawn(context.line_command(line));
            std::thread::sleep(std::time::Duration::from_micros(moment * moment * 100));
            child.kill().unwrap();
            child.output_in_time().unwrap();
            let _ = context.line("rm -f victim").code();
            until("the address", || {
                context
                    .line("run --rm --network net --ip 10.71.0.9 busybox true")
                    .code()
                    == 0
            });
        }
        assert_eq!(context.line("network rm net").ok(), "net");
    });
}

#[test]
fn ordinary_users_networks_lead_out_where_pasta_does() {
    with_busybox(|context| {
        if context.identity().ids.is_none() && rustix::process::geteuid().is_root() {
            return;
        }
        let made = context.line("network create open");
        made.ok();
        context.line("network create --internal shut").ok();
        let mut tun = context.program("sh");
        tun.args(["-c", "exec 3<>/dev/net/tun 2>/dev/null"]);
        let why = match have("pasta") {
            false => "`pasta` is not installed",
            true if !tun.status_in_time().unwrap().success() => "/dev/net/tun",
            true => "",
        };
        if !why.is_empty() {
            let said = made.stderr();
            assert!(
                said.contains("nothing leads out of `open`") && said.contains(why),
                "{said}"
            );
            return skip(why);
        }
        idle(context, "--name one --network open");
        idle(context, "--name two --network shut --network open");
        idle(context, "--name three --network shut");
        for name in ["one", "two"] {
            let routes = context.line(&format!("exec {name} ip route")).ok();
            let default: Vec<&str> = routes
                .lines()
                .filter(|l| l.starts_with("default"))
                .collect();
            assert!(
                default.len() == 1 && default[0].contains("pasta0"),
                "{routes}"
            );
        }
        assert!(!context.line("exec three ip route").ok().contains("default"));
        assert!(reaches(context, "one", "two") && reaches(context, "three", "two"));
    });
}

#[test]
fn an_address_that_was_given_back_is_the_next_ones() {
    with_busybox(|context| {
        context.line("network create --subnet 10.77.0.0/24 n").ok();
        idle(context, "--rm --name first --network n");
        let given = address(context, "first", "n");
        context.line("network disconnect n first").ok();
        idle(context, "--name second --network n");
        assert_eq!(address(context, "second", "n"), given);
        // Its end takes nothing back that is another's by now.
        context.line("stop first").ok();
        idle(context, "--name third --network n");
        assert_ne!(address(context, "third", "n"), given);
        // One that cannot be connected keeps no address.
        context.line("network create --subnet 10.78.0.0/24 m").ok();
        let taken = format!("network connect --ip {} n first", given);
        assert_ne!(context.line(&taken).code(), 0);
        context.line("rm -f second third").ok();
        context.line("network rm n m").ok();
    });
}

#[test]
fn who_follows_at_an_address_is_reached_at_once() {
    with_busybox(|context| {
        context.line("network create --subnet 10.76.0.0/24 n").ok();
        idle(context, "--name asker --network n");
        for _ in 0..5 {
            idle(context, "--name next --network n --ip 10.76.0.9");
            // A packet that is lost is not sent again.
            context.line("exec asker ping -c 1 -W 60 10.76.0.9").ok();
            context.line("rm -f next").ok();
        }
        context.line("rm -f asker").ok();
        context.line("network rm n").ok();
    });
}

#[test]
fn networks_that_come_at_once_are_all_kept() {
    with_busybox(|context| {
        idle(context, "--name box");
        let names = ["n1", "n2", "n3"];
        for name in names {
            context.line(&format!("network create {name}")).ok();
        }
        let connects = names.map(|name| {
            let line = format!("network connect {name} box");
            context.spawn(context.line_command(&line))
        });
        for connect in connects {
            assert!(connect.output_in_time().unwrap().status.success());
        }
        for name in names {
            assert_ne!(address(context, "box", name), "", "{name}");
            context.line(&format!("network disconnect {name} box")).ok();
        }
        context.line("rm -f box").ok();
    });
}

#[test]
fn a_container_does_what_it_likes_with_its_own_hosts() {
    with_busybox(|context| {
        context.line("network create n").ok();
        idle(context, "--name box --network n --add-host there:10.1.2.3");
        let spoil = "printf '\\377\\n' >> /etc/hosts; chown 5 /etc/hosts 2>/dev/null; true";
        context.smidge(["exec", "box", "sh", "-c", spoil]).ok();
        context.line("restart -t 0 box").ok();
        let told = context.line("exec box cat /etc/hosts").ok();
        let own = address(context, "box", "n");
        for expected in ["10.1.2.3\tthere", "localhost", &own] {
            assert!(told.contains(expected), "{told}");
        }
        context.line("rm -f box").ok();
        context.line("network rm n").ok();
    });
}

#[test]
fn ids_of_what_is_no_network_are_refused() {
    with_busybox(|context| {
        let id = context.line("network ls -q -f name=host").ok();
        let run = format!("run --rm --network {id} busybox true");
        context.line(&run).says(125, &["--network host"]);
    });
}
