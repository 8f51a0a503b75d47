//! On hierarchies that look like the kernel's, and on the kernel's where the tests run as root.

use std::fs;
use std::path::{Path, PathBuf};

use super::controller::Controller;
use super::group::Group;
use super::hierarchy::{Hierarchies, Hierarchy, Place};
use super::lack::Lack;
use super::resources::{DeviceRate, Resources};
use super::setting::{controllers, v1, v2};
use crate::error::RunError;

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/c1 /sys/fs/cgroup/mem\\040ory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

#[test]
fn hierarchies_of_both_versions_are_found() {
    let own = "9:name=systemd:/x\n4:memory:/docker/c1/inner\n1:cpuacct,cpu:/\n0::/user.slice/a:b\n";
    let found = Hierarchies::parse(HYBRID.as_bytes(), own.as_bytes());
    let at = |top: &str, own: &str| Hierarchy {
        top: PathBuf::from(top),
        own: PathBuf::from(own),
    };
    let cpu = at("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct");
    let memory = at("/sys/fs/cgroup/mem ory", "/sys/fs/cgroup/mem ory/inner");
    let unified = "/sys/fs/cgroup/unified";
    assert_eq!(
        found.v1.into_iter().collect::<Vec<_>>(),
        [
            ("cpu".to_owned(), cpu.clone()),
            ("cpuacct".to_owned(), cpu),
            ("memory".to_owned(), memory)
        ]
    );
    assert_eq!(
        found.v2,
        Some(at(unified, "/sys/fs/cgroup/unified/user.slice/a:b"))
    );
    // Out of sight, or above what is seen.
    for own in ["0::/../../elsewhere\n", "0::/\n", ""] {
        let found = Hierarchies::parse(HYBRID.as_bytes(), own.as_bytes());
        assert_eq!(found.v2, Some(at(unified, unified)), "{own}");
    }
    assert_eq!(Hierarchies::parse(b"", b""), Hierarchies::default());
}

/// Version 2 as a directory: `top` with controllers, and a group of the caller's in it.
fn unified(top: &Path, controllers: &str) -> Hierarchies {
    let own = top.join("user/own");
    fs::create_dir_all(&own).unwrap();
    for group in [top, &top.join("user"), &own] {
        fs::write(group.join("cgroup.controllers"), controllers).unwrap();
        fs::write(group.join("cgroup.subtree_control"), "").unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
    }
    Hierarchies {
        v2: Some(Hierarchy {
            top: top.to_owned(),
            own,
        }),
        ..Hierarchies::default()
    }
}

#[test]
fn controllers_are_had_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    let mut hierarchies = unified(top, "cpu memory pids");
    let version = |hierarchies: &Hierarchies, controller| {
        hierarchies.with(controller).map(|(_, version)| version)
    };
    assert_eq!(version(&hierarchies, Controller::Memory), Some(2));
    assert_eq!(version(&hierarchies, Controller::Io), None);
    assert_eq!(version(&hierarchies, Controller::Freezer), Some(2));
    let elsewhere = Hierarchy {
        top: top.join("elsewhere"),
        own: top.join("elsewhere"),
    };
    for name in ["memory", "freezer"] {
        hierarchies.v1.insert(name.to_owned(), elsewhere.clone());
    }
    assert_eq!(version(&hierarchies, Controller::Memory), Some(1));
    assert_eq!(version(&hierarchies, Controller::Freezer), Some(2));
    hierarchies.v2 = None;
    assert_eq!(version(&hierarchies, Controller::Freezer), Some(1));
    assert_eq!(version(&hierarchies, Controller::Pids), None);
}

#[test]
fn groups_are_made_where_the_caller_may() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    let hierarchy = unified(top, "").v2.unwrap();
    let place = |base: &Path, name: &str| Place {
        base: base.to_owned(),
        directory: base.join(name),
    };
    assert_eq!(hierarchy.place(""), Ok(place(top, "smidge")));
    assert_eq!(hierarchy.place("/a/b.slice"), Ok(place(top, "a/b.slice")));
    assert!(matches!(
        hierarchy.place("a/../.."),
        Err(Lack::Outside { .. })
    ));
    // As it is where systemd delegates: what is above belongs to somebody else.
    fs::remove_file(top.join("cgroup.procs")).unwrap();
    assert_eq!(hierarchy.place(""), Ok(place(&top.join("user"), "smidge")));
    fs::remove_file(top.join("user/cgroup.procs")).unwrap();
    fs::remove_file(top.join("user/own/cgroup.procs")).unwrap();
    assert_eq!(
        hierarchy.place(""),
        Err(Lack::NotDelegated {
            group: top.join("user/own")
        })
    );
}

#[test]
fn version_2_hands_controllers_on() {
    let directory = tempfile::tempdir().unwrap();
    let container = tempfile::Builder::new().prefix("c0ffee").tempdir().unwrap();
    let hierarchies = unified(directory.path(), "cpu memory pids");
    let resources = Resources {
        pids_limit: Some(3),
        ..Resources::default()
    };
    let mut group = Group::default();
    let wanted = controllers(&resources);
    let ours = directory.path().join("smidge");
    fs::create_dir(&ours).unwrap();
    fs::write(ours.join("cgroup.subtree_control"), "pids").unwrap();
    let grown = group.grow(container.path(), &resources, &wanted, &hierarchies);
    grown.unwrap();
    let handed = fs::read_to_string(directory.path().join("cgroup.subtree_control")).unwrap();
    assert_eq!(handed, "+pids");
    let leaf = ours.join(container.path().file_name().unwrap());
    assert!(leaf.is_dir());
    // The kernel's files are there by themselves; nothing else is written.
    let missing = group.limit(&resources).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "`--pids-limit` takes the cgroup controller `pids`, which has no `pids.max` here"
    );
    fs::write(leaf.join("pids.max"), "max").unwrap();
    group.limit(&resources).unwrap();
    assert_eq!(fs::read_to_string(leaf.join("pids.max")).unwrap(), "3ax");
    assert_eq!(Group::load(container.path()), Some(group));
    fs::remove_file(leaf.join("pids.max")).unwrap();
    super::remove_group(container.path());
    assert!(!leaf.exists());
    assert_eq!(Group::load(container.path()), None);
    let wanted = [(Controller::Io, "--blkio-weight")];
    let fault = Group::default().grow(container.path(), &resources, &wanted, &hierarchies);
    assert!(matches!(
        fault,
        Err(RunError::NoController {
            why: Lack::Missing,
            ..
        })
    ));
}

#[test]
fn a_record_names_no_group_but_the_containers() {
    let container = tempfile::tempdir().unwrap();
    let record = r#"{"v2":"/sys/fs/cgroup/system.slice"}"#;
    fs::write(container.path().join("cgroup.json"), record).unwrap();
    assert_eq!(Group::load(container.path()), None);
}

/// Everything that can be asked for.
fn everything() -> Resources {
    let device = |rate| {
        vec![DeviceRate {
            path: "/dev/sda".to_owned(),
            major: 8,
            minor: 0,
            rate,
        }]
    };
    Resources {
        memory: Some(64 << 20),
        memory_swap: Some(96 << 20),
        memory_reservation: Some(32 << 20),
        nano_cpus: Some(1_500_000_000),
        cpu_shares: Some(1024),
        cpuset_cpus: "0-1".to_owned(),
        cpuset_mems: "0".to_owned(),
        pids_limit: Some(-1),
        blkio_weight: Some(300),
        blkio_weight_device: device(200),
        device_read_bps: device(1),
        device_write_bps: device(2),
        device_read_iops: device(3),
        device_write_iops: device(4),
        ..Resources::default()
    }
}

fn lines(settings: Vec<super::setting::Setting>) -> String {
    let line = |setting: super::setting::Setting| {
        let choices = setting.choices();
        let choices: Vec<_> = choices
            .map(|(file, value)| format!("{file}={value}"))
            .collect();
        choices.join(" or ")
    };
    settings
        .into_iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn limits_are_told_to_version_1_in_its_words() {
    let all = everything();
    let told = controllers(&all)
        .into_iter()
        .map(|(controller, _)| lines(v1(&all, controller)));
    expect_test::expect![[r#"
        memory.limit_in_bytes=67108864
        memory.memsw.limit_in_bytes=100663296
        memory.soft_limit_in_bytes=33554432
        cpu.shares=1024
        cpu.cfs_period_us=100000
        cpu.cfs_quota_us=150000
        cpuset.cpus=0-1
        cpuset.mems=0
        pids.max=max
        blkio.weight=300 or blkio.bfq.weight=300
        blkio.weight_device=8:0 200 or blkio.bfq.weight_device=8:0 200
        blkio.throttle.read_bps_device=8:0 1
        blkio.throttle.write_bps_device=8:0 2
        blkio.throttle.read_iops_device=8:0 3
        blkio.throttle.write_iops_device=8:0 4
    "#]]
    .assert_eq(&(told.collect::<Vec<_>>().join("\n") + "\n"));
}

#[test]
fn limits_are_told_to_version_2_in_its_words() {
    let all = everything();
    let told = controllers(&all)
        .into_iter()
        .map(|(controller, _)| lines(v2(&all, controller).unwrap()));
    expect_test::expect![[r#"
        memory.max=67108864
        memory.swap.max=33554432
        memory.low=33554432
        cpu.weight=100
        cpu.max=150000 100000
        cpuset.cpus=0-1
        cpuset.mems=0
        pids.max=max
        io.bfq.weight=300 or io.weight=2930
        io.bfq.weight=8:0 200 or io.weight=8:0 1920
        io.max=8:0 rbps=1
        io.max=8:0 wbps=2
        io.max=8:0 riops=3
        io.max=8:0 wiops=4
    "#]]
    .assert_eq(&(told.collect::<Vec<_>>().join("\n") + "\n"));
    let only_v1 = [
        Resources {
            memory_swappiness: Some(5),
            ..Resources::default()
        },
        Resources {
            oom_kill_disable: true,
            ..Resources::default()
        },
        Resources {
            cpu_realtime_runtime: Some(5),
            ..Resources::default()
        },
    ];
    for resources in only_v1 {
        let (controller, _) = controllers(&resources)[0];
        assert!(matches!(
            v2(&resources, controller),
            Err(RunError::NoController {
                why: Lack::Unknown,
                ..
            })
        ));
    }
}

#[test]
fn shares_become_weights_with_the_same_ends_and_middle() {
    let weight = |shares| {
        let resources = Resources {
            cpu_shares: Some(shares),
            ..Resources::default()
        };
        lines(v2(&resources, Controller::Cpu).unwrap())
    };
    assert_eq!(weight(2), "cpu.weight=1");
    assert_eq!(weight(1024), "cpu.weight=100");
    assert_eq!(weight(262_144), "cpu.weight=10000");
    assert_eq!(weight(u64::MAX), "cpu.weight=10000");
}

#[test]
fn what_belongs_together_is_told_together() {
    let before = Resources {
        memory: Some(64 << 20),
        memory_swap: Some(128 << 20),
        cpu_period: Some(50_000),
        cpu_quota: Some(20_000),
        ..Resources::default()
    };
    let told = |changed: &Resources| {
        let mut all = before.clone();
        all.update(changed);
        let written = super::completed(changed, &all);
        let both = [Controller::Memory, Controller::Cpu];
        both.map(|controller| lines(v2(&written, controller).unwrap()))
            .concat()
    };
    let period = Resources {
        cpu_period: Some(40_000),
        ..Resources::default()
    };
    assert_eq!(told(&period), "cpu.max=20000 40000");
    let quota = Resources {
        cpu_quota: Some(30_000),
        ..Resources::default()
    };
    assert_eq!(told(&quota), "cpu.max=30000 50000");
    let swap = Resources {
        memory_swap: Some(96 << 20),
        ..Resources::default()
    };
    assert_eq!(told(&swap), "memory.max=67108864\nmemory.swap.max=33554432");
}

#[test]
fn half_a_limit_follows_from_the_other_half() {
    let memory = Resources {
        memory: Some(64 << 20),
        ..Resources::default()
    };
    let told = lines(v1(&memory, Controller::Memory));
    assert!(
        told.ends_with("memory.memsw.limit_in_bytes=134217728"),
        "{told}"
    );
    let unlimited = Resources {
        memory_swap: Some(-1),
        ..memory
    };
    let told = lines(v2(&unlimited, Controller::Memory).unwrap());
    assert!(told.ends_with("memory.swap.max=max"), "{told}");
    let period = Resources {
        cpu_period: Some(5000),
        ..Resources::default()
    };
    assert_eq!(
        lines(v2(&period, Controller::Cpu).unwrap()),
        "cpu.max=max 5000"
    );
}

/// Version 1's freezer, where there is one and the tests run as root; a program instead of a container.
#[test]
fn version_1_makes_processes_stand_still() {
    let mut hierarchies = Hierarchies::of_host().unwrap();
    hierarchies.v2 = None;
    let usable = |hierarchy: &Hierarchy| hierarchy.place("").is_ok();
    if !hierarchies.v1.get("freezer").is_some_and(usable) {
        println!("skipped: there is no freezer of version 1 that this user may use");
        return;
    }
    let container = tempfile::Builder::new().prefix("c0ffee").tempdir().unwrap();
    let mut group = Group::default();
    let wanted = [(Controller::Freezer, "pause")];
    let grown = group.grow(
        container.path(),
        &Resources::default(),
        &wanted,
        &hierarchies,
    );
    grown.unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    group.enter(child.id()).unwrap();
    super::freeze::freeze(&group).unwrap();
    assert!(super::is_paused(container.path()));
    super::unpause(container.path()).unwrap();
    assert!(!super::is_paused(container.path()));
    super::freeze::freeze(&group).unwrap();
    // What is killed while it stands still does not hold the group.
    super::remove_group(container.path());
    assert_eq!(Group::load(container.path()), None);
    assert!(!child.wait().unwrap().success());
}

/// What all have their groups in comes and goes with them.
#[test]
fn groups_come_and_go_side_by_side() {
    let mut hierarchies = Hierarchies::of_host().unwrap();
    hierarchies.v2 = None;
    let usable = |hierarchy: &Hierarchy| hierarchy.place("").is_ok();
    if !hierarchies.v1.get("cpuset").is_some_and(usable) {
        println!("skipped: there are no sets of processors of version 1 that this user may use");
        return;
    }
    let come_and_go = || {
        let container = tempfile::Builder::new().prefix("c0ffee").tempdir().unwrap();
        for _ in 0..500 {
            let mut group = Group::default();
            let wanted = [(Controller::Cpuset, "--cpuset-cpus")];
            let resources = Resources::default();
            let grown = group.grow(container.path(), &resources, &wanted, &hierarchies);
            grown.unwrap();
            group.remove(container.path());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(come_and_go);
        }
    });
}
