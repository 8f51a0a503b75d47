//! What `firewall` does, by the program `iptables` (iptables(8)): for kernels that lack nftables.
//!
//! A network has a chain of its own in either table, by the name of its bridge.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Address;
use super::firewall::PREFIX;

/// Where the program is looked for: whoever starts containers may have no `PATH`.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The programs of IPv4 and IPv6. Those that say `legacy` are sure to do without nftables.
const PROGRAMS: [[&str; 2]; 2] = [
    ["iptables-legacy", "iptables"],
    ["ip6tables-legacy", "ip6tables"],
];

/// Keeps out whatever is not asked for, or led by a published port.
const STRANGE: &str =
    "FORWARD ! -i NAME -o NAME -m conntrack ! --ctstate ESTABLISHED,RELATED,DNAT -j DROP";

/// Keeps others off ports that are published on loopback addresses, where some setting (`route_localnet`) lets them in.
const LOOPBACK: &str = "INPUT ! -i lo -d 127.0.0.0/8 -m conntrack ! --ctstate DNAT -j NAME";

/// As the packet filter of the kernel's own does: lets a network's containers out, and nobody else in.
pub(super) fn guard(bridge: &str, subnets: &[Address], internal: bool) -> io::Result<()> {
    remove(bridge);
    let made = subnets.iter().try_for_each(|subnet| {
        let program = find(subnet.ip.is_ipv6()).ok_or(io::ErrorKind::NotFound)?;
        let rules = rules(bridge, *subnet, internal);
        rules.iter().try_for_each(|rule| run(&program, rule))
    });
    made.inspect_err(|_| remove(bridge))
}

/// Whether a network has its rules.
pub(super) fn guards(bridge: &str) -> bool {
    // The last to have been made.
    let rule = format!("-C {STRANGE}").replace("NAME", bridge);
    let mut programs = [false, true].into_iter().filter_map(find);
    programs.any(|program| run(&program, &rule).is_ok())
}

/// Removes a network's rules, as far as there are any.
pub(super) fn remove(bridge: &str) {
    for program in [false, true].into_iter().filter_map(find) {
        for rule in [
            &format!("-D {STRANGE}"),
            &format!("-D {LOOPBACK}"),
            "-D FORWARD -i NAME -j NAME",
            "-D FORWARD -o NAME -j NAME",
            "-F NAME",
            "-X NAME",
            "-t nat -D POSTROUTING -j NAME",
            "-t nat -F NAME",
            "-t nat -X NAME",
        ] {
            let _ = run(&program, &rule.replace("NAME", bridge));
        }
    }
}

fn find(v6: bool) -> Option<PathBuf> {
    let names = PROGRAMS[usize::from(v6)].into_iter();
    let mut paths = names.flat_map(|name| DIRECTORIES.map(|dir| PathBuf::from(dir).join(name)));
    paths.find(|path| path.is_file())
}

fn rules(bridge: &str, subnet: Address, internal: bool) -> Vec<String> {
    let network = format!("{}/{}", subnet.network(), subnet.prefix);
    let between: &[&str] = match internal {
        true => &["-A NAME -j DROP"],
        false => &[
            "-A NAME -i NAME -o PREFIX+ -j DROP",
            "-A NAME -i PREFIX+ -o NAME -j DROP",
            "-A NAME -j ACCEPT",
            "-t nat -N NAME",
            "-t nat -A NAME -s NETWORK ! -o NAME -j MASQUERADE",
            "-t nat -A POSTROUTING -j NAME",
        ],
    };
    let rules = ["-N NAME", "-A NAME -i NAME -o NAME -j ACCEPT"]
        .into_iter()
        .chain(between.iter().copied())
        .chain(["-I FORWARD -i NAME -j NAME", "-I FORWARD -o NAME -j NAME"]);
    let loopback = ["-I NAME -d 127.0.0.0/8 -j DROP", &format!("-I {LOOPBACK}")].map(str::to_owned);
    let loopback = loopback.into_iter().filter(|_| subnet.ip.is_ipv4());
    let rules = rules.map(str::to_owned).chain(loopback);
    let filled = rules.chain([format!("-I {STRANGE}")]).map(|rule| {
        rule.replace("NAME", bridge)
            .replace("PREFIX", PREFIX)
            .replace("NETWORK", &network)
    });
    filled.collect()
}

/// Runs the program with the words of a line.
fn run(program: &PathBuf, line: &str) -> io::Result<()> {
    let mut command = Command::new(program);
    // Somebody else may be changing the same.
    command.arg("-w").args(line.split(' ')).stdin(Stdio::null());
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap_or_default();
            Err(io::Error::other(format!(
                "`{} {line}`: {first}",
                program.display()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::UnshareFlags;

    use super::*;

    #[test]
    fn rules_come_and_go() {
        if find(false).is_none() || !rustix::process::geteuid().is_root() {
            println!("skipped: it takes iptables, and root");
            return;
        }
        let in_a_machine_of_its_own = std::thread::spawn(|| {
            // A thread's network namespace is its own; nothing here needs its files.
            #[expect(
                deprecated,
                reason = "the other function is unsafe for the sake of files"
            )]
            rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
            let subnet = |text: &str| Address {
                ip: text.parse().unwrap(),
                prefix: 24,
            };
            let told = |table: &str| {
                let mut list = Command::new(find(false).unwrap());
                let output = list.args(["-t", table, "-S"]).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            let (before, nat) = (told("filter"), told("nat"));
            assert!(!guards("smi-1"));
            // Twice is once.
            for _ in 0..2 {
                guard("smi-1", &[subnet("10.1.0.1")], false).unwrap();
            }
            assert!(guards("smi-1"));
            let filter = told("filter");
            assert_eq!(filter.matches("-A FORWARD").count(), 3, "{filter}");
            let strange = "-A FORWARD ! -i smi-1 -o smi-1 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";
            assert!(filter.contains(strange), "{filter}");
            assert_eq!(filter.matches("-A INPUT").count(), 1, "{filter}");
            assert!(
                filter.contains("-A smi-1 -i smi-1 -o smi-+ -j DROP"),
                "{filter}"
            );
            assert!(told("nat").contains("-A smi-1 -s 10.1.0.0/24 ! -o smi-1 -j MASQUERADE"));
            guard("smi-2", &[subnet("10.2.0.1")], true).unwrap();
            assert!(told("filter").contains("-A smi-2 -j DROP"));
            remove("smi-1");
            remove("smi-2");
            assert_eq!((told("filter"), told("nat")), (before, nat));
            assert!(guard("a name that is none", &[subnet("10.1.0.1")], false).is_err());
        });
        in_a_machine_of_its_own.join().unwrap();
    }
}
